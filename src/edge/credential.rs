//! Credentials of tunnels as the edge stores them: hashes with an expiry, never the secret.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use crate::base::{CredentialId, HostSet, Secret, SecretHash, Time, TunnelId};
use crate::edge::settings::EdgeTables;
use crate::policy::Networks;
use crate::tls::ClientConfig;

/// The most credentials of a tunnel at one time: the one in use, and during a rotation the one that it replaces.
pub const CREDENTIALS_MAX: usize = 2;

/// The id of the only credential of a tunnel that is defined in the configuration.
const CONFIGURED: &str = "configured";

/// Compared with if a tunnel has no credential, so that the check takes equally long.
static DECOY: LazyLock<SecretHash> = LazyLock::new(|| SecretHash::of(&Secret::new(Vec::new())));

/// One credential of a tunnel.
#[derive(Clone, PartialEq, Eq)]
pub struct TunnelCredential {
    /// The public id of the credential.
    pub id: CredentialId,
    /// The hash of the secret.
    pub hash: SecretHash,
    /// When it expires, on the clock of the cores; [`Time::NEVER`] if it does not expire.
    pub until: Time,
}

/// The proof with which a link was registered.
#[derive(Clone)]
pub struct Proof {
    /// The credential whose secret the connector sent.
    pub credential: TunnelCredential,
    /// The connector's address, if it is known.
    pub from: Option<IpAddr>,
}

/// The current status of the credential with which a link was registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialStatus {
    /// It is valid, and the link continues.
    Valid,
    /// It has reached its expiry: the link takes no new calls, and those in flight may finish.
    Expired,
    /// It or its tunnel was removed, or connectors may no longer come from the link's address: the link ends now.
    Revoked,
}

/// A tunnel that connectors may serve.
#[derive(Clone, Default)]
pub struct TunnelEntry {
    /// The credentials that connectors may use. Without one, no connector can serve the tunnel and its calls are
    /// refused.
    pub credentials: Vec<TunnelCredential>,
    /// Networks from which its connectors may connect; empty for any.
    pub connectors_from: Networks,
    /// The hosts of its routes.
    pub hosts: HostSet,
    /// The service to which its connectors of cloudflared send all calls, if they get their rules from this edge.
    pub cloudflared_service: Option<Arc<str>>,
    /// The inner TLS towards its connectors, for re-encrypted routes: trusted authorities, and this edge's certificate.
    pub seal: Option<Arc<ClientConfig>>,
}

impl TunnelEntry {
    /// A tunnel with one secret that does not expire, as in the configuration.
    #[must_use]
    pub fn of_secret(secret: &Secret) -> TunnelEntry {
        let id = CONFIGURED.parse().expect("a short plain word is an id");
        let credentials = vec![TunnelCredential { id, hash: SecretHash::of(secret), until: Time::NEVER }];
        TunnelEntry { credentials, ..TunnelEntry::default() }
    }

    /// The current status of a credential with which a link was registered.
    #[must_use]
    pub fn status(&self, credential: &TunnelCredential, now: Time) -> CredentialStatus {
        let same = |kept: &&TunnelCredential| kept.id == credential.id && kept.hash == credential.hash;
        match self.credentials.iter().find(same) {
            Some(kept) if now < kept.until => CredentialStatus::Valid,
            Some(_) => CredentialStatus::Expired,
            None => CredentialStatus::Revoked,
        }
    }
}

impl EdgeTables {
    /// The credential of this tunnel with the secret `shown`. Takes equally long whether the tunnel or the secret is
    /// unknown.
    #[must_use]
    pub fn verify(&self, tunnel: &TunnelId, shown: &Secret, now: Time) -> Option<&TunnelCredential> {
        let shown = SecretHash::of(shown);
        let kept = self.tunnels.get(tunnel).map(|entry| entry.credentials.as_slice()).unwrap_or_default();
        let mut found = None;
        for place in 0..kept.len().max(CREDENTIALS_MAX) {
            let credential = kept.get(place);
            let same = shown == *credential.map_or(&*DECOY, |credential| &credential.hash);
            found = credential.filter(|credential| same && now < credential.until).or(found);
        }
        found
    }

    /// Whether the tunnel is known and has no valid credential, so that no connector can serve it until it gets one.
    #[must_use]
    pub fn is_revoked(&self, tunnel: &TunnelId, now: Time) -> bool {
        let has_ended = |credential: &TunnelCredential| credential.until <= now;
        self.tunnels.get(tunnel).is_some_and(|entry| entry.credentials.iter().all(has_ended))
    }

    /// Whether `shown` was a secret of this tunnel until a rotation ended it.
    #[must_use]
    pub fn was_rotated(&self, tunnel: &TunnelId, shown: &Secret, now: Time) -> bool {
        let shown = SecretHash::of(shown);
        let ended = |credential: &TunnelCredential| credential.until <= now && credential.hash == shown;
        self.tunnels.get(tunnel).is_some_and(|entry| entry.credentials.iter().any(ended))
    }

    /// Whether a connector of this tunnel may connect from this address. An unknown address is refused if the tunnel
    /// has networks.
    #[must_use]
    pub fn may_come_from(&self, tunnel: &TunnelId, address: Option<IpAddr>) -> bool {
        let pinned = self.tunnels.get(tunnel).map(|entry| &entry.connectors_from);
        let pinned = pinned.filter(|networks| !networks.is_empty());
        pinned.is_none_or(|networks| address.is_some_and(|address| networks.contains(address)))
    }

