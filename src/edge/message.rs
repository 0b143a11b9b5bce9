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
use crate::quic::MovedDatagram;
use crate::tls::DetachedConnection;
use crate::wire::mux::Hello;

/// A command of the control thread to a core of an edge.
pub enum EdgeCommand {
    /// Finish calls in flight, accept no new ones, and end.
    Drain,
    /// Report the state of the core.
    Report(MailSender<CoreReport>),
    /// Report the figures of the label with this index, and the number of labels. They are read one by one, so that the
    /// core is never blocked for long.
    Figures(usize, MailSender<CoreFigures>),
    /// Report the calls in the call log that match the filter.
    Calls(Arc<CallFilter>, MailSender<Vec<CallLine>>),
    /// Check the credential of every link against the current tables: end links whose credential was revoked at once,
    /// and drain those whose credential has expired.
    Review(MailSender<Reviewed>),
    /// Take the usage of each credential since the last request, or a part of it.
    Usage(MailSender<Vec<UsageLine>>),
}

/// The result of a review of the links' credentials on a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reviewed {
    /// The number of the core.
    pub core: CoreId,
    /// Links that were ended.
    pub ended: usize,
    /// Links that were drained: they take no new streams, and end with their calls or at a timeout.
    pub draining: usize,
}

/// An event from a core of an edge for the control thread.
#[derive(Debug)]
pub enum EdgeEvent {
    /// The core listens for agents and connectors.
    Listening(CoreId),
    /// The core cannot listen, for this reason.
    Failed(CoreId, String),
    /// The core has ended.
    Ended(CoreId),
    /// A link has registered.
    Linked {
        /// The core on which it runs.
        core: CoreId,
        /// The number of the link.
        link: LinkId,
        /// The tunnel that it serves.
        tunnel: TunnelId,
        /// Name and version of the connector's software, as sent by the connector.
        software: Box<str>,
    },
    /// A link has ended.
    Unlinked {
        /// The core on which it ran.
        core: CoreId,
        /// The number of the link.
        link: LinkId,
        /// The tunnel that it served.
        tunnel: TunnelId,
    },
}

/// A message to a core of an edge.
pub(super) enum CoreMessage {
    /// A command of the control thread.
    Command(EdgeCommand),
    /// The hosts of this tunnel may have changed; of any tunnel, if none is named.
    HostsChanged(Option<TunnelId>),
    /// A link that another core accepted and registered.
    Link(Box<RegisteredLink>),
    /// The connector of this link has replaced it by another.
    CloseLink(LinkId),
    /// A connector has made another link in place of one that may run on the receiving core.
    Replaced(Box<ReplacedLink>),
    /// A datagram of a link that runs on the receiving core.
    Datagram(Box<MovedDatagram>),
    /// An agent's connection that another core accepted and whose first request is unread.
    Agent(Box<DetachedConnection>, AgentOrigin, Moved),
    /// A passthrough connection that another core accepted and whose first message is unread.
    Passing(Box<DetachedConnection>, Option<SocketAddr>, Moves),
}

/// The link in whose place a connector has made another one, over the other transport.
#[derive(Clone)]
pub(super) struct ReplacedLink {
    pub(super) tunnel: TunnelId,
    pub(super) connector: u64,
    /// Which of the connector's links it is.
    pub(super) index: u16,
    /// Whether the new one is over QUIC.
    pub(super) is_quic: bool,
}

/// What the core that accepted an agent's connection knows about the agent.
pub(super) struct AgentOrigin {
    pub(super) peer: Option<SocketAddr>,
    pub(super) front: Front,
    pub(super) certificate: CallerCertificate,
}

/// A registered link that is handed over to the core on which it will run.
pub(super) struct RegisteredLink {
    /// The connection, with the bytes that were read from it. The link parses them again.
    pub(super) connection: DetachedConnection,
    /// The connector's HELLO, which is contained in these bytes.
    pub(super) hello: Box<Hello>,
    /// The link's place on the core.
    pub(super) booking: Booking,
    /// The proof of the registration, for later reviews.
    pub(super) proof: Proof,
}
