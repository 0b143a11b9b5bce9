use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use serde_json::Value;

use crate::base::plain_text;
use crate::config::{AdmissionConfig, Config, ConfigError, ConfigErrors, Origin, read_named};
use crate::policy::{Admission, AsnTable, Member, Members, Network, Networks, Rate, Rules, Sets};

/// The longest file of networks that is accepted, in bytes.
const SET_FILE_LEN_MAX: usize = 16 << 20;
/// The most networks of one set.
const SET_NETWORKS_MAX: usize = 100_000;
/// The longest file of AS numbers that is accepted, in bytes.
const ASN_FILE_LEN_MAX: usize = 512 << 20;

/// Reads the admission rules and the files that they name. The table of AS numbers is large, so it is kept for as long
/// as its file does not change.
#[derive(Default)]
pub(crate) struct AdmissionReader {
    asns: Option<(Vec<u8>, Arc<AsnTable>)>,
}

impl AdmissionReader {
    /// Reads the admission rules, with their files of sets and of AS numbers.
    ///
    /// # Errors
    ///
    /// All faults of the files.
    pub(crate) fn read(&mut self, config: &Config) -> Result<Admission, ConfigErrors> {
        let admission = &config.admission;
        let mut faults = Vec::new();
        let sets = read_sets(admission, &mut faults);
        let asns = admission.asn_file.as_deref().and_then(|file| {
            let read = self.asns(file);
            read.map_err(|why| faults.push(ConfigError::new(Origin::Default, "admission.asn_file", why))).ok()
        });
        if !faults.is_empty() {
            return Err(ConfigErrors::new(faults));
        }
        let rules = |allow: &[Member], deny: &[Member], dry_run| {
            Rules::new(Members::of(allow, &sets), Members::of(deny, &sets), dry_run)
        };
        let tunnels = config.edge.iter().flat_map(|edge| &edge.tunnels);
        let tunnels = tunnels.filter(|tunnel| !(tunnel.allow_from.is_empty() && tunnel.deny_from.is_empty()));
        let of_tunnel = tunnels
            .map(|tunnel| (tunnel.id.clone(), rules(&tunnel.allow_from, &tunnel.deny_from, tunnel.admission_dry_run)));
        Ok(Admission {
            agents: rules(&admission.allow_from, &admission.deny_from, admission.dry_run),
            tunnels: of_tunnel.collect(),
            connectors: rules(&admission.connectors_allow_from, &admission.connectors_deny_from, admission.dry_run),
            agents_proxies: admission.agents_proxies.iter().copied().collect::<Networks>(),
            connectors_proxies: admission.connectors_proxies.iter().copied().collect::<Networks>(),
            handshakes: rate(admission.handshakes_per_min, admission.handshakes_burst),
            failed_registrations: rate(admission.failed_registrations_per_min, admission.failed_registrations_burst),
            connections_per_source: unless_zero(admission.connections_per_source_max),
            calls_per_source: unless_zero(admission.calls_per_source_max),
            strangers_per_source: unless_zero(admission.strangers_per_source_max),
            links_per_tunnel: unless_zero(admission.links_per_tunnel_max),
            asns,
            sets: Arc::new(sets),
        })
    }

    fn asns(&mut self, file: &Path) -> Result<Arc<AsnTable>, String> {
        let content = read_named(file, ASN_FILE_LEN_MAX).map_err(|error| error.to_string())?;
        let seen = digest::digest(&digest::SHA256, &content);
        if let Some((_, known)) = self.asns.as_ref().filter(|(of, _)| *of == seen.as_ref()) {
            return Ok(Arc::clone(known));
        }
        let table = AsnTable::new(content).map_err(|error| format!("{}: {error}", file.display()))?;
        let table = Arc::new(table);
        self.asns = Some((seen.as_ref().to_vec(), Arc::clone(&table)));
        Ok(table)
    }
}

fn unless_zero(max: u32) -> Option<u32> {
    Some(max).filter(|max| *max > 0)
}

fn rate(per_minute: u32, burst: u32) -> Option<Rate> {
    Rate::new(u64::from(per_minute), u64::from(burst))
}

fn read_sets(admission: &AdmissionConfig, faults: &mut Vec<ConfigError>) -> Sets {
    let mut sets = Sets::new();
    for (index, set) in admission.sets.iter().enumerate() {
        let networks = read_named(&set.file, SET_FILE_LEN_MAX).map_err(|error| error.to_string()).and_then(|content| {
            let text = plain_text(&content).map_err(|error| error.to_string());
            let networks = text.and_then(networks_of);
            networks.map_err(|why| format!("{}: {why}", set.file.display()))
        });
        match networks {
            Ok(networks) => drop(sets.insert(set.name.clone(), networks)),
            Err(why) => faults.push(ConfigError::new(Origin::Default, format!("network_set[{index}].file"), why)),
        }
    }
    sets
}

/// The networks of a file: in JSON every string that is a network, otherwise one per line.
///
/// A file without networks is refused, because an empty allow list would admit everyone.
fn networks_of(text: &str) -> Result<Vec<Network>, String> {
    let mut networks = Vec::new();
    if text.trim_start().starts_with(['{', '[']) {
        let value = serde_json::from_str(text).map_err(|error| format!("it is not well-formed JSON: {error}"))?;
        gather(&value, &mut networks);
    } else {
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if !line.is_empty() {
                networks.push(line.parse().map_err(|error| format!("line {}: {error}", index + 1))?);
            }
        }
    }
    match networks.len() {
        0 => Err("it holds no network".to_owned()),
        1..=SET_NETWORKS_MAX => Ok(networks),
        more => Err(format!("it holds {more} networks, the most is {SET_NETWORKS_MAX}")),
    }
}

fn gather(value: &Value, networks: &mut Vec<Network>) {
    match value {
        Value::String(text) => networks.extend(text.parse::<Network>()),
        Value::Array(items) => items.iter().for_each(|item| gather(item, networks)),
        Value::Object(fields) => fields.values().for_each(|field| gather(field, networks)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(text: &str) -> Result<Vec<String>, String> {
        networks_of(text).map(|networks| networks.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_file_of_networks_is_lines_or_the_json_that_vendors_publish() {
        let lines = "# vendor\n192.0.2.0/24  # one\n\n2001:db8::/32\n192.0.2.7\n";
        assert_eq!(networks(lines).unwrap(), ["192.0.2.0/24", "2001:db8::/32", "192.0.2.7/32"]);
        let json = r#"{"creationTime":"2026-01-01T00:00:00","prefixes":[{"ipv4Prefix":"192.0.2.0/24"},
                      {"ipv6Prefix":"2001:db8::/32","region":"eu"}]}"#;
        assert_eq!(networks(json).unwrap(), ["192.0.2.0/24", "2001:db8::/32"]);
        assert_eq!(networks(r#"["192.0.2.0/24"]"#).unwrap(), ["192.0.2.0/24"]);
    }

    #[test]
    fn a_file_that_says_nothing_or_nonsense_is_refused() {
        assert!(networks("192.0.2.0/24\n<html>").unwrap_err().starts_with("line 2: "));
        for empty in ["", "# none\n", "{}", "[]", r#"{"prefixes":[]}"#] {
            assert_eq!(networks(empty).unwrap_err(), "it holds no network");
        }
        assert!(networks("{").unwrap_err().contains("JSON"));
        let many = "192.0.2.1\n".repeat(SET_NETWORKS_MAX + 1);
        assert!(networks(&many).unwrap_err().contains("the most is"));
    }
}