    /// The current status of the proof with which a link of this tunnel was registered.
    #[must_use]
    pub fn status(&self, tunnel: &TunnelId, proof: &Proof, now: Time) -> CredentialStatus {
        match self.tunnels.get(tunnel) {
            Some(entry) if self.may_come_from(tunnel, proof.from) => entry.status(&proof.credential, now),
            _ => CredentialStatus::Revoked,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::base::SharedMap;
    use crate::edge::agent_routes::AgentRoutes;
    use crate::policy::Admission;
    use crate::route::RouteTable;

    fn tables(credentials: &[(&str, &str, Time)]) -> EdgeTables {
        let credentials = credentials.iter().map(|(id, secret, until)| TunnelCredential {
            id: id.parse().unwrap(),
            hash: SecretHash::of(&Secret::from(*secret)),
            until: *until,
        });
        let entry = TunnelEntry { credentials: credentials.collect(), ..TunnelEntry::default() };
        EdgeTables {
            hosts: RouteTable::default(),
            routes: AgentRoutes::default(),
            tunnels: SharedMap::from([("tnl_a".parse().unwrap(), entry)]),
            admission: Admission::default(),
        }
    }

    fn verify(tables: &EdgeTables, tunnel: &str, secret: &str, now: Time) -> Option<String> {
        let found = tables.verify(&tunnel.parse().unwrap(), &Secret::from(secret), now);
        found.map(|credential| credential.id.to_string())
    }

    #[test]
    fn during_a_rotation_both_secrets_are_good_and_then_one() {
        let end = Time::ZERO + Duration::from_secs(60);
        let tables = tables(&[("crd_new", "new", Time::NEVER), ("crd_old", "old", end)]);
        let before = Time::ZERO + Duration::from_secs(59);
        assert_eq!(verify(&tables, "tnl_a", "new", before).as_deref(), Some("crd_new"));
        assert_eq!(verify(&tables, "tnl_a", "old", before).as_deref(), Some("crd_old"));
        assert_eq!(verify(&tables, "tnl_a", "new", end).as_deref(), Some("crd_new"));
        assert_eq!(verify(&tables, "tnl_a", "old", end), None);
        let rotated = |secret, now| tables.was_rotated(&"tnl_a".parse().unwrap(), &Secret::from(secret), now);
        assert!(rotated("old", end) && !rotated("old", before) && !rotated("new", end) && !rotated("wrong", end));
        assert_eq!(verify(&tables, "tnl_b", "new", before), None);
        assert_eq!(verify(&tables, "tnl_a", "", before), None);
    }

    #[test]
    fn a_tunnel_without_credentials_accepts_no_secret() {
        let tables = tables(&[]);
        let of = |tunnel: &str| tables.is_revoked(&tunnel.parse().unwrap(), Time::ZERO);
        assert!(of("tnl_a") && !of("tnl_b"));
        // The empty secret, whose hash is the decoy, is refused too.
        assert_eq!(verify(&tables, "tnl_a", "", Time::ZERO), None);
        assert_eq!(verify(&tables, "tnl_b", "", Time::ZERO), None);
    }

    #[test]
    fn a_link_continues_while_its_credential_is_unchanged() {
        let tunnel: TunnelId = "tnl_a".parse().unwrap();
        let old = tables(&[("configured", "old", Time::NEVER)]);
        let credential = old.verify(&tunnel, &Secret::from("old"), Time::ZERO).unwrap().clone();
        let proof = Proof { credential, from: Some([192, 0, 2, 1].into()) };
        assert_eq!(old.status(&tunnel, &proof, Time::ZERO), CredentialStatus::Valid);
        for changed in [tables(&[("configured", "new", Time::NEVER)]), tables(&[("crd_b", "old", Time::NEVER)])] {
            assert_eq!(changed.status(&tunnel, &proof, Time::ZERO), CredentialStatus::Revoked);
        }
        let end = Time::ZERO + Duration::from_secs(1);
        let ending = tables(&[("configured", "old", end)]);
        assert_eq!(ending.status(&tunnel, &proof, Time::ZERO), CredentialStatus::Valid);
        assert_eq!(ending.status(&tunnel, &proof, end), CredentialStatus::Expired);
        assert_eq!(ending.status(&"tnl_b".parse().unwrap(), &proof, Time::ZERO), CredentialStatus::Revoked);
    }

    #[test]
    fn a_link_continues_while_its_address_is_allowed() {
        let tunnel: TunnelId = "tnl_a".parse().unwrap();
        let mut tables = tables(&[("crd_a", "secret", Time::NEVER)]);
        let credential = tables.verify(&tunnel, &Secret::from("secret"), Time::ZERO).unwrap().clone();
        let from = |address: Option<[u8; 4]>| Proof { credential: credential.clone(), from: address.map(IpAddr::from) };
        let (here, there) = (from(Some([192, 0, 2, 1])), from(Some([198, 51, 100, 1])));
        assert_eq!(tables.status(&tunnel, &there, Time::ZERO), CredentialStatus::Valid);
        let pinned = ["192.0.2.0/24".parse().unwrap()].into_iter().collect();
        tables.tunnels.get_mut(&tunnel).unwrap().connectors_from = pinned;
        assert_eq!(tables.status(&tunnel, &here, Time::ZERO), CredentialStatus::Valid);
        for elsewhere in [there, from(None)] {
            assert_eq!(tables.status(&tunnel, &elsewhere, Time::ZERO), CredentialStatus::Revoked);
        }
    }
}
