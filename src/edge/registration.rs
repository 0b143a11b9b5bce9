//! Registration: decides whether a connector may serve a tunnel, for any protocol.

use std::net::{IpAddr, SocketAddr};

use rustls_pki_types::CertificateDer;

use crate::base::{Secret, Time, TunnelId};
use crate::edge::credential::Proof;
use crate::edge::gate::{Gate, PeerInfo};
use crate::edge::settings::EdgeTables;
use crate::edge::shared::{Counters, Edge, StrangerTrouble};
use crate::policy::LeftOut;
use crate::tls::tunnel_of;
use crate::wire::RegistrationRefusal;

/// What a connector claims, and the evidence for it.
pub(super) struct Claim<'a> {
    /// The tunnel that it wants to serve.
    pub(super) tunnel: &'a TunnelId,
    /// The secret of that tunnel.
    pub(super) secret: &'a Secret,
    /// The address of the connector, if it is known.
    pub(super) from: Option<IpAddr>,
}

/// A connector whose registration was accepted.
pub(super) struct Registered<'a> {
    /// The tunnel that it serves.
    pub(super) tunnel: &'a TunnelId,
    /// The number of the connector.
    pub(super) instance: u64,
    /// Which of the connector's links it is.
    pub(super) index: u16,
    /// The name and version of its software, as it reports.
    pub(super) software: &'a str,
    /// The proof of the registration, for later reviews.
    pub(super) proof: &'a Proof,
}

/// The certificate of a connector, if this edge requires one.
pub(super) enum ClientCertificate<'a> {
    /// This edge has no authority: the secret is enough.
    NotRequired,
    /// The connector's certificate, which the TLS handshake has verified.
    Required(Option<&'a CertificateDer<'a>>),
}

/// Why a registration was refused, as sent to the connector and logged.
#[derive(Debug)]
pub(super) struct Denied {
    pub(super) refusal: RegistrationRefusal,
    pub(super) reason: String,
    tunnel: Option<TunnelId>,
}

/// Checks a claim; returns the proof for later reviews.
///
/// The certificate is checked first, so that a peer without one cannot test secrets.
pub(super) fn check(
    tables: &EdgeTables,
    claim: &Claim<'_>,
    certificate: &ClientCertificate<'_>,
    now: Time,
) -> Result<Proof, Denied> {
    if let ClientCertificate::Required(shown) = certificate {
        check_certificate(claim.tunnel, *shown).map_err(|denied| denied.of(claim.tunnel))?;
    }
    check_secret(tables, claim, now).map_err(|denied| denied.of(claim.tunnel))
}

/// Checks the secret, and whether connectors of the tunnel may connect from the claim's address.
pub(super) fn check_secret(tables: &EdgeTables, claim: &Claim<'_>, now: Time) -> Result<Proof, Denied> {
    let Claim { tunnel, secret, from } = *claim;
    let known = tables.verify(tunnel, secret, now).ok_or_else(|| match tables.was_rotated(tunnel, secret, now) {
        true => Denied::rotated(),
        false => Denied::credentials(),
    })?;
    if tables.may_come_from(tunnel, from) {
        return Ok(Proof { credential: known.clone(), from });
    }
    let from = from.map_or_else(|| "an unknown address".to_owned(), |from| from.to_canonical().to_string());
    let remedy = "add it to the tunnel's connectors_from at the edge, or connect from an address that is listed there";
    Err(Denied::new(RegistrationRefusal::Address, format!("it comes from {from}; {remedy}")))
}

fn check_certificate(tunnel: &TunnelId, certificate: Option<&CertificateDer<'_>>) -> Result<(), Denied> {
    let Some(certificate) = certificate else {
        return Err(Denied::new(
            RegistrationRefusal::CertificateMissing,
            "enrol first, with the tunnel's id and secret",
        ));
    };
    let other = |reason: String| Denied::new(RegistrationRefusal::CertificateOfOther, reason);
    let holder = tunnel_of(certificate).map_err(|error| other(error.to_string()))?;
    if holder == *tunnel {
        return Ok(());
    }
    Err(other(format!("it is of {holder}, and the link is for {tunnel}: enrol with the id and secret of {tunnel}")))
}

