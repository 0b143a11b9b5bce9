//! What a tunnel is wanted to be like, as JSON.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::{checked_name, checked_reason};
use super::error::ApiError;
use crate::base::Traffic;
use crate::control::tunnels::WantedTunnel;

/// A tunnel that is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateTunnel {
    /// What people call it.
    #[schema(min_length = 1, max_length = 255, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    display_name: Option<String>,
    /// Its hosts, each a name or `*.` and a name. Without any the edge makes one up below its `tunnel_domain`.
    #[serde(default)]
    #[schema(max_items = 64)]
    hosts: Vec<HostText>,
    /// How its calls are carried; plain without it.
    traffic: Option<TrafficWord>,
    /// From where its connectors may come: networks, or single addresses. From everywhere without any.
    #[schema(max_items = 256)]
    connectors_from: Option<Vec<NetworkText>>,
    /// From where agents may call it, besides what the edge says for all. From everywhere without any.
    #[schema(max_items = 256)]
    allow_from: Option<Vec<MemberText>>,
    /// From where agents may not call it; stronger than `allow_from`.
    #[schema(max_items = 256)]
    deny_from: Option<Vec<MemberText>>,
    /// Whether the two lists for agents only count and log whom they would turn away.
    admission_dry_run: Option<bool>,
}

/// What is to become of a tunnel. What is left out, or null, stays as it is; a list that is given takes the place of the
/// whole list.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateTunnel {
    /// What people call it.
    #[schema(min_length = 1, max_length = 255, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    display_name: Option<String>,
    /// All of its hosts.
    #[schema(min_items = 1, max_items = 64)]
    hosts: Option<Vec<HostText>>,
    /// How its calls are carried. Its connectors must be told the same.
    traffic: Option<TrafficWord>,
    /// From where its connectors may come; from everywhere if it is empty. Links that came from elsewhere end.
    #[schema(max_items = 256)]
    connectors_from: Option<Vec<NetworkText>>,
    /// From where agents may call it; from everywhere if it is empty.
    #[schema(max_items = 256)]
    allow_from: Option<Vec<MemberText>>,
    /// From where agents may not call it; stronger than `allow_from`.
    #[schema(max_items = 256)]
    deny_from: Option<Vec<MemberText>>,
    /// Whether the two lists for agents only count and log whom they would turn away.
    admission_dry_run: Option<bool>,
    /// Why, for the record.
    #[schema(min_length = 1, max_length = 500, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*$")]
    reason: Option<String>,
}

/// A host: a name, or `*.` and a name for every host of one label more.
#[derive(Deserialize, ToSchema)]
#[schema(
    max_length = 200,
    pattern = "^(\\*\\.)?([A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?\\.){0,5}[A-Za-z]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?$"
)]
struct HostText(String);

/// How a tunnel's calls are carried.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrafficWord {
    /// Under the link's TLS alone: the edge reads them.
    Plain,
    /// The edge seals each call again, in a TLS session that ends in the connector. That needs a registered certificate.
    Resealed,
    /// The agent's own TLS ends in the connector: the edge reads nothing but the name.
    Passthrough,
}

impl TrafficWord {
    fn traffic(self) -> Traffic {
        match self {
            TrafficWord::Plain => Traffic::Plain,
            TrafficWord::Resealed => Traffic::Resealed,
            TrafficWord::Passthrough => Traffic::Passthrough,
        }
    }
}

impl From<Traffic> for TrafficWord {
    fn from(traffic: Traffic) -> TrafficWord {
        match traffic {
            Traffic::Plain => TrafficWord::Plain,
            Traffic::Resealed => TrafficWord::Resealed,
            Traffic::Passthrough => TrafficWord::Passthrough,
        }
    }
}

/// A network (`10.0.0.0/8`, `fd00::/8`), or one address. No bit is set beyond its prefix.
#[derive(Deserialize, ToSchema)]
#[schema(max_length = 49, pattern = "^[0-9A-Fa-f.:]{2,45}(/[0-9]{1,3})?$")]
struct NetworkText(String);

/// A network or an address; the number of an autonomous system (`AS64500`), for which the edge needs its `asn_file`; or a set
/// of networks of the edge (`set:vendor`).
#[derive(Deserialize, ToSchema)]
#[schema(max_length = 80, pattern = "^([0-9A-Fa-f.:]{2,45}(/[0-9]{1,3})?|AS[0-9]{1,10}|set:[A-Za-z0-9._-]{1,64})$")]
struct MemberText(String);

impl CreateTunnel {
    pub(super) fn wanted(self) -> Result<WantedTunnel, ApiError> {
        Ok(WantedTunnel {
            display_name: checked_name(self.display_name)?,
            hosts: Some(self.hosts.into_iter().map(|host| host.0).collect()),
            traffic: self.traffic.map(TrafficWord::traffic),
            connectors_from: networks(self.connectors_from),
            allow_from: members(self.allow_from),
            deny_from: members(self.deny_from),
            dry_run: self.admission_dry_run,
        })
    }
}

impl UpdateTunnel {
    /// What is wanted, and why.
    pub(super) fn wanted(self) -> Result<(WantedTunnel, Option<String>), ApiError> {
        let wanted = WantedTunnel {
            display_name: checked_name(self.display_name)?,
            hosts: self.hosts.map(|hosts| hosts.into_iter().map(|host| host.0).collect()),
            traffic: self.traffic.map(TrafficWord::traffic),
            connectors_from: networks(self.connectors_from),
            allow_from: members(self.allow_from),
            deny_from: members(self.deny_from),
            dry_run: self.admission_dry_run,
        };
        Ok((wanted, checked_reason(self.reason)?))
    }
}

fn networks(texts: Option<Vec<NetworkText>>) -> Option<Vec<String>> {
    Some(texts?.into_iter().map(|text| text.0).collect())
}

fn members(texts: Option<Vec<MemberText>>) -> Option<Vec<String>> {
    Some(texts?.into_iter().map(|text| text.0).collect())
}
