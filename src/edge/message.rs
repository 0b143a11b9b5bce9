use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::{CoreId, LinkId, TunnelId};
use crate::edge::credential::Proof;
use crate::edge::front::Front;
use crate::edge::moves::{Moved, Moves};
use crate::edge::presence::Booking;
use crate::edge::report::CoreReport;
use crate::edge::usage::UsageLine;
use crate::engine::MailSender;
use crate::identity::CallerCertificate;
use crate::latency::{CallFilter, CallLine, CoreFigures};
use crate::tls::DetachedConnection;
use crate::wire::mux::Hello;

/// What the control thread asks of each core of an edge.
pub enum EdgeCommand {
    /// Finish what is in flight, take nothing new, and end.
    Drain,
    /// Report the state of the core.
    Report(MailSender<CoreReport>),
    /// Report the figures of the label with this index, and how many labels there are. They are read one at a time, so that
    /// the core is never held up for long.
    Figures(usize, MailSender<CoreFigures>),
    /// Report the last calls that are asked for.
    Calls(Arc<CallFilter>, MailSender<Vec<CallLine>>),
    /// Check the credential of every link against the present tables: end links whose credential was revoked at once, and
    /// drain those whose credential has expired.
    Review(MailSender<Reviewed>),
    /// Take out what was called over the links of each credential since this was last asked, or a part of it.
    Usage(MailSender<Vec<UsageLine>>),
}

/// What a core did when it reviewed the credentials of its links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reviewed {
    /// The number of the core.
    pub core: CoreId,
    /// Links that were ended.
    pub ended: usize,
    /// Links that were told to take no new streams, and that end when their calls have, or their time is over.
    pub draining: usize,
}

/// What a core of an edge tells the control thread.
#[derive(Debug)]
pub enum EdgeEvent {
    /// The core listens for agents and connectors.
    Listening(CoreId),
    /// The core cannot listen, and the reason in words.
    Failed(CoreId, String),
    /// The core has ended.
    Ended(CoreId),
    /// A link has come up.
    Linked {
        /// The core on which it runs.
        core: CoreId,
        /// The number of the link.
        link: LinkId,
        /// The tunnel that it serves.
        tunnel: TunnelId,
        /// Name and version of the connector's software, as the connector gives them.
        software: Box<str>,
    },
    /// A link has ended.
    Unlinked {
        /// The core on which it runs.
        core: CoreId,
        /// The number of the link.
        link: LinkId,
        /// The tunnel that it serves.
        tunnel: TunnelId,
    },
}

/// What comes to a core of an edge from elsewhere.
pub(super) enum CoreMessage {
    /// A command of the control thread.
    Command(EdgeCommand),
    /// The hosts of this tunnel may have changed; those of any tunnel if none is named.
    HostsChanged(Option<TunnelId>),
    /// A link that another core accepted and registered.
    Link(Box<RegisteredLink>),
    /// An agent's connection that another core accepted, with its first request unread.
    Agent(Box<DetachedConnection>, AgentOrigin, Moved),
    /// The same of an agent whose TLS ends in the connector, with its first message unread.
    Passing(Box<DetachedConnection>, Option<SocketAddr>, Moves),
}

/// What the core that accepted an agent's connection knows of the agent.
pub(super) struct AgentOrigin {
    pub(super) peer: Option<SocketAddr>,
    pub(super) front: Front,
    pub(super) certificate: CallerCertificate,
}

/// A link that is registered, on its way to the core on which it is to run.
pub(super) struct RegisteredLink {
    /// The connection, with the bytes that were read from it. The link reads them again.
    pub(super) connection: DetachedConnection,
    /// The connector's HELLO, which is among these bytes.
    pub(super) hello: Box<Hello>,
    /// The link's place on the core.
    pub(super) booking: Booking,
    /// The proof of the registration, for later reviews.
    pub(super) proof: Proof,
}
