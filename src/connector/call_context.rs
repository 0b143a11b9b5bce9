//! The stream and the caller of a call at the connector.

use std::sync::Arc;
use std::time::Duration;

use crate::base::Traffic;
use crate::connector::connector_core::ConnectorCore;
use crate::identity::{CallerCertificate, ShownCertificates};
use crate::link::CallStream;

/// The caller that the upstream is told about.
#[derive(Clone, Copy)]
pub(super) enum Caller<'a> {
    /// The edge, which has described the agent in the head, with its certificate in a resealed session.
    Edge(Option<&'a EdgeCertificate>),
    /// An agent whose TLS ends in this connector.
    Agent(&'a SessionAgent),
}

/// The agent of a TLS session that ends in this connector.
pub(super) struct SessionAgent {
    /// Its address, as sent by the edge.
    pub(super) address: String,
    /// Its client certificate, as far as it is known.
    pub(super) certificate: CallerCertificate,
}

/// The certificate of the edge in a TLS session with it.
pub(super) struct EdgeCertificate {
    pub(super) shown: Arc<ShownCertificates>,
    /// When it was shown, since 1970.
    pub(super) at: Duration,
}

/// The stream and caller of a call.
#[derive(Clone, Copy)]
pub(super) struct CallContext<'a> {
    pub(super) core: &'a ConnectorCore,
    pub(super) stream: &'a CallStream,
    pub(super) caller: Caller<'a>,
    /// The traffic that its route must have.
    pub(super) traffic: Traffic,
    /// The number that the edge gave to the call or the session; 0 if none. A copy, because a stream that is reset
    /// loses it.
    pub(super) number: u64,
}

impl CallContext<'_> {
    pub(super) fn is_agents(&self) -> bool {
        matches!(self.caller, Caller::Agent(_))
    }

    /// What is known of the caller's certificate.
    pub(super) fn certificate(&self) -> &CallerCertificate {
        match self.caller {
            Caller::Edge(_) => CallerCertificate::UNKNOWN,
            Caller::Agent(agent) => &agent.certificate,
        }
    }

    /// The certificates that the edge has shown, and when, since 1970.
    pub(super) fn edge_certificate(&self) -> Option<(&ShownCertificates, Duration)> {
        match self.caller {
            Caller::Edge(shown) => shown.map(|EdgeCertificate { shown, at }| (&**shown, *at)),
            Caller::Agent(_) => None,
        }
    }
}
