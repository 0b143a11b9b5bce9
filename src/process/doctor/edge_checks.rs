use std::io;
use std::net::SocketAddr;
use std::path::Path;

use rustls_pki_types::UnixTime;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::{Config, EdgeConfig};
use crate::control::bodies::{StatusBody, TunnelLinks};
use crate::control::reachable;
use crate::engine::Reservation;
use crate::policy::AdmissionVerdict;
use crate::process::doctor::certificate::check_certificate;
use crate::process::doctor::client::{ANSWER_TIMEOUT, http_client};
use crate::process::doctor::finding::Findings;
use crate::process::doctor::limits::file_limit;
use crate::process::settings::AdmissionReader;
use crate::process::tls_files::TlsFiles;
use crate::route::HostPattern;
use crate::tls::CertInfo;

/// Checks everything that an edge depends on.
pub(super) async fn check_edge(findings: &mut Findings, config: &Config) {
    let Some(edge) = &config.edge else { return };
    // Only agents' connections count, because streams of links are not files.
    file_limit(findings, u64::from(edge.connections_max));
    let hosts: Vec<&HostPattern> = edge.tunnels.iter().flat_map(|tunnel| &tunnel.hosts).collect();
    match TlsFiles::for_agents(edge) {
        Some(files) => certificate(findings, "agents.certificate", &files, &hosts),
        None => findings.ok("agents.certificate", "none: agents speak plain HTTP"),
    }
    if let Some(files) = TlsFiles::for_connectors(edge) {
        certificate(findings, "connectors.certificate", &files, &[]);
    }
    let agents = listener(findings, "agents.listen", edge.agents_listen).await;
    listener(findings, "connectors.listen", edge.connectors_listen).await;
    admission(findings, config);
    if let Some(admin) = edge.admin_listen.filter(|_| agents) {
        links(findings, edge, reachable(admin)).await;
    }
}

/// Checks a certificate of the edge: whether it can be loaded, is valid, and covers all hosts.
fn certificate(findings: &mut Findings, check: &'static str, files: &TlsFiles<'_>, hosts: &[&HostPattern]) {
    if let Err(faults) = files.load() {
        return findings.add_faults(check, &faults);
    }
    let Some(cert) = read_certificate(&files.cert_file) else {
        return findings.fail(check, format!("{} cannot be read", files.cert_file.display()), "issue a new one");
    };
    check_certificate(findings, check, &files.cert_file.display().to_string(), &cert, UnixTime::now());
    let missing: Vec<String> =
        hosts.iter().filter(|host| !is_covered(host, &cert.names)).map(|host| host.to_string()).collect();
    if !missing.is_empty() {
        let remedy = "issue a certificate with these names; agents refuse one without them";
        findings.fail(check, format!("it does not name {}", missing.join(", ")), remedy);
    }
}

fn read_certificate(file: &Path) -> Option<CertInfo> {
    let pem = std::fs::read(file).ok()?;
    CertInfo::of_pem((&file.display().to_string(), &pem)).ok()
}

/// Whether one of the names is this host, or a wildcard that covers it.
fn is_covered(host: &HostPattern, names: &[String]) -> bool {
    let host = host.to_string();
    let host = host.trim_matches(['[', ']']);
    names.iter().any(|name| {
        let name = name.to_ascii_lowercase();
        let wild =
            || name.strip_prefix("*.").zip(host.split_once('.')).is_some_and(|(parent, (_, rest))| parent == rest);
        name == host || wild()
    })
}

/// Checks that something listens on an address, or that it is free. Returns true if something listens.
async fn listener(findings: &mut Findings, check: &'static str, address: SocketAddr) -> bool {
    if address.port() == 0 {
        findings.ok(check, format!("{address}: the system chooses a port when it starts"));
        return false;
    }
    if matches!(timeout(ANSWER_TIMEOUT, TcpStream::connect(reachable(address))).await, Ok(Ok(_))) {
        findings.ok(check, format!("{address}: something listens; the edge, if it runs"));
        return true;
    }
    match Reservation::new(address) {
        Ok(_) => findings.ok(check, format!("{address} is free; the edge does not run")),
        Err(error) => findings.fail(check, format!("{address}: {error}"), remedy_of(&error)),
    }
    false
}

