//! The choice of driver: the best one that passes a test on this machine.

use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::engine::driver::{Address, Close, Driver, DriverEvent, DriverKind, RawSocket, SocketOptions, Token, Wait};
use crate::engine::pool::{Class, Pool};
use crate::engine::sys::epoll::EpollDriver;
use crate::engine::sys::uring::UringDriver;

/// How long the test of a driver may take.
const PROOF_MAX: Duration = Duration::from_secs(2);
/// How many bytes the test sends each way: more than a small buffer holds.
const PROOF_LEN: usize = 10_000;
/// The generation of the test's tokens, which no core reaches.
const PROOF_GENERATION: u32 = u32::MAX;
const LISTENER: Token = Token { index: 0, generation: PROOF_GENERATION };
const CLIENT: Token = Token { index: 1, generation: PROOF_GENERATION };
const SERVER: Token = Token { index: 2, generation: PROOF_GENERATION };

/// The driver that the operator asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// The best driver that works on this machine.
    #[default]
    Auto,
    /// The io_uring driver only; starting fails where it does not work.
    Uring,
    /// The epoll driver only; starting fails where it does not work.
    Epoll,
}

/// A driver that works, and why it was chosen.
pub struct Started {
    /// The driver, which has passed its test connection.
    pub driver: Box<dyn Driver>,
    /// The reason in one line, which begins with the driver's name.
    pub why: String,
}

/// Why no driver could be started.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The driver that was asked for, or the last one that was tried, does not work on this machine.
    #[error("the {kind} driver does not work here: {}; ADIT_DRIVER=auto takes the best that does", reason(.error))]
    Unavailable {
        /// The driver that was tried.
        kind: DriverKind,
        /// The error that stopped it.
        error: io::Error,
    },
}

/// Starts the driver of one core, on the core's own thread, with buffers from `pool`.
///
/// # Errors
///
/// If the driver that was asked for does not work on this machine, or none does.
pub fn start(choice: DriverChoice, pool: &Pool) -> Result<Started, DriverError> {
    let unavailable = |kind| move |error| DriverError::Unavailable { kind, error };
    let started = |driver, why| Started { driver, why };
    if choice == DriverChoice::Epoll {
        let driver = epoll(pool).map_err(unavailable(DriverKind::Epoll))?;
        return Ok(started(driver, "epoll (as asked for)".to_owned()));
    }
    match uring(pool) {
        Ok((driver, how)) => Ok(started(driver, format!("uring ({how})"))),
        Err(error) if choice == DriverChoice::Uring => Err(unavailable(DriverKind::Uring)(error)),
        Err(refused) => {
            let driver = epoll(pool).map_err(unavailable(DriverKind::Epoll))?;
            Ok(started(driver, format!("epoll (io_uring refused: {})", reason(&refused))))
        }
    }
}

fn uring(pool: &Pool) -> io::Result<(Box<dyn Driver>, &'static str)> {
    let mut driver = UringDriver::new(pool)?;
    prove(&mut driver, pool)?;
    let how = driver.describe();
    Ok((Box::new(driver), how))
}

fn epoll(pool: &Pool) -> io::Result<Box<dyn Driver>> {
    let mut driver = EpollDriver::new(pool)?;
    prove(&mut driver, pool)?;
    Ok(Box::new(driver))
}

/// The error of the system, with its usual cause.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM) if is_disabled_by_sysctl() => "EPERM, as kernel.io_uring_disabled demands".to_owned(),
        Some(libc::EPERM) => "EPERM, as under a container's default seccomp profile".to_owned(),
        Some(libc::ENOSYS) => "ENOSYS, as on a kernel without it or under a seccomp profile".to_owned(),
        Some(libc::EINVAL) => "EINVAL, as on a kernel before Linux 6.0".to_owned(),
        Some(libc::ENOMEM) => "ENOMEM, as under a low limit of locked memory".to_owned(),
        _ => error.to_string(),
    }
}

fn is_disabled_by_sysctl() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").is_ok_and(|level| level.trim() != "0")
}

