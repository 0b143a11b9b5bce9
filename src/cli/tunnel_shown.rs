//! The edge's answers about tunnels, for people.

use serde_json::Value;

use crate::cli::table::Table;

/// Tunnels as a table.
pub(super) fn tunnels(list: &Value) -> String {
    let mut table = Table::new(["ID", "STATE", "LINKS", "NAME", "HOSTS"]);
    for tunnel in rows(list) {
        table.row([
            text(tunnel, "id"),
            text(tunnel, "state"),
            text(tunnel, "connections"),
            text(tunnel, "display_name"),
            hosts(tunnel),
        ]);
    }
    table.text("there are no tunnels: make one with `adit tunnel create`")
}

/// One tunnel, a line for each thing.
pub(super) fn tunnel(tunnel: &Value) -> String {
    let mut lines = vec![("id", text(tunnel, "id"))];
    lines.push(("name", text(tunnel, "display_name")));
    lines.push(("state", text(tunnel, "state")));
    lines.push(("hosts", hosts(tunnel)));
    lines.push(("traffic", text(tunnel, "traffic")));
    let tried = if tunnel["admission_dry_run"] == true { " (tried out only)" } else { "" };
    for (name, key) in [("allowed from", "allow_from"), ("denied from", "deny_from")] {
        if let Some(list) = joined(tunnel, key) {
            lines.push((name, format!("{list}{tried}")));
        }
    }
    lines.push(("linked from", joined(tunnel, "connectors_from").unwrap_or_else(|| "-".to_owned())));
    lines.push(("links", text(tunnel, "connections")));
    lines.push(("made", text(tunnel, "created_at")));
    lines.push(("archived", text(tunnel, "archived_at")));
    lines.push(("key", text(tunnel, "provisioning_key_id")));
    lines.push(("certificates", text(tunnel, "certificates_active")));
    for credential in tunnel["credentials"].as_array().into_iter().flatten() {
        let until = credential["until"].as_str().map(|until| format!(", ends {until}")).unwrap_or_default();
        lines.push((
            "credential",
            format!("{}, made {}{until}", text(credential, "id"), text(credential, "created_at")),
        ));
    }
    for warning in tunnel["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        lines.push(("warning", warning.chars().filter(|c| !c.is_control()).collect()));
    }
    lines.iter().filter(|(_, value)| value != "-").map(|(name, value)| format!("{name:<13}{value}\n")).collect()
}

/// A tunnel that was just made, with its secret and what to do next.
pub(super) fn created(created: &Value) -> String {
    format!("{}{}{}", tunnel(created), with_secret(&created["token"], &hosts(created)), sealing(created))
}

/// What is to be done besides where the edge is not to carry calls as they are.
fn sealing(created: &Value) -> String {
    let traffic = created["traffic"].as_str().unwrap_or_default();
    let then = match traffic {
        "resealed" => format!("register it:\n\n  adit tunnel cert add {} seal-ca.pem\n", text(created, "id")),
        "passthrough" => "have agents trust it.\n".to_owned(),
        _ => return String::new(),
    };
    format!("\nWith --traffic {traffic} --state-dir DIR the connector makes an authority there, seal-ca.pem; {then}")
}

/// A secret that was just made, and what to do with it.
pub(super) fn with_secret(token: &Value, hosts: &str) -> String {
    let host = hosts.split(',').map(str::trim).find(|host| !host.is_empty() && *host != "-").unwrap_or("HOST");
    let until = match token["previous_until"].as_str() {
        Some(until) => format!("\nThe old secret ends at {until}: replace it on every connector before.\n"),
        None => String::new(),
    };
    format!(
        "secret       {}\ntoken        {}\n\nThey are shown this once: the edge keeps only a hash. On the host of the \
         connector\n\n  umask 077; cat > tunnel.token    # paste the token, then Ctrl-D\n  adit connect --edge {} --token-file tunnel.token --route {host}=http://127.0.0.1:3000\n{until}",
        text(token, "secret"),
        text(token, "tunnel_token"),
        text(token, "edge"),
    )
}

/// What revoking did.
pub(super) fn revoked(answer: &Value) -> String {
    let silent = match answer["cores_silent"].as_u64() {
        None | Some(0) => String::new(),
        Some(silent) => format!("{silent} cores did not say so in time; they are told again\n"),
    };
    format!(
        "{} is {}: {} links were ended\n{silent}",
        text(&answer["tunnel"], "id"),
        text(&answer["tunnel"], "state"),
        text(answer, "links_ended")
    )
}

