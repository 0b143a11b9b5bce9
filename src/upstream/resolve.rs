//! Names to addresses. The system's resolver blocks, so the control thread asks it; a core only sends it a message.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use crate::engine::{MailReceiver, MailSender, mailbox};

/// How many addresses of one name are tried.
pub const ADDRESSES_MAX: usize = 8;
/// How many names may be asked for at once.
const REQUESTS_MAX: usize = 256;

/// Why a name has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The system's resolver said no.
    #[error("the name {name} cannot be resolved ({reason}): check its spelling and this host's DNS")]
    Failed {
        /// The host name that was looked up.
        name: Box<str>,
        /// In the resolver's words.
        reason: Box<str>,
    },
    /// Too many names are being asked for.
    #[error("too many names are being resolved at once")]
    Busy,
}

/// A core's question to the control thread.
pub struct ResolveRequest {
    /// The host name to resolve.
    pub host: Box<str>,
    /// The port, to be part of the answer.
    pub port: u16,
    /// Where the answer goes.
    pub reply: MailSender<Result<Vec<SocketAddr>, ResolveError>>,
}

/// Tells the addresses of a name.
#[cfg(feature = "sim")]
pub type NameTable = dyn Fn(&str, u16) -> Vec<SocketAddr>;

/// Turns names into addresses.
#[derive(Clone)]
pub enum Resolver {
    /// By asking the control thread.
    Control(MailSender<ResolveRequest>),
    /// From a table, in the simulation.
    #[cfg(feature = "sim")]
    Table(Rc<NameTable>),
}

/// The cores' and the control thread's ends of resolving.
#[must_use]
pub fn resolver() -> (MailSender<ResolveRequest>, MailReceiver<ResolveRequest>) {
    mailbox(REQUESTS_MAX)
}

impl Resolver {
    /// The addresses of `host`, at least one and at most [`ADDRESSES_MAX`]; an address stands for itself.
    ///
    /// # Errors
    ///
    /// When the name has none.
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