impl Denied {
    pub(super) fn new(refusal: RegistrationRefusal, reason: impl Into<String>) -> Denied {
        Denied { refusal, reason: reason.into(), tunnel: None }
    }

    /// The tunnel or its secret is unknown. The connector is not told which.
    pub(super) fn credentials() -> Denied {
        Denied::new(
            RegistrationRefusal::Credentials,
            "check both against what `adit tunnel create` or `rotate` printed last, or the edge's file says",
        )
    }

    /// A rotation ended this secret. Only a connector that has the old secret receives this answer.
    fn rotated() -> Denied {
        Denied::new(
            RegistrationRefusal::Credentials,
            "this secret was rotated, and its time has ended: use the token that `adit tunnel rotate` printed",
        )
    }

    /// Names the tunnel in the log.
    pub(super) fn of(mut self, tunnel: &TunnelId) -> Denied {
        self.tunnel = Some(tunnel.clone());
        self
    }

    /// Counts the refusal of a link or an enrolment, and logs it once per source and minute. A wrong secret also counts
    /// against its source.
    pub(super) fn record(&self, edge: &Edge, gate: &Gate, peer: &PeerInfo, now: Time) {
        Counters::add(&edge.counters.registrations_failed);
        if self.refusal.is_of_certificate() {
            Counters::add(&edge.counters.certificates_refused);
        }
        if is_wrong_secret(self.refusal) {
            gate.on_failed_registration(&peer.source);
        }
        let Some(LeftOut { same, others }) =
            edge.stranger_line(address_of(peer), StrangerTrouble::Refused(self.refusal), now)
        else {
            return;
        };
        let tunnel = self.tunnel.as_ref().map(TunnelId::as_str);
        tracing::warn!(
            peer = ?peer.peer,
            tunnel,
            code = ?self.refusal,
            same,
            others,
            "connector refused: {}: {}",
            self.refusal,
            self.reason
        );
    }
}

/// The address of a peer without its port.
pub(super) fn address_of(peer: &PeerInfo) -> Option<IpAddr> {
    peer.peer.as_ref().map(SocketAddr::ip)
}

/// Whether a wrong secret was sent, as in an attempt to guess it. An expired certificate or a fault of the edge is not
/// such an attempt.
const fn is_wrong_secret(refusal: RegistrationRefusal) -> bool {
    matches!(refusal, RegistrationRefusal::Credentials | RegistrationRefusal::ProvisioningKey)
}

#[cfg(test)]
mod tests {
    use crate::base::SharedMap;
    use std::time::Duration;

    use super::*;
    use crate::edge::agent_routes::AgentRoutes;
    use crate::edge::credential::TunnelEntry;
    use crate::policy::Admission;
    use crate::route::RouteTable;
    use crate::tls::{Authority, KeyRequest, WallClock};

    fn id(text: &str) -> TunnelId {
        text.parse().unwrap()
    }

    /// Two tunnels with the same secret; connectors of the second may connect from one network only.
    fn tables() -> EdgeTables {
        let secret = Secret::from("right");
        let entry = TunnelEntry::of_secret(&secret);
        let connectors_from = ["192.0.2.0/24".parse().unwrap()].into_iter().collect();
        let pinned = TunnelEntry { connectors_from, ..entry.clone() };
        EdgeTables {
            hosts: RouteTable::default(),
            routes: AgentRoutes::default(),
            tunnels: SharedMap::from([(id("tnl_a"), entry), (id("tnl_b"), pinned)]),
            admission: Admission::default(),
        }
    }

