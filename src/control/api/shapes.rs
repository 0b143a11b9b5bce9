//! What goes out, as JSON.

use serde::Serialize;
use utoipa::ToSchema;

use super::wanted::TrafficWord;
use crate::base::{Secret, TunnelToken};
use crate::control::reading::LinkReading;
use crate::control::store::{Certificate, CredentialRow, Event, ProvisioningKey, Tunnel, Usage};
use crate::control::tunnels::WithSecret;
use crate::control::wall_time::WallTime;

/// How a tunnel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TunnelState {
    /// A connector is linked and takes calls.
    Online,
    /// No connector is linked.
    Offline,
    /// No credential is good: nobody can serve it until it is rotated.
    Revoked,
    /// It was given up for good.
    Archived,
}

/// A tunnel.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TunnelBody {
    /// Its id.
    #[schema(example = "tnl_abcdefghijkmnpqrstuvwxyz")]
    pub id: String,
    /// Always `tunnel`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// What people call it.
    pub display_name: Option<String>,
    /// The first of its hosts.
    pub domain: String,
    /// Its hosts.
    pub hosts: Vec<String>,
    /// How its calls are carried.
    pub traffic: TrafficWord,
    /// From where its connectors may come; from everywhere if it is empty.
    pub connectors_from: Vec<String>,
    /// From where agents may call it; from everywhere if it is empty.
    pub allow_from: Vec<String>,
    /// From where agents may not call it; stronger than `allow_from`.
    pub deny_from: Vec<String>,
    /// Whether the two lists for agents are only tried out.
    pub admission_dry_run: bool,
    /// When it was made (RFC 3339).
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was given up for good.
    #[schema(format = DateTime)]
    pub archived_at: Option<String>,
    /// How it is.
    pub state: TunnelState,
    /// Links of connectors that are up.
    pub connections: u32,
    /// Certificates that are registered with it and active.
    pub certificates_active: u32,
    /// The credentials that are good, the newest first.
    pub credentials: Vec<CredentialBody>,
    /// The provisioning key for which it was made.
    pub provisioning_key_id: Option<String>,
}

/// A credential, without its secret.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CredentialBody {
    /// Its id.
    pub id: String,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it ends, if another has taken its place.
    #[schema(format = DateTime)]
    pub until: Option<String>,
}

/// A credential with its secret, which is shown once.
#[derive(Serialize, ToSchema)]
pub struct TunnelTokenBody {
    /// The id of the credential; a rotation makes another.
    pub id: String,
    /// Always `tunnel_token`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// The tunnel.
    pub tunnel_id: String,
    /// Id and secret in one string, for `adit connect --token`.
    pub tunnel_token: String,
    /// The secret alone, for `adit connect --id … --secret …`.
    pub secret: String,
    /// Where connectors dial: `HOST:PORT`.
    pub edge: String,
    /// When the credential ends that this one replaces, if one does.
    #[schema(format = DateTime)]
    pub previous_until: Option<String>,
}

/// A tunnel that was just made.
#[derive(Serialize, ToSchema)]
pub struct CreatedBody {
    /// The tunnel.
    #[serde(flatten)]
    pub tunnel: TunnelBody,
    /// Its first credential. This is the one time that the secret is shown.
    pub token: TunnelTokenBody,
    /// What was done and may not have been meant, for people: where its hosts and those of other tunnels overlap.
    pub warnings: Vec<String>,
}

/// A tunnel that was just changed.
#[derive(Serialize, ToSchema)]
pub struct UpdatedBody {
    /// The tunnel.
    #[serde(flatten)]
    pub tunnel: TunnelBody,
    /// What was done and may not have been meant, for people: where its new hosts and those of other tunnels overlap.
    pub warnings: Vec<String>,
}

/// What revoking did.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RevokedBody {
    /// Always `tunnel_revocation`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// The tunnel as it is now.
    pub tunnel: TunnelBody,
    /// How many links were ended.
    pub links_ended: u32,
    /// How many cores did not say within the time that they had done so. They are told again.
    pub cores_silent: u32,
}