/// Tests on a loopback connection what a core will ask of the driver. Afterwards nothing of the test is left in it.
fn prove(driver: &mut dyn Driver, pool: &Pool) -> io::Result<()> {
    let loopback = Address::Tcp((Ipv4Addr::LOCALHOST, 0).into());
    let address = driver.listen(LISTENER, &loopback)?;
    driver.accept(LISTENER, true);
    driver.connect(CLIENT, &address, SocketOptions { quick_ack: true, ..SocketOptions::default() })?;
    let deadline = driver.now() + PROOF_MAX;
    let mut proof = Proof::default();
    let mut events = Vec::new();
    while proof.gone < 3 {
        if driver.now() >= deadline {
            return Err(io::Error::new(ErrorKind::TimedOut, "the self-test on loopback did not end"));
        }
        driver.turn(Wait::Until(deadline), &mut events)?;
        for event in events.drain(..) {
            proof.step(event, driver, pool)?;
        }
    }
    // A waiting turn must end when it is woken. A wake is reported once, so a second waiting turn would wait for its
    // deadline.
    driver.wake().wake();
    driver.turn(Wait::Until(deadline), &mut events)?;
    if driver.now() >= deadline || !proof.is_complete() {
        return Err(io::Error::other("the self-test on loopback went wrong"));
    }
    Ok(())
}

/// The progress of the test.
#[derive(Default)]
struct Proof {
    /// Bytes that arrived at the server, and bytes that came back to the client.
    there: usize,
    back: usize,
    client_ended: bool,
    /// The number of sockets and listeners that were closed.
    gone: usize,
}

impl Proof {
    fn is_complete(&self) -> bool {
        self.there == PROOF_LEN && self.back == PROOF_LEN && self.client_ended
    }

    fn step(&mut self, event: DriverEvent, driver: &mut dyn Driver, pool: &Pool) -> io::Result<()> {
        match event {
            DriverEvent::Accepted { socket, .. } => accept(socket, driver)?,
            DriverEvent::Connected { result, .. } => {
                result?;
                send_proof(driver, pool)?;
            }
            DriverEvent::Received { socket: SERVER, lease } => {
                self.there += lease.len();
                driver.send(SERVER, lease);
            }
            DriverEvent::Received { lease, .. } => self.back += lease.len(),
            DriverEvent::ReceiveEnded { socket, result } => {
                result?;
                // The server has received everything then, and what it sent back is sent before it closes.
                self.client_ended |= socket == CLIENT;
                driver.close(socket, Close::Flush);
            }
            DriverEvent::SendFailed { error, .. } | DriverEvent::AcceptFailed { error, .. } => return Err(error),
            DriverEvent::Closed { .. } => self.gone += 1,
            DriverEvent::PeerEnded { .. }
            | DriverEvent::Sent { .. }
            | DriverEvent::Detached { .. }
            | DriverEvent::DatagramsReceived { .. }
            | DriverEvent::DatagramsDropped { .. } => {}
        }
        Ok(())
    }
}

fn accept(socket: RawSocket, driver: &mut dyn Driver) -> io::Result<()> {
    driver.adopt(SERVER, socket, SocketOptions::default())?;
    driver.receive(SERVER, true);
    driver.close(LISTENER, Close::Abort);
    Ok(())
}

/// Sends a small buffer many times, so that sends are gathered, and then finishes.
fn send_proof(driver: &mut dyn Driver, pool: &Pool) -> io::Result<()> {
    let mut left = PROOF_LEN;
    while left > 0 {
        let Some(mut lease) = pool.take(Class::Small) else { return Err(ErrorKind::OutOfMemory.into()) };
        let len = left.min(lease.tailroom());
        lease.filled(len);
        left -= len;
        driver.send(CLIENT, lease);
    }
    driver.shutdown(CLIENT);
    driver.receive(CLIENT, true);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_started_driver_is_fresh_and_says_why() {
        for choice in [DriverChoice::Auto, DriverChoice::Epoll] {
            let pool = Pool::new(0);
            let Started { mut driver, why } = start(choice, &pool).unwrap();
            assert!(why.starts_with(driver.kind().as_str()) && !why.contains('\n'), "{why}");
            assert!(choice != DriverChoice::Epoll || driver.kind() == DriverKind::Epoll);
            let token = Token { index: 0, generation: 0 };
            driver.listen(token, &Address::Tcp((Ipv4Addr::LOCALHOST, 0).into())).unwrap();
            let mut events = Vec::new();
            driver.turn(Wait::Poll, &mut events).unwrap();
            assert!(events.is_empty(), "{events:?}");
            drop((driver, events));
            assert_eq!(pool.usage().leased_bytes, 0);
        }
    }

    #[test]
    fn the_line_names_the_usual_cause() {
        let refused = io::Error::from_raw_os_error(libc::EPERM);
        assert!(reason(&refused).starts_with("EPERM, as "));
        let error = DriverError::Unavailable { kind: DriverKind::Uring, error: refused };
        assert!(error.to_string().starts_with("the uring driver does not work here: EPERM"), "{error}");
    }
}
