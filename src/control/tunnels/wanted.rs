//! What a tunnel is to be like, as people write it.

use std::fmt::Display;
use std::str::FromStr;

use super::{Tunnels, TunnelsError};
use crate::base::Traffic;
use crate::control::store::{TUNNEL_LIST_LEN_MAX, TunnelChange};
use crate::policy::TunnelLists;

/// What a tunnel is to be like. What is none is as it was, and in a new tunnel as it is preset.
#[derive(Clone, Debug, Default)]
pub struct WantedTunnel {
    /// What people call it.
    pub display_name: Option<String>,
    /// Its hosts, each a name or `*.` and a name.
    pub hosts: Option<Vec<String>>,
    /// How its calls are carried.
    pub traffic: Option<Traffic>,
    /// From where its connectors may come: networks.
    pub connectors_from: Option<Vec<String>>,
    /// From where agents may call it: networks, AS numbers and sets.
    pub allow_from: Option<Vec<String>>,
    /// From where agents may not call it.
    pub deny_from: Option<Vec<String>>,
    /// Whether the lists for agents are only tried out.
    pub dry_run: Option<bool>,
}

impl WantedTunnel {
    /// The same, understood; hosts are nobody's in the configuration, and what lists name is known.
    pub(super) fn checked(self, tunnels: &Tunnels) -> Result<TunnelChange, TunnelsError> {
        let change = TunnelChange {
            display_name: self.display_name,
            hosts: self.hosts.map(|hosts| tunnels.checked_hosts(&hosts)).transpose()?,
            traffic: self.traffic,
            connectors_from: list("connectors_from", self.connectors_from)?,
            allow_from: list("allow_from", self.allow_from)?,
            deny_from: list("deny_from", self.deny_from)?,
            dry_run: self.dry_run,
        };
        match tunnels.serving.unmet(&change.lists(TunnelLists::default())) {
            Some(unmet) => Err(TunnelsError::Invalid(unmet.to_string())),
            None => Ok(change),
        }
    }
}

fn list<T: FromStr<Err: Display>>(name: &str, texts: Option<Vec<String>>) -> Result<Option<Vec<T>>, TunnelsError> {
    let Some(texts) = texts else { return Ok(None) };
    if texts.len() > TUNNEL_LIST_LEN_MAX {
        let more = format!("{name} has at most {TUNNEL_LIST_LEN_MAX} entries: put more into a set of the edge");
        return Err(TunnelsError::Invalid(more));
    }
    let parsed = texts.iter().map(|text| text.parse().map_err(|error| invalid(name, &error)));
    parsed.collect::<Result<Vec<T>, TunnelsError>>().map(Some)
}

fn invalid(name: &str, why: &dyn Display) -> TunnelsError {
    TunnelsError::Invalid(format!("{name}: {why}"))
}