/// The certificate of an authority that is registered with a tunnel.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CertificateBody {
    /// Its id.
    #[schema(example = "tcrt_abcdefghijkmnpqrstuvwxyz")]
    pub id: String,
    /// Always `tunnel_certificate`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// The tunnel.
    pub tunnel_id: String,
    /// SHA-256 of the certificate (DER), in hexadecimal.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub fingerprint: String,
    /// When it was registered.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// The end of its validity.
    #[schema(format = DateTime)]
    pub expires_at: String,
    /// When it was taken out of use.
    #[schema(format = DateTime)]
    pub archived_at: Option<String>,
}

/// A link of a connector.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConnectionBody {
    /// Its number, unlike that of any other link of this process.
    pub id: u64,
    /// Always `tunnel_connection`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// The core that carries it.
    pub core: u16,
    /// The credential that it came in with.
    pub credential_id: Option<String>,
    /// What the connector says that it runs.
    pub software: String,
    /// Calls that are under way on it.
    pub calls: u32,
    /// Its own round trip, when it was measured, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// For how long it has been there, in seconds.
    pub age_s: f64,
    /// Whether it takes no new calls.
    pub draining: bool,
}

/// Something that was done.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct EventBody {
    /// Its place in the order of events.
    pub id: i64,
    /// Always `event`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// When.
    #[schema(format = DateTime)]
    pub at: String,
    /// What: `tunnel.created`, `credential.revoked` and so on.
    pub what: String,
    /// Which tunnel is concerned.
    pub tunnel_id: Option<String>,
    /// What else is concerned: a credential, a certificate, a provisioning key.
    pub subject_id: Option<String>,
    /// Why, in the words of whoever did it.
    pub reason: Option<String>,
}

/// What was called over a tunnel's links.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UsageBody {
    /// Always `tunnel_usage`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// The tunnel.
    pub tunnel_id: String,
    /// From when on; calls count from the beginning of that hour.
    #[schema(format = DateTime)]
    pub since: String,
    /// All calls together.
    pub calls: u64,
    /// By credential and what was called, the latest first.
    pub data: Vec<UsageLineBody>,
}

/// How often one thing was called.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct UsageLineBody {
    /// The credential with which the link came in.
    pub credential_id: String,
    /// The route.
    pub route: String,
    /// The MCP method, or what stands for it.
    pub method: String,
    /// The tool; null for other methods.
    pub tool: Option<String>,
    /// How many calls.
    pub calls: u64,
    /// When the first of them ended.
    #[schema(format = DateTime)]
    pub first_at: String,
    /// When the last of them ended.
    #[schema(format = DateTime)]
    pub last_at: String,
}

/// A provisioning key, without its secret.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct KeyBody {
    /// Its id.
    #[schema(example = "pkey_abcdefghijkmnpqrstuvwxyz")]
    pub id: String,
    /// Always `provisioning_key`.
    #[serde(rename = "type")]
    #[schema(rename = "type")]
    pub kind: String,
    /// What people call it.
    pub display_name: Option<String>,
    /// What the names of hosts must look like.
    pub name_template: String,
    /// The hosts of each tunnel, with `{name}` for the host's name.
    pub hosts: Vec<String>,
    /// How many hosts may use it.
    pub uses_max: u32,
    /// How many did.
    pub uses: u32,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it ends.
    #[schema(format = DateTime)]
    pub expires_at: String,
    /// When it was withdrawn.
    #[schema(format = DateTime)]
    pub revoked_at: Option<String>,
    /// Whether it can be used.
    pub good: bool,
}

/// A provisioning key that was just made.
#[derive(Serialize, ToSchema)]
pub struct CreatedKeyBody {
    /// The key.
    #[serde(flatten)]
    pub key: KeyBody,
    /// Its secret. This is the one time that it is shown.
    pub secret: String,
    /// Where connectors dial: `HOST:PORT`.
    pub edge: String,
}