/// Links as a table.
pub(super) fn connections(list: &Value) -> String {
    let mut table = Table::new(["LINK", "CORE", "STATE", "CALLS", "ROUND TRIP", "UP FOR", "CREDENTIAL", "SOFTWARE"]);
    for link in rows(list) {
        let state = if link["draining"] == true { "draining" } else { "up" };
        let round_trip = link["round_trip_ms"].as_f64().map_or("-".to_owned(), |ms| format!("{ms:.2} ms"));
        table.row([
            text(link, "id"),
            text(link, "core"),
            state.to_owned(),
            text(link, "calls"),
            round_trip,
            link["age_s"].as_f64().map_or("-".to_owned(), |age| format!("{age:.0} s")),
            text(link, "credential_id"),
            text(link, "software"),
        ]);
    }
    table.text("no connector is linked")
}

/// What was called, as a table.
pub(super) fn usage(answer: &Value) -> String {
    let mut table = Table::new(["CREDENTIAL", "ROUTE", "METHOD", "TOOL", "CALLS", "FIRST", "LAST"]);
    for line in rows(answer) {
        table.row(
            ["credential_id", "route", "method", "tool", "calls", "first_at", "last_at"].map(|key| text(line, key)),
        );
    }
    let since = text(answer, "since");
    table.text(&format!("nothing was called since {since}"))
}

/// What was done, as a table.
pub(super) fn events(list: &Value) -> String {
    let mut table = Table::new(["AT", "WHAT", "TUNNEL", "CONCERNS", "REASON"]);
    for event in rows(list) {
        table.row(["at", "what", "tunnel_id", "subject_id", "reason"].map(|key| text(event, key)));
    }
    table.text("nothing was done")
}

/// Certificates as a table.
pub(super) fn certificates(list: &Value) -> String {
    let mut table = Table::new(["ID", "EXPIRES", "ARCHIVED", "SHA-256"]);
    for certificate in rows(list) {
        table.row(["id", "expires_at", "archived_at", "fingerprint"].map(|key| text(certificate, key)));
    }
    table.text("no certificate is registered")
}

/// Provisioning keys as a table.
pub(super) fn keys(list: &Value) -> String {
    let mut table = Table::new(["ID", "GOOD", "USED", "OF", "EXPIRES", "TEMPLATE", "HOSTS", "NAME"]);
    for key in rows(list) {
        let good = if key["good"] == true { "yes" } else { "no" };
        table.row([
            text(key, "id"),
            good.to_owned(),
            text(key, "uses"),
            text(key, "uses_max"),
            text(key, "expires_at"),
            text(key, "name_template"),
            hosts(key),
            text(key, "display_name"),
        ]);
    }
    table.text("there are no provisioning keys")
}

/// A provisioning key that was just made, with its secret.
pub(super) fn created_key(key: &Value) -> String {
    format!(
        "{}secret  {}\n\nIt is shown this once: the edge keeps only a hash. A new host whose name fits trades it for a tunnel of its \
         own, from a file of mode 0600:\n\n  adit connect --edge {} --provisioning-key-file adit.key --state-dir \
         /var/lib/adit-connect --route \"{}=http://127.0.0.1:3000\"\n",
        keys(&serde_json::json!({ "data": [key] })),
        text(key, "secret"),
        text(key, "edge"),
        key["hosts"][0].as_str().unwrap_or("HOST").replace("{name}", "$(hostname -s)"),
    )
}

fn rows(list: &Value) -> impl Iterator<Item = &Value> {
    list["data"].as_array().into_iter().flatten()
}

fn hosts(value: &Value) -> String {
    joined(value, "hosts").unwrap_or_else(|| "-".to_owned())
}

/// A list of texts in one, if there is one and it holds something.
fn joined(value: &Value, key: &str) -> Option<String> {
    let texts: Vec<&str> = value[key].as_array()?.iter().filter_map(Value::as_str).collect();
    Some(texts.join(", ")).filter(|joined| !joined.is_empty())
}

/// A member as text, without what could steer a terminal.
fn text(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.chars().filter(|c| !c.is_control()).collect(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_new_tunnel_is_shown_with_the_command_to_run() {
        let token = json!({
            "secret": "adts_s", "tunnel_token": "tnl_a:adts_s", "edge": "edge.test:7844", "previous_until": null
        });
        let answer = json!({ "id": "tnl_a", "state": "offline", "hosts": ["a.test", "*.a.test"], "token": token });
        let told = created(&answer);
        assert!(told.contains("secret       adts_s\ntoken        tnl_a:adts_s\n"), "{told}");
        assert!(
            told.contains("adit connect --edge edge.test:7844 --token-file tunnel.token --route a.test="),
            "{told}"
        );
        assert!(!told.contains("archived"), "{told}");
    }

    #[test]
    fn nothing_in_an_answer_steers_the_terminal() {
        assert_eq!(text(&json!({ "a": "x\u{1b}[2Jy\n" }), "a"), "x[2Jy");
    }
}
