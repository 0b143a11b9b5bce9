//! Formats the edge's responses about tunnels for people.

use crate::cli::admin_args::AdminArgs;
use crate::cli::command_line::{CommandLine, printable as plain};
use crate::cli::table::Table;
use crate::control::SEAL_CA_FILE;
use crate::control::bodies::{
    CertificateInfo, ConnectionInfo, CreatedKey, CreatedTunnel, EventInfo, IssuedToken, KeyInfo, Revocation,
    TrafficKind, TunnelInfo, TunnelState, UpdatedTunnel, UsageReport,
};

/// Stands for a value that does not exist.
const NOTHING: &str = "-";
/// The upstream in commands for a connector. The user replaces it with the real one.
const EXAMPLE_UPSTREAM: &str = "http://127.0.0.1:3000";
/// The port of an edge for cloudflared in commands for a connector. The user replaces it with the real one.
const CLOUDFLARED_PORT: u16 = 7845;
/// The state directory in commands for a connector, relative to where they are run.
const STATE_DIR: &str = "adit-state";

/// Tunnels as a table.
pub(super) fn tunnels(tunnels: &[TunnelInfo]) -> String {
    let mut table = Table::new(["ID", "STATE", "LINKS", "NAME", "HOSTS"]);
    for tunnel in tunnels {
        table.row([
            plain(&tunnel.id),
            state(tunnel.state).to_owned(),
            tunnel.connections.to_string(),
            optional(tunnel.display_name.as_deref()),
            joined(&tunnel.hosts),
        ]);
    }
    table.text("there are no tunnels: create one with `adit tunnel create`")
}

/// One tunnel, one property per line.
pub(super) fn tunnel(tunnel: &TunnelInfo) -> String {
    let dry_run = if tunnel.admission_dry_run { " (dry run: only counted and logged)" } else { "" };
    let from =
        |list: &[String]| if list.is_empty() { NOTHING.to_owned() } else { format!("{}{dry_run}", joined(list)) };
    let mut lines = vec![
        ("id", plain(&tunnel.id)),
        ("name", optional(tunnel.display_name.as_deref())),
        ("state", state(tunnel.state).to_owned()),
        ("hosts", joined(&tunnel.hosts)),
        ("unserved", unserved(&tunnel.hosts_unserved)),
        ("traffic", traffic(tunnel.traffic).to_owned()),
        ("allowed from", from(&tunnel.allow_from)),
        ("denied from", from(&tunnel.deny_from)),
        ("linked from", joined(&tunnel.connectors_from)),
        ("links", tunnel.connections.to_string()),
        ("created", plain(&tunnel.created_at)),
        ("archived", optional(tunnel.archived_at.as_deref())),
        ("key", optional(tunnel.provisioning_key_id.as_deref())),
        ("certificates", tunnel.certificates_active.to_string()),
    ];
    for credential in &tunnel.credentials {
        let until = credential.until.as_deref().map(|until| format!(", ends {}", plain(until))).unwrap_or_default();
        lines.push((
            "credential",
            format!("{}, created {}{until}", plain(&credential.id), plain(&credential.created_at)),
        ));
    }
    let lines = lines.iter().filter(|(_, value)| value != NOTHING);
    lines.map(|(name, value)| format!("{name:<13}{value}\n")).collect()
}

/// A tunnel that was just changed.
pub(super) fn updated(updated: &UpdatedTunnel) -> String {
    format!("{}{}", tunnel(&updated.tunnel), warnings(&updated.warnings))
}

/// A tunnel that was just created, with its secret and what to do next.
pub(super) fn created(created: &CreatedTunnel, admin: &AdminArgs) -> String {
    let CreatedTunnel { tunnel: info, token: issued, warnings: about } = created;
    format!("{}{}{}{}", tunnel(info), warnings(about), token(issued, Some(info)), sealing(info, admin))
}

