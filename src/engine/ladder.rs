//! Which driver a core gets.

use std::io;

use crate::engine::driver::{Driver, DriverKind};
use crate::engine::pool::Pool;
use crate::engine::sys::epoll::EpollDriver;

/// What the operator asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DriverChoice {
    /// The best that works here.
    #[default]
    Auto,
    /// Nothing but io_uring.
    Uring,
    /// Nothing but epoll.
    Epoll,
}

/// A driver that works, and why it was taken.
pub struct Started {
    /// The driver.
    pub driver: Box<dyn Driver>,
    /// One line, beginning with the driver's name.
    pub why: String,
}

/// Why no driver could be started.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The one that was asked for does not work here.
    #[error("the {kind} driver does not work here: {error}")]
    Unavailable {
        /// Which one.
        kind: DriverKind,
        /// What stopped it.
        error: io::Error,
    },
}

/// Starts the driver of one core, on the core's own thread.
///
/// # Errors
///
/// When the driver that was asked for does not work here, or none does.
pub fn start(choice: DriverChoice, pool: &Pool) -> Result<Started, DriverError> {
    let why = match choice {
        DriverChoice::Epoll => "epoll (as asked)",
        DriverChoice::Auto | DriverChoice::Uring => "epoll",
    };
    let driver = EpollDriver::new(pool).map_err(|error| DriverError::Unavailable { kind: DriverKind::Epoll, error })?;
    Ok(Started { driver: Box::new(driver), why: why.to_owned() })
}
