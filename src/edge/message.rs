use crate::base::{CoreId, LinkId, TunnelId};
use crate::edge::connectors::Booking;
use crate::edge::edge_core::CoreReport;
use crate::edge::usage::UsageLine;
use crate::engine::MailSender;
use crate::latency::CoreFigures;
use crate::tls::DetachedConnection;

/// What the control thread asks of each core of an edge.
pub enum EdgeCommand {
    /// Finish what is in flight, take nothing new, and end.
    Drain,
    /// Tell how things are.
    Report(MailSender<CoreReport>),
    /// Tell the times of calls, one set at a time, so that the core is never held up for long: the total at 0, then those
    /// of each label.
    Figures(usize, MailSender<CoreFigures>),
    /// Look again whether every link's credential is still good by the present tables: end those whose credential was
    /// withdrawn at once, and let those whose credential came to its end finish.
    Review(MailSender<Reviewed>),
    /// Tell what was called over the links of each credential since this was last asked, or a part of it.
    Usage(MailSender<Vec<UsageLine>>),
}

/// What a core did when it looked at its links again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reviewed {
    /// Which core.
    pub core: CoreId,
    /// Links that were ended.
    pub ended: usize,
    /// Links that were told to take no new streams, and that end when their calls have, or their time is over.
    pub draining: usize,
}

/// What a core of an edge tells the control thread.
#[derive(Debug)]
pub enum EdgeEvent {
    /// It listens.
    Listening(CoreId),
    /// It cannot: for people.
    Failed(CoreId, String),
    /// It has ended.
    Ended(CoreId),
    /// A link has come up.
    Linked {
        /// On which core.
        core: CoreId,
        /// Which.
        link: LinkId,
        /// Whose.
        tunnel: TunnelId,
        /// What the connector says that it runs.
        software: Box<str>,
    },
    /// A link has ended.
    Unlinked {
        /// On which core.
        core: CoreId,
        /// Which.
        link: LinkId,
        /// Whose.
        tunnel: TunnelId,
    },
}

/// What comes to a core of an edge from elsewhere.
pub(super) enum CoreMessage {
    Command(EdgeCommand),
    /// A link that another core accepted; it is this core's from here on.
    Link(Box<(DetachedConnection, Booking)>),
    /// An agent's connection that another core accepted, with its first request unread.
    Agent(Box<DetachedConnection>, Option<std::net::SocketAddr>),
    /// The same of an agent whose TLS ends in the connector, with its first message unread.
    Passing(Box<DetachedConnection>, Option<std::net::SocketAddr>),
}