fn warnings(warnings: &[String]) -> String {
    warnings.iter().map(|warning| format!("{:<13}{}\n", "warning", plain(warning))).collect()
}

/// The further steps if the traffic is encrypted up to the connector.
fn sealing(tunnel: &TunnelInfo, admin: &AdminArgs) -> String {
    let then = match tunnel.traffic {
        TrafficKind::Plain => return String::new(),
        TrafficKind::Resealed => {
            let add = CommandLine::new("adit tunnel cert add").admin(admin).word(&tunnel.id).word(SEAL_CA_FILE);
            format!("Copy its certificate, {STATE_DIR}/{SEAL_CA_FILE}, to this host and register it:\n\n  {add}\n")
        }
        TrafficKind::Passthrough => format!("Have agents trust it: {STATE_DIR}/{SEAL_CA_FILE}.\n"),
    };
    format!("\nThe connector makes an authority when it starts. {then}")
}

/// A secret that was just created, and how to use it. The command for the connector includes the hosts and the traffic
/// of the tunnel, if they are known.
pub(super) fn token(token: &IssuedToken, tunnel: Option<&TunnelInfo>) -> String {
    let until = match token.previous_until.as_deref() {
        Some(until) => {
            format!("\nThe old secret ends at {}: replace it on every connector before that.\n", plain(until))
        }
        None => String::new(),
    };
    let mut connect = CommandLine::new("adit connect").flag("--edge", &token.edge).flag("--token-file", "tunnel.token");
    if let Some(tunnel) = tunnel.filter(|tunnel| tunnel.traffic != TrafficKind::Plain) {
        connect = connect.flag("--traffic", traffic(tunnel.traffic)).flag("--state-dir", STATE_DIR);
    }
    match tunnel {
        Some(tunnel) => {
            for host in &tunnel.hosts {
                connect = connect.flag("--route", &format!("{host}={EXAMPLE_UPSTREAM}"));
            }
        }
        None => connect = connect.flag("--route", &format!("HOST={EXAMPLE_UPSTREAM}")),
    }
    format!(
        "secret       {}\ntoken        {}\n\nThey are shown only now: the edge keeps a hash. On the host of the \
         connector\n\n  (umask 077; cat > tunnel.token)    # paste the token, then Ctrl-D\n  {connect}\n{until}",
        plain(&token.secret),
        plain(&token.tunnel_token),
    )
}

/// A tunnel that was just created for connectors of cloudflared, with their token and what to do next.
pub(super) fn created_for_cloudflared(created: &CreatedTunnel, of_cloudflared: &str) -> String {
    let CreatedTunnel { tunnel: info, token, warnings: about } = created;
    format!("{}{}{}", tunnel(info), warnings(about), cloudflared_token(token, of_cloudflared))
}

/// A token for connectors of cloudflared that was just created, and how to use it.
pub(super) fn cloudflared_token(token: &IssuedToken, of_cloudflared: &str) -> String {
    let until = match token.previous_until.as_deref() {
        Some(until) => {
            format!("\nThe old secret ends at {}: replace it on every connector before that.\n", plain(until))
        }
        None => String::new(),
    };
    let host = token.edge.rsplit_once(':').map_or(token.edge.as_str(), |(host, _)| host);
    // An address that stands twice makes two connections, and keeps cloudflared from dialling it in a tight loop.
    let edge = format!("{host}:{CLOUDFLARED_PORT}");
    let run = CommandLine::new("cloudflared tunnel --no-autoupdate --no-prechecks")
        .flag("--edge", &edge)
        .flag("--edge", &edge)
        .flag("--cacert", "ca.pem")
        .word("run")
        .flag("--protocol", "http2")
        .flag("--token-file", "tunnel.token")
        .flag("--url", EXAMPLE_UPSTREAM);
    format!(
        "token        {}\n\nIt is shown only now: the edge keeps a hash. On the host of the connector\n\n  (umask 077; cat > \
         tunnel.token)    # paste the token, then Ctrl-D\n  {run}\n\nThe port is that of cloudflared_listen, and ca.pem the \
         certificate of the edge's authority.\n{until}",
        plain(of_cloudflared),
    )
}

