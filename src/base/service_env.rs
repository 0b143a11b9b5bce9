//! The variables by which a service manager, such as systemd, speaks to a service.

/// Names the socket on which the service manager takes messages.
pub const NOTIFY_SOCKET_ENV: &str = "NOTIFY_SOCKET";
/// The time, in microseconds, within which the service manager's watchdog must be pinged.
pub const WATCHDOG_ENV: &str = "WATCHDOG_USEC";
/// The process that must ping the watchdog, which may be another one.
pub const WATCHDOG_PROCESS_ENV: &str = "WATCHDOG_PID";
/// Names the directory of the credentials that the service manager provides.
pub const CREDENTIALS_ENV: &str = "CREDENTIALS_DIRECTORY";

/// All of them. They are meant for the service itself, and not for processes that it starts.
pub const SERVICE_ENVS: [&str; 4] = [NOTIFY_SOCKET_ENV, WATCHDOG_ENV, WATCHDOG_PROCESS_ENV, CREDENTIALS_ENV];
