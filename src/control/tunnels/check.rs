//! Validates requests, and converts them for the store.

use std::fmt::Display;
use std::str::FromStr;

use super::{Tunnels, TunnelsError};
use crate::control::bodies::{CreateTunnel, HostPatternText, MemberText, NetworkText, UpdateTunnel};
use crate::control::given_text::{checked_reason, checked_text};
use crate::control::store::{TUNNEL_LIST_LEN_MAX, TunnelChange};
use crate::policy::{Member, Network, TunnelLists};
use crate::route::HostPattern;

/// The longest display name, in characters.
const DISPLAY_NAME_LEN_MAX: usize = 255;

/// The hosts of a new tunnel, if any are given, and its admission lists.
pub(super) fn new_tunnel(
    tunnels: &Tunnels,
    body: &CreateTunnel,
) -> Result<(Option<Vec<HostPattern>>, TunnelLists), TunnelsError> {
    let hosts = hosts(tunnels, &body.hosts)?;
    let lists = TunnelLists {
        connectors_from: networks(body.connectors_from.as_deref())?.unwrap_or_default(),
        allow_from: members("allow_from", body.allow_from.as_deref())?.unwrap_or_default(),
        deny_from: members("deny_from", body.deny_from.as_deref())?.unwrap_or_default(),
        dry_run: body.admission_dry_run.unwrap_or_default(),
    };
    known(tunnels, &lists)?;
    Ok((Some(hosts).filter(|hosts| !hosts.is_empty()), lists))
}

/// Validates a change of a tunnel: its hosts must not be in the configuration, and all names in its lists must exist.
pub(super) fn change(tunnels: &Tunnels, body: UpdateTunnel) -> Result<TunnelChange, TunnelsError> {
    let change = TunnelChange {
        display_name: display_name(body.display_name)?,
        hosts: body.hosts.map(|texts| hosts(tunnels, &texts)).transpose()?,
        traffic: body.traffic.map(Into::into),
        connectors_from: networks(body.connectors_from.as_deref())?,
        allow_from: members("allow_from", body.allow_from.as_deref())?,
        deny_from: members("deny_from", body.deny_from.as_deref())?,
        dry_run: body.admission_dry_run,
    };
    if change.hosts.as_ref().is_some_and(Vec::is_empty) {
        return Err(TunnelsError::Invalid(
            "a tunnel must have at least one host: to retire the tunnel, archive it".to_owned(),
        ));
    }
    known(tunnels, &change.lists(TunnelLists::default()))?;
    Ok(change)
}

/// Checks the length and content of `reason`.
pub(super) fn reason(reason: Option<String>) -> Result<Option<String>, TunnelsError> {
    checked_reason(reason.as_ref()).map_err(|unfit| TunnelsError::Invalid(unfit.to_string()))?;
    Ok(reason)
}

/// Checks the length and content of `display_name`.
pub(super) fn display_name(name: Option<String>) -> Result<Option<String>, TunnelsError> {
    let checked = name.as_ref().map_or(Ok(()), |name| checked_text("display_name", name, DISPLAY_NAME_LEN_MAX));
    checked.map_err(|unfit| TunnelsError::Invalid(unfit.to_string()))?;
    Ok(name)
}

fn hosts(tunnels: &Tunnels, texts: &[HostPatternText]) -> Result<Vec<HostPattern>, TunnelsError> {
    tunnels.checked_hosts(texts.iter().map(|text| text.0.as_str()))
}

fn networks(texts: Option<&[NetworkText]>) -> Result<Option<Vec<Network>>, TunnelsError> {
    texts.map(|texts| list("connectors_from", texts.iter().map(|text| text.0.as_str()))).transpose()
}

fn members(name: &str, texts: Option<&[MemberText]>) -> Result<Option<Vec<Member>>, TunnelsError> {
    texts.map(|texts| list(name, texts.iter().map(|text| text.0.as_str()))).transpose()
}

fn list<'a, T: FromStr<Err: Display>>(
    name: &str,
    texts: impl ExactSizeIterator<Item = &'a str>,
) -> Result<Vec<T>, TunnelsError> {
    if texts.len() > TUNNEL_LIST_LEN_MAX {
        let remedy = format!("{name} has at most {TUNNEL_LIST_LEN_MAX} entries: put more into a set of the edge");
        return Err(TunnelsError::Invalid(remedy));
    }
    texts.map(|text| text.parse().map_err(|error| TunnelsError::Invalid(format!("{name}: {error}")))).collect()
}

/// Checks that every name in the lists exists on the edge.
fn known(tunnels: &Tunnels, lists: &TunnelLists) -> Result<(), TunnelsError> {
    match tunnels.serving.unmet(lists) {
        Some(unmet) => Err(TunnelsError::Invalid(unmet.to_string())),
        None => Ok(()),
    }
}