/// The result of a revocation.
pub(super) fn revoked(revocation: &Revocation) -> String {
    let silent = match revocation.cores_silent {
        0 => String::new(),
        silent => format!("{silent} cores did not confirm it in time; they are asked again\n"),
    };
    let tunnel = &revocation.tunnel;
    let links = revocation.links_ended;
    format!("{} is {}: {links} links were ended\n{silent}", plain(&tunnel.id), state(tunnel.state))
}

/// Links as a table.
pub(super) fn connections(links: &[ConnectionInfo]) -> String {
    let mut table = Table::new([
        "LINK",
        "CORE",
        "STATE",
        "CALLS",
        "ROUND TRIP",
        "UP FOR",
        "CREDENTIAL",
        "SOFTWARE",
        "CONNECTOR",
        "HOSTS",
    ]);
    for link in links {
        table.row([
            link.id.to_string(),
            link.core.to_string(),
            if link.draining { "draining" } else { "up" }.to_owned(),
            link.calls.to_string(),
            link.round_trip_ms.map_or(NOTHING.to_owned(), |ms| format!("{ms:.2} ms")),
            format!("{:.0} s", link.age_s),
            optional(link.credential_id.as_deref()),
            plain(&link.software),
            optional(link.connector.as_deref()),
            link.hosts.as_deref().map_or_else(|| NOTHING.to_owned(), joined),
        ]);
    }
    table.text("no connector is linked")
}

/// Usage as a table.
pub(super) fn usage(usage: &UsageReport) -> String {
    let mut table = Table::new(["CREDENTIAL", "ROUTE", "METHOD", "TOOL", "CALLS", "FIRST", "LAST"]);
    for entry in &usage.data {
        table.row([
            plain(&entry.credential_id),
            plain(&entry.route),
            plain(&entry.method),
            optional(entry.tool.as_deref()),
            entry.calls.to_string(),
            plain(&entry.first_at),
            plain(&entry.last_at),
        ]);
    }
    table.text(&format!("there were no calls since {}", plain(&usage.since)))
}

/// Events as a table.
pub(super) fn events(events: &[EventInfo]) -> String {
    let mut table = Table::new(["AT", "WHAT", "TUNNEL", "CONCERNS", "REASON"]);
    for event in events {
        table.row([
            plain(&event.at),
            plain(&event.what),
            optional(event.tunnel_id.as_deref()),
            optional(event.subject_id.as_deref()),
            optional(event.reason.as_deref()),
        ]);
    }
    table.text("there are no events")
}

/// Certificates as a table.
pub(super) fn certificates(certificates: &[CertificateInfo]) -> String {
    let mut table = Table::new(["ID", "EXPIRES", "ARCHIVED", "SHA-256"]);
    for certificate in certificates {
        table.row([
            plain(&certificate.id),
            plain(&certificate.expires_at),
            optional(certificate.archived_at.as_deref()),
            plain(&certificate.fingerprint),
        ]);
    }
    table.text("no certificate is registered")
}

/// Provisioning keys as a table.
pub(super) fn keys(keys: &[KeyInfo]) -> String {
    let mut table = Table::new(["ID", "GOOD", "USED", "OF", "EXPIRES", "TEMPLATE", "HOSTS", "NAME"]);
    for key in keys {
        table.row([
            plain(&key.id),
            if key.good { "yes" } else { "no" }.to_owned(),
            key.uses.to_string(),
            key.uses_max.to_string(),
            plain(&key.expires_at),
            plain(&key.name_template),
            joined(&key.hosts),
            optional(key.display_name.as_deref()),
        ]);
    }
    table.text("there are no provisioning keys")
}

