//! Messages to the service manager that started this process, such as systemd with `Type=notify`: the protocol of
//! sd_notify(3), one datagram for each message.
//!
//! A ping of the watchdog is sent only after every core has answered a question, so that it proves more than that a timer
//! runs: the control thread and all cores do their work.

use std::collections::BTreeMap;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{MissedTickBehavior, interval};

use crate::base::{NOTIFY_SOCKET_ENV, WATCHDOG_ENV, WATCHDOG_PROCESS_ENV};
use crate::control::reading::RoleReading;
use crate::control::state::State;

/// How often the service manager is told what has changed, unless its watchdog must be pinged more often.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
/// The shortest time between two pings.
const PING_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// A service manager that does not take a message within this time does not get it.
const SEND_TIMEOUT: Duration = Duration::from_millis(100);

/// The connection to the service manager; to nobody, if none started this process.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// The time within which it must be pinged.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Reads these variables as the process with this number.
    ///
    /// # Errors
    ///
    /// If the socket that they name has no valid address, or if no socket can be opened.
    pub fn from_env(env: &BTreeMap<String, String>, process: u32) -> io::Result<ServiceManager> {
        let Some(name) = env.get(NOTIFY_SOCKET_ENV).filter(|name| !name.is_empty()) else {
            return Ok(ServiceManager::default());
        };
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SEND_TIMEOUT))?;
        let is_other = env.get(WATCHDOG_PROCESS_ENV).is_some_and(|pid| pid.parse() != Ok(process));
        let watchdog = env.get(WATCHDOG_ENV).filter(|_| !is_other).and_then(|text| text.parse().ok());
        let watchdog = watchdog.filter(|us| *us > 0).map(Duration::from_micros);
        Ok(ServiceManager { socket: Some((socket, address)), watchdog })
    }

    /// Reports that the process does its work: after the start, and after a reload.
    pub(super) fn on_ready(&self) {
        self.send("READY=1");
    }

    /// Reports that the configuration is being read again; [`ServiceManager::on_ready`] ends that.
    pub(super) fn on_reloading(&self) {
        if self.socket.is_none() {
            return;
        }
        let now = clock_gettime(ClockId::Monotonic);
        let now_us = now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}"));
    }

    /// Reports that the process ends.
    pub(super) fn on_stopping(&self) {
        self.send("STOPPING=1\nSTATUS=finishing the calls in flight");
    }

    /// Reports the start once every core answers, then pings the watchdog as long as every core does, and says what the
    /// process does. Does not end if there is a service manager.
    pub async fn keep(self: Arc<Self>, state: Arc<State>) {
        if self.socket.is_none() {
            return;
        }
        let mut ticks = interval(self.interval());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut is_ready, mut shown) = (false, String::new());
        loop {
            ticks.tick().await;
            // Waits a limited time for each core.
            let roles = state.read().await;
            let is_draining = state.is_draining();
            if is_draining || roles.iter().all(RoleReading::is_complete) {
                if !is_ready && !is_draining {
                    self.on_ready();
                    is_ready = true;
                }
                self.send_if(self.watchdog.is_some(), "WATCHDOG=1");
            } else if is_ready {
                tracing::error!("a core does not answer: the service manager's watchdog is not pinged");
            }
            let status = status(&roles);
            if !is_draining && status != shown {
                self.send(&format!("STATUS={status}"));
                shown = status;
            }
        }
    }

    /// A quarter of the watchdog's time: a ping may be late because a core answers late.
    fn interval(&self) -> Duration {
        let pings = self.watchdog.map(|within| (within / 4).max(PING_INTERVAL_MIN));
        pings.unwrap_or(STATUS_INTERVAL).min(STATUS_INTERVAL)
    }

    fn send_if(&self, condition: bool, message: &str) {
        if condition {
            self.send(message);
        }
    }

    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.socket else { return };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address) {
            tracing::warn!(%error, "the service manager does not take the message `{}`", message.replace('\n', " "));
        }
    }
}

