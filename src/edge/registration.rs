//! Who is let in: what a connector shows, against what the edge knows of its tunnel.

use rustls_pki_types::CertificateDer;

use crate::base::{Clock, Secret, TunnelId};
use crate::edge::credential::Proof;
use crate::edge::edge_core::EdgeCore;
use crate::edge::gate::{self, Visitor};
use crate::edge::shared::Counters;
use crate::tls::tunnel_of;
use crate::wire::Refusal;
use crate::wire::mux::Hello;

/// Why a connector is not let in: what it is told, which is also what the log says.
pub(super) struct Denied {
    pub(super) refusal: Refusal,
    pub(super) reason: String,
    tunnel: Option<TunnelId>,
}

/// Whether a connector may have its link; by what, if so.
///
/// Where the edge has an authority the certificate comes first, which the handshake has verified: without one nobody learns
/// whether a secret is good.
pub(super) fn check(
    here: &EdgeCore,
    hello: &Hello,
    certificate: Option<&CertificateDer<'_>>,
    visitor: &Visitor,
) -> Result<Proof, Denied> {
    if here.edge.settings.certifier.is_some() {
        check_certificate(&hello.tunnel, certificate).map_err(|denied| denied.of(&hello.tunnel))?;
    }
    check_secret(here, &hello.tunnel, &hello.secret, visitor).map_err(|denied| denied.of(&hello.tunnel))
}

/// Whether the secret is the tunnel's, and comes from where the tunnel's connectors may come from.
pub(super) fn check_secret(
    here: &EdgeCore,
    tunnel: &TunnelId,
    secret: &Secret,
    visitor: &Visitor,
) -> Result<Proof, Denied> {
    let tables = here.tables();
    let known = tables.verify(tunnel, secret, here.core.now()).ok_or_else(Denied::credentials)?;
    let address = visitor.peer.map(|peer| peer.ip());
    if tables.may_come_from(tunnel, address) {
        return Ok(Proof { credential: known.clone(), from: address });
    }
    let from = address.map_or_else(|| "an unknown address".to_owned(), |address| address.to_canonical().to_string());
    let remedy = "add it to the tunnel's connectors_from at the edge, or come from an address that is listed there";
    Err(Denied::new(Refusal::Address, format!("it comes from {from}; {remedy}")))
}

fn check_certificate(tunnel: &TunnelId, certificate: Option<&CertificateDer<'_>>) -> Result<(), Denied> {
    let Some(certificate) = certificate else {
        return Err(Denied::new(Refusal::CertificateMissing, "enrol first, with the tunnel's id and secret"));
    };
    let other = |reason: String| Denied::new(Refusal::CertificateOfOther, reason);
    let bearer = tunnel_of(certificate).map_err(|error| other(error.to_string()))?;
    if bearer == *tunnel {
        return Ok(());
    }
    Err(other(format!("it is of {bearer}, and the link is for {tunnel}: enrol with the id and secret of {tunnel}")))
}

impl Denied {
    pub(super) fn new(refusal: Refusal, reason: impl Into<String>) -> Denied {
        Denied { refusal, reason: reason.into(), tunnel: None }
    }

    /// The tunnel or its secret is not known. Which of the two is nobody's business.
    pub(super) fn credentials() -> Denied {
        Denied::new(
            Refusal::Credentials,
            "check both against what `adit tunnel create` printed, or the edge's file says",
        )
    }

    /// For this tunnel, in the log.
    pub(super) fn of(mut self, tunnel: &TunnelId) -> Denied {
        self.tunnel = Some(tunnel.clone());
        self
    }

    /// The same, if there is one.
    pub(super) fn of_any(mut self, tunnel: Option<TunnelId>) -> Denied {
        self.tunnel = tunnel;
        self
    }

    /// Counts it, against its source too where it failed to prove itself, and says it in the log. Every registration that
    /// fails comes through here: links and enrolments.
    pub(super) fn note(&self, here: &EdgeCore, visitor: &Visitor) {
        let counters = &here.edge.counters;
        Counters::add(&counters.registrations_failed);
        if self.refusal.is_of_certificate() {
            Counters::add(&counters.certificates_refused);
        }
        if is_failed_proof(self.refusal) {
            gate::on_failed_registration(here, visitor);
        }
        let tunnel = self.tunnel.as_ref().map(TunnelId::as_str);
        tracing::warn!(
            peer = ?visitor.peer,
            tunnel,
            code = ?self.refusal,
            "a connector was refused: {}: {}",
            self.refusal,
            self.reason
        );
    }
}

/// Whether somebody showed a secret that is none, as whoever guesses does. A certificate that another one mends is no guess,
/// and nor is what the edge cannot do.
const fn is_failed_proof(refusal: Refusal) -> bool {
    matches!(refusal, Refusal::Credentials | Refusal::ProvisioningKey)
}
