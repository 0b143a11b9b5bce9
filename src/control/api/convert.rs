//! Converts rows of the store and readings of cores into response bodies.

use crate::base::{Secret, TunnelToken};
use crate::control::bodies::{
    CertificateInfo, ConnectionInfo, CredentialInfo, EventInfo, IssuedToken, KeyInfo, ListPart, TunnelInfo,
    TunnelState, UsageEntry,
};
use crate::control::reading::LinkReading;
use crate::control::report::{millis, seconds};
use crate::control::store::{AuditEvent, Certificate, CredentialRow, Listed, ProvisioningKey, Tunnel, Usage};
use crate::control::tunnels::IssuedCredential;
use crate::control::wall_time::WallTime;

impl<T> ListPart<T> {
    pub(super) fn of<R>(listed: Listed<R>, convert: impl Fn(R) -> T) -> ListPart<T> {
        let next_page = listed.next.map(|seq| seq.to_string());
        ListPart { data: listed.rows.into_iter().map(convert).collect(), next_page }
    }
}

/// The links of a tunnel, and hosts that no connector serves.
#[derive(Clone, Debug, Default)]
pub(super) struct TunnelLinked {
    /// The number of established links.
    pub(super) connections: u32,
    /// The hosts for which no connector has a route.
    pub(super) hosts_unserved: Vec<String>,
}

impl TunnelInfo {
    pub(super) fn of(tunnel: Tunnel, linked: TunnelLinked) -> TunnelInfo {
        let TunnelLinked { connections, hosts_unserved } = linked;
        let now = WallTime::now();
        let credentials: Vec<CredentialInfo> = tunnel.good_credentials(now).map(CredentialInfo::of).collect();
        let state = match (tunnel.archived_at, credentials.is_empty(), connections) {
            (Some(_), ..) => TunnelState::Archived,
            (None, true, _) => TunnelState::Revoked,
            (None, false, 0) => TunnelState::Offline,
            (None, false, _) => TunnelState::Online,
        };
        TunnelInfo {
            id: tunnel.id.to_string(),
            kind: "tunnel".to_owned(),
            display_name: tunnel.display_name,
            domain: tunnel.hosts.first().map(ToString::to_string).unwrap_or_default(),
            hosts: texts(&tunnel.hosts),
            hosts_unserved,
            traffic: tunnel.traffic.into(),
            connectors_from: texts(&tunnel.lists.connectors_from),
            allow_from: texts(&tunnel.lists.allow_from),
            deny_from: texts(&tunnel.lists.deny_from),
            admission_dry_run: tunnel.lists.dry_run,
            created_at: tunnel.created_at.to_string(),
            archived_at: time_text(tunnel.archived_at),
            state,
            connections,
            certificates_active: u32::try_from(tunnel.authorities.len()).unwrap_or(u32::MAX),
            credentials,
            provisioning_key_id: tunnel.provisioning_key,
        }
    }
}

impl CredentialInfo {
    fn of(row: &CredentialRow) -> CredentialInfo {
        CredentialInfo { id: row.id.to_string(), created_at: row.created_at.to_string(), until: time_text(row.until) }
    }
}

impl IssuedToken {
    pub(super) fn of(made: &IssuedCredential, edge: &str) -> IssuedToken {
        let token = TunnelToken { id: made.tunnel.id.clone(), secret: made.secret.clone() };
        let before = made.tunnel.good_credentials(WallTime::now()).find(|row| row.id != made.credential);
        IssuedToken {
            id: made.credential.to_string(),
            kind: "tunnel_token".to_owned(),
            tunnel_id: made.tunnel.id.to_string(),
            tunnel_token: text(&token.text()),
            secret: text(&made.secret),
            edge: edge.to_owned(),
            previous_until: before.and_then(|row| time_text(row.until)),
        }
    }
}

impl CertificateInfo {
    pub(super) fn of(certificate: Certificate) -> CertificateInfo {
        CertificateInfo {
            id: certificate.id,
            kind: "tunnel_certificate".to_owned(),
            tunnel_id: certificate.tunnel.to_string(),
            fingerprint: certificate.fingerprint,
            created_at: certificate.created_at.to_string(),
            expires_at: certificate.expires_at.to_string(),
            archived_at: time_text(certificate.archived_at),
        }
    }
}

impl ConnectionInfo {
    pub(super) fn of(link: &LinkReading) -> ConnectionInfo {
        ConnectionInfo {
            id: link.id,
            kind: "tunnel_connection".to_owned(),
            core: link.core.0,
            credential_id: link.credential.clone(),
            connector: link.connector.clone(),
            hosts: link.hosts.clone(),
            software: link.peer.clone(),
            calls: u32::try_from(link.streams).unwrap_or(u32::MAX),
            round_trip_ms: link.round_trip.map(millis),
            age_s: seconds(link.age),
            draining: link.draining,
        }
    }
}

impl EventInfo {
    pub(super) fn of(event: AuditEvent) -> EventInfo {
        EventInfo {
            id: event.seq,
            kind: "event".to_owned(),
            at: event.at.to_string(),
            what: event.kind,
            tunnel_id: event.tunnel.map(|tunnel| tunnel.to_string()),
            subject_id: event.subject,
            reason: event.reason,
        }
    }
}

impl UsageEntry {
    pub(super) fn of(usage: Usage) -> UsageEntry {
        UsageEntry {
            credential_id: usage.credential.to_string(),
            route: usage.route,
            method: usage.method,
            tool: Some(usage.tool).filter(|tool| !tool.is_empty()),
            calls: usage.calls,
            first_at: usage.first.to_string(),
            last_at: usage.last.to_string(),
        }
    }
}

impl KeyInfo {
    pub(super) fn of(key: ProvisioningKey) -> KeyInfo {
        let good = key.is_good(WallTime::now());
        KeyInfo {
            id: key.id,
            kind: "provisioning_key".to_owned(),
            display_name: key.display_name,
            name_template: key.name_template,
            hosts: key.hosts,
            uses_max: key.uses_max,
            uses: key.uses,
            created_at: key.created_at.to_string(),
            expires_at: key.expires_at.to_string(),
            revoked_at: time_text(key.revoked_at),
            good,
        }
    }
}

/// A secret as text, for the one response that shows it.
pub(super) fn text(secret: &Secret) -> String {
    String::from_utf8_lossy(secret.expose()).into_owned()
}

pub(super) fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn time_text(time: Option<WallTime>) -> Option<String> {
    time.map(|time| time.to_string())
}