/// What `systemctl status` shows of the process.
fn status(roles: &[RoleReading]) -> String {
    let of_role = |role: &RoleReading| {
        let silent = role.cores_asked.saturating_sub(role.cores.len());
        let calls: usize = role.cores.iter().map(|core| core.calls_open).sum();
        let silent = if silent == 0 { String::new() } else { format!(", {silent} cores do not answer") };
        format!("{}: {} links, {calls} calls in flight{silent}", role.kind.as_str(), role.links.len())
    };
    roles.iter().map(of_role).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::reading::RoleKind;
    use crate::control::sample::{self, SampleRole};

    const PROCESS: u32 = 7;

    fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// A service manager whose messages the test reads, with this watchdog.
    fn test_bed(watchdog: &[(&str, &str)]) -> (UnixDatagram, ServiceManager, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let socket = [(NOTIFY_SOCKET_ENV, path.to_str().unwrap())];
        let manager = ServiceManager::from_env(&env(&[&socket, watchdog].concat()), PROCESS).unwrap();
        (receiver, manager, dir)
    }

    fn next(receiver: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        let len = receiver.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..len].to_vec()).unwrap()
    }

    fn nothing_is_left(receiver: &UnixDatagram) -> bool {
        receiver.set_nonblocking(true).unwrap();
        receiver.recv(&mut [0; 1]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    #[test]
    fn the_watchdog_is_pinged_by_the_process_that_it_names() {
        for (pid, watchdog) in [(None, Some(20)), (Some("7"), Some(20)), (Some("8"), None), (Some("x"), None)] {
            let mut pairs = vec![(WATCHDOG_ENV, "20000000")];
            pairs.extend(pid.map(|pid| (WATCHDOG_PROCESS_ENV, pid)));
            let (_receiver, manager, _dir) = test_bed(&pairs);
            assert_eq!(manager.watchdog, watchdog.map(Duration::from_secs), "{pid:?}");
        }
        let (_receiver, manager, _dir) = test_bed(&[(WATCHDOG_ENV, "0")]);
        assert_eq!((manager.watchdog, manager.interval()), (None, STATUS_INTERVAL));
        let (_receiver, manager, _dir) = test_bed(&[(WATCHDOG_ENV, "20000000")]);
        assert_eq!(manager.interval(), Duration::from_secs(5));
    }

    #[test]
    fn without_a_service_manager_nothing_is_sent_and_a_wrong_address_is_an_error() {
        for pairs in [&[][..], &[(NOTIFY_SOCKET_ENV, "")], &[(WATCHDOG_ENV, "1000000")]] {
            let manager = ServiceManager::from_env(&env(pairs), PROCESS).unwrap();
            assert!(manager.socket.is_none() && manager.watchdog.is_none());
            manager.on_ready();
        }
        let long = "x".repeat(200);
        ServiceManager::from_env(&env(&[(NOTIFY_SOCKET_ENV, &long)]), PROCESS).unwrap_err();
    }

    #[test]
    fn a_message_reaches_an_abstract_address() {
        let name = format!("adit-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let receiver = UnixDatagram::bind_addr(&address).unwrap();
        let manager = ServiceManager::from_env(&env(&[(NOTIFY_SOCKET_ENV, &format!("@{name}"))]), PROCESS).unwrap();
        manager.on_stopping();
        assert!(next(&receiver).starts_with("STOPPING=1\n"));
    }

    #[test]
    fn a_reload_is_reported_with_the_time_of_the_monotonic_clock() {
        let (receiver, manager, _dir) = test_bed(&[]);
        manager.on_reloading();
        let message = next(&receiver);
        let at = message.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        let now_s = clock_gettime(ClockId::Monotonic).tv_sec.unsigned_abs();
        assert!((0..=60).contains(&(now_s - at.parse::<u64>().unwrap() / 1_000_000)), "{message}");
    }

    #[test]
    fn a_service_manager_that_is_gone_or_takes_nothing_does_not_stop_the_process() {
        let (receiver, manager, _dir) = test_bed(&[]);
        // More than is queued for a receiver that never reads.
        let queued = std::fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").unwrap();
        (0..queued.trim().parse::<usize>().unwrap() + 2).for_each(|_| manager.on_ready());
        drop(receiver);
        manager.on_ready();
    }

    #[tokio::test]
    async fn the_watchdog_is_not_pinged_while_a_core_is_silent() {
        let (receiver, manager, _dir) = test_bed(&[(WATCHDOG_ENV, "400000")]);
        let role = SampleRole::new(RoleReading { cores_asked: 2, ..sample::edge_reading() });
        let state = State::new(sample::facts(), vec![role.clone()], None);
        let kept = tokio::spawn(Arc::new(manager).keep(state));
        let received = tokio::task::spawn_blocking(move || {
            let mut seen = vec![next(&receiver)];
            // The second core answers from now on.
            let mut reading = role.reading.lock().unwrap();
            let second = reading.cores[0].clone();
            reading.cores.push(second);
            drop(reading);
            seen.extend((0..3).map(|_| next(&receiver)));
            seen
        });
        let seen = received.await.unwrap();
        kept.abort();
        let calls = "edge: 1 links, 3 calls in flight";
        assert_eq!(seen[0], format!("STATUS={calls}, 1 cores do not answer"));
        assert_eq!(seen[1..3], ["READY=1", "WATCHDOG=1"]);
        assert_eq!(seen[3], "STATUS=edge: 1 links, 6 calls in flight");
    }

    #[tokio::test]
    async fn without_a_watchdog_only_changes_are_reported() {
        let (receiver, manager, _dir) = test_bed(&[]);
        let role = SampleRole::new(RoleReading { kind: RoleKind::Connector, ..sample::edge_reading() });
        let state = State::new(sample::facts(), vec![role], None);
        let kept = tokio::spawn(Arc::new(manager).keep(state));
        let received = tokio::task::spawn_blocking(move || ([next(&receiver), next(&receiver)], receiver));
        let (seen, receiver) = received.await.unwrap();
        kept.abort();
        assert_eq!(seen, ["READY=1", "STATUS=connector: 1 links, 3 calls in flight"]);
        assert!(nothing_is_left(&receiver));
    }
}