    fn check_claim(
        tunnel: &str,
        secret: &str,
        from: Option<[u8; 4]>,
        certificate: &ClientCertificate<'_>,
    ) -> Result<Proof, Denied> {
        let (tunnel, secret) = (id(tunnel), Secret::from(secret));
        let claim = Claim { tunnel: &tunnel, secret: &secret, from: from.map(IpAddr::from) };
        check(&tables(), &claim, certificate, Time::ZERO)
    }

    fn certificate_of(tunnel: &str) -> CertificateDer<'static> {
        let now = WallClock::default().now();
        let authority = Authority::new("edge", now, 1).unwrap();
        let key = KeyRequest::new().unwrap();
        let signed = authority.certify(key.csr(), &id(tunnel), Duration::from_secs(60), now).unwrap();
        signed.chain.into_iter().next().unwrap()
    }

    #[test]
    fn a_right_secret_is_enough_where_no_certificate_is_required() {
        let proof = check_claim("tnl_a", "right", Some([192, 0, 2, 1]), &ClientCertificate::NotRequired).unwrap();
        assert_eq!(proof.from, Some([192, 0, 2, 1].into()));
        assert_eq!(proof.credential.id.as_str(), "configured");
    }

    #[test]
    fn an_unknown_tunnel_and_a_wrong_secret_look_alike() {
        let refused = |tunnel, secret| {
            let denied = check_claim(tunnel, secret, None, &ClientCertificate::NotRequired).err().unwrap();
            (denied.refusal, denied.reason)
        };
        assert_eq!(refused("tnl_a", "wrong"), refused("tnl_unknown", "right"));
        assert_eq!(refused("tnl_a", "wrong").0, RegistrationRefusal::Credentials);
    }

    #[test]
    fn where_networks_are_required_an_unknown_or_other_address_is_refused() {
        let from = |from| check_claim("tnl_b", "right", from, &ClientCertificate::NotRequired);
        assert!(from(Some([192, 0, 2, 1])).is_ok());
        let other = from(Some([198, 51, 100, 1])).err().unwrap();
        assert_eq!(other.refusal, RegistrationRefusal::Address);
        assert!(other.reason.contains("198.51.100.1"), "{}", other.reason);
        let unknown = from(None).err().unwrap();
        assert!(
            unknown.refusal == RegistrationRefusal::Address && unknown.reason.contains("unknown"),
            "{}",
            unknown.reason
        );
    }

    #[test]
    fn where_a_certificate_is_required_it_is_checked_before_the_secret() {
        for secret in ["right", "wrong"] {
            let missing = check_claim("tnl_a", secret, None, &ClientCertificate::Required(None)).err().unwrap();
            assert_eq!(missing.refusal, RegistrationRefusal::CertificateMissing);
            let other = certificate_of("tnl_b");
            let other = check_claim("tnl_a", secret, None, &ClientCertificate::Required(Some(&other))).err().unwrap();
            assert_eq!(other.refusal, RegistrationRefusal::CertificateOfOther);
        }
        let own = certificate_of("tnl_a");
        assert!(check_claim("tnl_a", "right", None, &ClientCertificate::Required(Some(&own))).is_ok());
        let wrong = check_claim("tnl_a", "wrong", None, &ClientCertificate::Required(Some(&own))).err().unwrap();
        assert_eq!(wrong.refusal, RegistrationRefusal::Credentials);
    }

    #[test]
    fn only_wrong_secrets_count_as_guesses() {
        assert!(
            is_wrong_secret(RegistrationRefusal::Credentials) && is_wrong_secret(RegistrationRefusal::ProvisioningKey)
        );
        for other in [
            RegistrationRefusal::CertificateMissing,
            RegistrationRefusal::CertificateOfOther,
            RegistrationRefusal::Address,
            RegistrationRefusal::Overloaded,
        ] {
            assert!(!is_wrong_secret(other), "{other}");
        }
    }
}
