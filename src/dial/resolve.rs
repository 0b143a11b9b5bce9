//! Name resolution. The system's resolver blocks, so the control thread calls it; a core only sends a message.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use crate::base::Time;
use crate::engine::{Core, MailReceiver, MailSender, mailbox};

/// The most addresses of one name that are used.
pub const ADDRESSES_MAX: usize = 8;
/// The most requests that wait for the control thread.
const REQUESTS_MAX: usize = 256;

/// Why a name could not be resolved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The system's resolver reported an error.
    #[error("the name {name} cannot be resolved ({reason}): check its spelling and this host's DNS")]
    Failed {
        /// The name that was asked for.
        name: Box<str>,
        /// The error of the system's resolver.
        reason: Box<str>,
    },
    /// Too many requests are waiting.
    #[error("too many names are being resolved at once")]
    Busy,
}

/// A core's request to the control thread.
pub struct ResolveRequest {
    /// The name to resolve.
    pub host: Box<str>,
    /// The port of the addresses in the answer.
    pub port: u16,
    /// The mailbox for the answer.
    pub reply: MailSender<Result<Vec<SocketAddr>, ResolveError>>,
}

/// Returns the addresses of a name.
#[cfg(feature = "sim")]
pub type NameTable = dyn Fn(&str, u16) -> Vec<SocketAddr>;

/// Resolves names to addresses.
#[derive(Clone)]
pub enum Resolver {
    /// Asks the control thread.
    Control(MailSender<ResolveRequest>),
    /// Reads a table, for the simulation.
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
                answer.recv().await.ok_or_else(|| failed("the control thread does not answer"))??
            }
        };
        addresses.truncate(ADDRESSES_MAX);
        if addresses.is_empty() { Err(failed("it has no address")) } else { Ok(addresses) }
    }

    /// Resolves `host` before `deadline`.
    ///
    /// # Errors
    ///
    /// If the name has no address, or there is no answer in time.
    pub async fn resolve_until(
        &self,
        host: &str,
        port: u16,
        deadline: Time,
        core: &Core,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        let resolved = core.timeout_at(deadline, self.resolve(host, port)).await;
        let no_answer = |_| ResolveError::Failed { name: host.into(), reason: "no answer in time".into() };
        resolved.map_err(no_answer)?
    }
}
