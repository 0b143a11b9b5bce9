//! Name resolution. The system's resolver blocks, so the control thread calls it; a core only sends a message.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use crate::engine::{MailReceiver, MailSender, mailbox};

/// The most addresses of one name that are tried.
pub const ADDRESSES_MAX: usize = 8;
/// The most requests that can wait at the same time.
const REQUESTS_MAX: usize = 256;

/// Why a name could not be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The system's resolver returned an error.
    #[error("the name {name} cannot be resolved ({reason}): check its spelling and this host's DNS")]
    Failed {
        /// The host name that was looked up.
        name: Box<str>,
        /// The error of the resolver.
        reason: Box<str>,
    },
    /// Too many requests wait already.
    #[error("too many names are being resolved at once")]
    Busy,
}

/// A request from a core to the control thread.
pub struct ResolveRequest {
    /// The host name to resolve.
    pub host: Box<str>,
    /// The port, which is part of the resolved addresses.
    pub port: u16,
    /// Where the answer is sent.
    pub reply: MailSender<Result<Vec<SocketAddr>, ResolveError>>,
}

/// A function that returns the addresses of a name.
#[cfg(feature = "sim")]
pub type NameTable = dyn Fn(&str, u16) -> Vec<SocketAddr>;

/// Resolves names to addresses.
#[derive(Clone)]
pub enum Resolver {
    /// Asks the control thread.
    Control(MailSender<ResolveRequest>),
    /// Uses a table, in the simulation.
    #[cfg(feature = "sim")]
    Table(Rc<NameTable>),
}

/// Creates the channel of requests from the cores to the control thread.
#[must_use]
pub fn resolver() -> (MailSender<ResolveRequest>, MailReceiver<ResolveRequest>) {
    mailbox(REQUESTS_MAX)
}

impl Resolver {
    /// Resolves `host`: at least one and at most [`ADDRESSES_MAX`] addresses. An IP address resolves to itself.
    ///
    /// # Errors
    ///
    /// If the name has no address.
    pub async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let failed = |reason: &str| ResolveError::Failed { name: host.into(), reason: reason.into() };
        let mut addresses = match self {
            #[cfg(feature = "sim")]
            Resolver::Table(table) => table(host, port),
            Resolver::Control(control) => {
                let (reply, mut answer) = mailbox(1);
                let request = ResolveRequest { host: host.into(), port, reply };
                control.send(request).map_err(|_| ResolveError::Busy)?;
                answer.recv().await.ok_or_else(|| failed("nobody answers"))??
            }
        };
        addresses.truncate(ADDRESSES_MAX);
        if addresses.is_empty() { Err(failed("no address")) } else { Ok(addresses) }
    }
}