impl TunnelBody {
    pub(super) fn of(tunnel: Tunnel, connections: u32) -> TunnelBody {
        let now = WallTime::now();
        let credentials: Vec<CredentialBody> = tunnel.good_credentials(now).map(CredentialBody::of).collect();
        let state = match (tunnel.archived_at, credentials.is_empty(), connections) {
            (Some(_), ..) => TunnelState::Archived,
            (None, true, _) => TunnelState::Revoked,
            (None, false, 0) => TunnelState::Offline,
            (None, false, _) => TunnelState::Online,
        };
        TunnelBody {
            id: tunnel.id.to_string(),
            kind: "tunnel".to_owned(),
            display_name: tunnel.display_name,
            domain: tunnel.hosts.first().map(ToString::to_string).unwrap_or_default(),
            hosts: texts(&tunnel.hosts),
            traffic: tunnel.traffic.into(),
            connectors_from: texts(&tunnel.lists.connectors_from),
            allow_from: texts(&tunnel.lists.allow_from),
            deny_from: texts(&tunnel.lists.deny_from),
            admission_dry_run: tunnel.lists.dry_run,
            created_at: tunnel.created_at.to_string(),
            archived_at: shown(tunnel.archived_at),
            state,
            connections,
            certificates_active: u32::try_from(tunnel.authorities.len()).unwrap_or(u32::MAX),
            credentials,
            provisioning_key_id: tunnel.provisioning_key,
        }
    }
}

impl CredentialBody {
    fn of(row: &CredentialRow) -> CredentialBody {
        CredentialBody { id: row.id.to_string(), created_at: row.created_at.to_string(), until: shown(row.until) }
    }
}

impl TunnelTokenBody {
    pub(super) fn of(made: &WithSecret, edge: &str) -> TunnelTokenBody {
        let token = TunnelToken { id: made.tunnel.id.clone(), secret: made.secret.clone() };
        let before = made.tunnel.good_credentials(WallTime::now()).find(|row| row.id != made.credential);
        TunnelTokenBody {
            id: made.credential.to_string(),
            kind: "tunnel_token".to_owned(),
            tunnel_id: made.tunnel.id.to_string(),
            tunnel_token: text(&token.text()),
            secret: text(&made.secret),
            edge: edge.to_owned(),
            previous_until: before.and_then(|row| shown(row.until)),
        }
    }
}

impl CertificateBody {
    pub(super) fn of(certificate: Certificate) -> CertificateBody {
        CertificateBody {
            id: certificate.id,
            kind: "tunnel_certificate".to_owned(),
            tunnel_id: certificate.tunnel.to_string(),
            fingerprint: certificate.fingerprint,
            created_at: certificate.created_at.to_string(),
            expires_at: certificate.expires_at.to_string(),
            archived_at: shown(certificate.archived_at),
        }
    }
}

impl ConnectionBody {
    pub(super) fn of(link: &LinkReading) -> ConnectionBody {
        ConnectionBody {
            id: link.id,
            kind: "tunnel_connection".to_owned(),
            core: link.core.0,
            credential_id: link.credential.clone(),
            software: link.peer.clone(),
            calls: u32::try_from(link.streams).unwrap_or(u32::MAX),
            round_trip_ms: link.round_trip.map(|round_trip| round_trip.as_secs_f64() * 1e3),
            age_s: link.age.as_secs_f64(),
            draining: link.draining,
        }
    }
}

impl EventBody {
    pub(super) fn of(event: Event) -> EventBody {
        EventBody {
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

impl UsageLineBody {
    pub(super) fn of(usage: Usage) -> UsageLineBody {
        UsageLineBody {
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

impl KeyBody {
    pub(super) fn of(key: ProvisioningKey) -> KeyBody {
        let good = key.is_good(WallTime::now());
        KeyBody {
            id: key.id,
            kind: "provisioning_key".to_owned(),
            display_name: key.display_name,
            name_template: key.name_template,
            hosts: key.hosts,
            uses_max: key.uses_max,
            uses: key.uses,
            created_at: key.created_at.to_string(),
            expires_at: key.expires_at.to_string(),
            revoked_at: shown(key.revoked_at),
            good,
        }
    }
}

/// A secret as it is shown to whoever asked for it.
pub(super) fn text(secret: &Secret) -> String {
    String::from_utf8_lossy(secret.expose()).into_owned()
}

pub(super) fn texts<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn shown(time: Option<WallTime>) -> Option<String> {
    time.map(|time| time.to_string())
}