/// A provisioning key that was just created, with its secret.
pub(super) fn created_key(created: &CreatedKey) -> String {
    let mut connect = CommandLine::new("adit connect")
        .flag("--edge", &created.edge)
        .flag("--provisioning-key-file", "adit.key")
        .flag("--state-dir", STATE_DIR);
    let made_up = created.key.hosts.is_empty();
    for host in &created.key.hosts {
        let host = host.replace("{name}", "$(hostname -s)");
        connect = connect.flag_as_written("--route", &format!("\"{host}={EXAMPLE_UPSTREAM}\""));
    }
    if made_up {
        connect = connect.flag("--route", &format!("HOST={EXAMPLE_UPSTREAM}"));
    }
    let hosts = if made_up {
        "\nHOST is the host of its tunnel, which `adit tunnel list` shows after the first start.\n"
    } else {
        ""
    };
    format!(
        "{}secret  {}\n\nIt is shown only now: the edge keeps a hash. A new host whose name fits trades it for a tunnel of its \
         own:\n\n  (umask 077; cat > adit.key)    # paste the secret, then Ctrl-D\n  {connect}\n{hosts}",
        keys(std::slice::from_ref(&created.key)),
        plain(&created.secret),
    )
}

fn state(state: TunnelState) -> &'static str {
    match state {
        TunnelState::Online => "online",
        TunnelState::Offline => "offline",
        TunnelState::Revoked => "revoked",
        TunnelState::Archived => "archived",
    }
}

fn traffic(traffic: TrafficKind) -> &'static str {
    crate::base::Traffic::from(traffic).name()
}

fn joined(texts: &[String]) -> String {
    if texts.is_empty() { NOTHING.to_owned() } else { plain(&texts.join(", ")) }
}

/// Hosts for which no connector has a route, with an explanation.
fn unserved(hosts: &[String]) -> String {
    match joined(hosts) {
        hosts if hosts == NOTHING => hosts,
        hosts => format!("{hosts} (no connector has a route)"),
    }
}

fn optional(text: Option<&str>) -> String {
    text.map_or_else(|| NOTHING.to_owned(), plain)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_new_tunnel_is_shown_with_the_command_to_run() {
        let created: CreatedTunnel = serde_json::from_value(json!({
            "id": "tnl_a", "type": "tunnel", "display_name": null, "domain": "a.test", "hosts": ["a.test", "*.a.test"],
            "hosts_unserved": ["a.test"], "traffic": "plain", "connectors_from": [], "allow_from": ["10.0.0.0/8"], "deny_from": [],
            "admission_dry_run": true, "created_at": "2026-07-28T12:00:00Z", "archived_at": null, "state": "offline",
            "connections": 0, "certificates_active": 0, "credentials": [], "provisioning_key_id": null,
            "token": {
                "id": "crd_a", "type": "tunnel_token", "tunnel_id": "tnl_a", "tunnel_token": "tnl_a:adts_s",
                "secret": "adts_s", "edge": "edge.test:7844", "previous_until": null,
            },
            "warnings": ["calls for \u{1b}[2Ja.test go elsewhere"],
        }))
        .unwrap();
        let shown = super::created(&created, &AdminArgs::default());
        for line in [
            "state        offline\n",
            "unserved     a.test (no connector has a route)\n",
            "allowed from 10.0.0.0/8 (dry run: only counted and logged)\n",
            "warning      calls for [2Ja.test go elsewhere\n",
            "secret       adts_s\ntoken        tnl_a:adts_s\n",
            "adit connect --edge edge.test:7844 --token-file tunnel.token --route a.test=http://127.0.0.1:3000 \
             --route '*.a.test=http://127.0.0.1:3000'\n",
        ] {
            assert!(shown.contains(line), "{line:?} in {shown}");
        }
        assert!(!shown.contains("archived") && !shown.contains("denied"), "{shown}");
    }

    #[test]
    fn nothing_in_an_answer_controls_the_terminal() {
        assert_eq!(plain("x\u{1b}[2Jy\n"), "x[2Jy");
    }
}
