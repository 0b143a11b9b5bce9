use std::sync::Arc;
use std::time::Duration;

use crate::base::CoreId;
use crate::connector::report::ConnectorReport;
use crate::connector::settings::EdgeAddress;
use crate::engine::MailSender;
use crate::latency::{CallFilter, CallLine, CoreFigures};
use crate::link::CarrierEnded;
use crate::tls::Identity;
use crate::wire::mux::RegistrationRefusal;

/// A command of the control thread to a core of a connector.
pub enum ConnectorCommand {
    /// Finish calls in flight, accept no new ones, and end.
    Drain,
    /// Report the state of the core.
    Report(MailSender<ConnectorReport>),
    /// Report the figures of the label with this index, and the number of labels, of calls whose agents' TLS ends here.
    Figures(usize, MailSender<CoreFigures>),
    /// Report the calls in the call log that match the filter.
    Calls(Arc<CallFilter>, MailSender<Vec<CallLine>>),
}

/// An event from a core of a connector for the control thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectorEvent {
    /// A link was established.
    Linked {
        /// Whether it is over QUIC.
        is_quic: bool,
        /// The core on which it runs.
        core: CoreId,
        /// The edge at its other end.
        edge: EdgeAddress,
        /// Its index among the links to that edge.
        link_index: u16,
    },
    /// An established link has ended.
    Unlinked {
        /// The core on which it runs.
        core: CoreId,
        /// The edge at its other end.
        edge: EdgeAddress,
        /// Its index among the links to that edge.
        link_index: u16,
        /// Why the link ended, in terms of its protocol.
        why: CarrierEnded,
    },
    /// An edge refuses this connector. Sent once per reason until a link is established.
    Refused {
        /// The address of the edge.
        edge: EdgeAddress,
        /// The reason as a code.
        refusal: RegistrationRefusal,
        /// The reason in words.
        why: String,
    },
    /// An edge cannot be reached. Sent once per series of failures.
    Failed {
        /// The address of the edge.
        edge: EdgeAddress,
        /// The reason in words.
        why: String,
    },
    /// An edge has issued a certificate for this connector. The control thread stores it.
    Certified {
        /// The address of the edge.
        edge: EdgeAddress,
        /// The certificate and its key.
        identity: Arc<Identity>,
        /// How long it is valid.
        lifetime: Duration,
    },
    /// A core has ended.
    Ended(CoreId),
}

/// A message to a core of a connector.
pub(super) enum CoreMessage {
    Command(ConnectorCommand),
    /// An edge has more cores than this connector has links to it.
    MoreLinks,
    /// The connector's status at this edge has changed.
    EdgeStatus(usize),
    /// The routes have changed.
    RoutesChanged,
}
