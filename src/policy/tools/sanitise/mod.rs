//! Sanitises texts of messages: removes invisible characters, secrets and personal data.

mod found;
mod invisible;
mod message;
mod numbers;
mod rules;
mod runs;
mod scan_timer;
mod secrets;

pub use found::{SanitiseFound, SanitiseKind};
pub use message::redacted_arguments;
pub(super) use rules::{MATCH_LEN_MAX, OwnPattern, SanitiseMode, SanitiseRules};
pub(super) use scan_timer::{ScanTime, ScanTimer};

#[cfg(test)]
mod tests;
#[cfg(test)]
mod time_tests;
