use std::sync::Arc;
use std::time::Duration;

use crate::base::CoreId;
use crate::connector::connector_core::ConnectorReport;
use crate::connector::settings::EdgeAddress;
use crate::engine::MailSender;
use crate::latency::CoreFigures;
use crate::tls::Identity;
use crate::wire::mux::{Fault, Refusal};

/// What the control thread asks of each core of a connector.
pub enum ConnectorCommand {
    /// Finish what is in flight, take nothing new, and end.
    Drain,
    /// Tell how things are.
    Report(MailSender<ConnectorReport>),
    /// Tell the times of calls whose agents' TLS ends here, one set at a time: the total at 0, then those of each label.
    Figures(usize, MailSender<CoreFigures>),
}

/// What a core of a connector tells the control thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectorEvent {
    /// A link is up.
    Linked {
        /// On which core.
        core: CoreId,
        /// To which edge.
        edge: EdgeAddress,
        /// Which of the links to it.
        link_index: u16,
    },
    /// A link that was up has ended.
    Unlinked {
        /// On which core.
        core: CoreId,
        /// To which edge.
        edge: EdgeAddress,
        /// Which of the links to it.
        link_index: u16,
        /// Why.
        why: Fault,
    },
    /// An edge does not let this connector in. Told once, until it does.
    Refused {
        /// Which edge.
        edge: EdgeAddress,
        /// Why, as a code.
        refusal: Refusal,
        /// Why, for people.
        why: String,
    },
    /// An edge cannot be reached. Told once for each series of failures.
    Failed {
        /// Which edge.
        edge: EdgeAddress,
        /// Why, for people.
        why: String,
    },
    /// An edge has given this connector a certificate. It is to be kept by whoever keeps things.
    Certified {
        /// Which edge.
        edge: EdgeAddress,
        /// The certificate and its key.
        identity: Arc<Identity>,
        /// How long it is good for.
        lifetime: Duration,
    },
    /// A core has ended.
    Ended(CoreId),
}

/// What comes to a core of a connector from elsewhere.
pub(super) enum CoreMessage {
    Command(ConnectorCommand),
    /// An edge has more cores than there are links to it.
    MoreLinks,
    /// It has changed how the connector stands with this edge.
    Standing(usize),
}