fn remedy_of(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need a capability: AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit, or another port"
        }
        io::ErrorKind::AddrNotAvailable => "the address is not of this machine: choose one that is, or 0.0.0.0",
        io::ErrorKind::AddrInUse => "another program uses it: stop that program, or choose another port",
        _ => "choose another address",
    }
}

/// Checks the files of the admission rules, and that the probes of `/readyz` are admitted.
fn admission(findings: &mut Findings, config: &Config) {
    const CHECK: &str = "admission";
    let admission = match AdmissionReader::default().read(config) {
        Ok(admission) => admission,
        Err(faults) => return findings.add_faults(CHECK, &faults),
    };
    let lists = &config.admission;
    let entries = lists.allow_from.len() + lists.deny_from.len();
    findings.ok(
        CHECK,
        format!(
            "{entries} entries for agents, {} sets, {} tunnels with lists of their own",
            lists.sets.len(),
            admission.tunnels.len()
        ),
    );
    let own = reachable(config.edge.as_ref().map_or(([127, 0, 0, 1], 0).into(), |edge| edge.agents_listen)).ip();
    if matches!(admission.agents.judge(&admission.source(Some(own))), AdmissionVerdict::Denied(_)) {
        findings.warn(
            CHECK,
            format!("{own} is not admitted, and /readyz probes the path from there"),
            format!("add {own} to admission.allow_from, or accept that /readyz depends on real calls alone"),
        );
    }
}

/// Asks the running edge which tunnels have a connector.
async fn links(findings: &mut Findings, edge: &EdgeConfig, admin: SocketAddr) {
    const CHECK: &str = "tunnel.links";
    let status = match http_client(None, |builder| builder) {
        Ok(client) => read_status(&client, admin).await,
        Err(why) => Err(why),
    };
    let status = match status {
        Ok(status) => status,
        Err(why) => return findings.warn(CHECK, why, "ask the edge's admin API: /v1/status"),
    };
    // The tunnels from both the configuration and the store.
    let served = || status.tunnels.iter().map(|tunnel| &tunnel.of);
    for TunnelLinks { id, links, hosts } in served() {
        match links {
            0 => findings.warn(CHECK, format!("{id} has no connector"), "run `adit doctor` beside its connector"),
            links => findings.ok(CHECK, format!("{id} has {links} links")),
        }
        for host in hosts.iter().filter(|host| host.unserved) {
            findings.fail(
                "tunnel.hosts",
                format!("no connector of {id} has a route for {}: calls for it fail with no_route", host.host),
                "add --route or [[route]] to a connector, or remove the host from the tunnel",
            );
        }
    }
    let configured = edge.tunnels.iter().map(|tunnel| tunnel.id.as_str());
    for id in configured.filter(|id| served().all(|known| known.id != *id)) {
        findings.warn(CHECK, format!("the running edge does not know {id}"), "reload it: send it SIGHUP");
    }
}

async fn read_status(client: &reqwest::Client, admin: SocketAddr) -> Result<StatusBody, String> {
    let url = format!("http://{admin}/v1/status");
    let answer = timeout(ANSWER_TIMEOUT, client.get(&url).send()).await.map_err(|_| format!("{url}: no answer"))?;
    let answer = answer.map_err(|error| format!("{url}: {error}"))?;
    answer.json().await.map_err(|error| format!("{url}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_covers_a_host_by_its_name_or_by_a_wildcard() {
        let covered = |host: &str, names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            is_covered(&host.parse().unwrap(), &names)
        };
        assert!(covered("a.test", &["b.test", "A.test"]) && covered("a.b.test", &["*.b.test"]));
        assert!(
            covered("*.b.test", &["*.b.test"]) && covered("127.0.0.1", &["127.0.0.1"]) && covered("[::1]", &["::1"])
        );
        assert!(!covered("b.test", &["*.b.test"]) && !covered("x.a.b.test", &["*.b.test"]) && !covered("a.test", &[]));
        assert!(!covered("*.b.test", &["a.b.test"]));
    }
}
