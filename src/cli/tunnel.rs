//! `adit tunnel`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::base::Traffic;
use crate::cli::EXIT_USAGE;
use crate::cli::admin_client::{AdminClient, AdminError};
use crate::cli::run::{EXIT_FAILURE, RunError, on_control_thread};
use crate::cli::tunnel_args::{CertCommand, KeyCommand, ListArgs, TunnelArgs, TunnelCommand};
use crate::cli::tunnel_shown as shown;
use crate::config::Millis;
use crate::control::WallTime;
use crate::tls::CA_PEM_LEN_MAX;

/// What stands for a list without entries.
const NONE: &str = "none";

/// How an answer is shown to people.
type Show = Box<dyn FnOnce(&Value) -> String>;

/// Runs `adit tunnel …` and gives back the exit code.
#[must_use]
pub fn run_tunnel(args: &TunnelArgs, env: &BTreeMap<String, String>) -> u8 {
    let client = match AdminClient::new(&args.admin, env) {
        Ok(client) => client,
        Err(error) => return tell(&error),
    };
    on_control_thread(async {
        let done = run(&client, args).await;
        Ok::<u8, RunError>(match done {
            Ok(text) => {
                print!("{text}");
                0
            }
            Err(error) => tell(&error),
        })
    })
}

fn tell(error: &AdminError) -> u8 {
    eprintln!("{error}");
    match error {
        AdminError::NoToken | AdminError::BadUrl(_) | AdminError::Usage(_) => EXIT_USAGE,
        _ => EXIT_FAILURE,
    }
}

async fn run(client: &AdminClient, args: &TunnelArgs) -> Result<String, AdminError> {
    let (answer, show) = ask(client, &args.command).await?;
    Ok(if args.admin.json { format!("{answer:#}\n") } else { show(&answer) })
}

async fn ask(client: &AdminClient, command: &TunnelCommand) -> Result<(Value, Show), AdminError> {
    Ok(match command {
        TunnelCommand::Create { name, host, traffic, lists } => {
            let traffic = traffic.map(Traffic::name);
            let mut body = json!({ "display_name": name, "hosts": host, "traffic": traffic });
            add_lists(&mut body, lists)?;
            (client.post(&["tunnels"], &body).await?, Box::new(shown::created))
        }
        TunnelCommand::Update { id, name, host, traffic, lists, reason } => {
            let traffic = traffic.map(Traffic::name);
            let mut body = json!({ "display_name": name, "traffic": traffic, "reason": reason });
            if !host.is_empty() {
                body["hosts"] = json!(host);
            }
            add_lists(&mut body, lists)?;
            if body.as_object().is_some_and(|body| body.iter().all(|(key, value)| key == "reason" || value.is_null())) {
                return Err(AdminError::Usage(
                    "nothing is to be changed: `adit tunnel update --help` says what can be".into(),
                ));
            }
            (client.post(&["tunnels", id], &body).await?, Box::new(shown::tunnel))
        }
        TunnelCommand::List { all } => {
            let query = [("include_archived", all.to_string())];
            (client.list(&["tunnels"], &query).await?, Box::new(shown::tunnels))
        }
        TunnelCommand::Show { id } => (client.get(&["tunnels", id], &[]).await?, Box::new(shown::tunnel)),
        TunnelCommand::Rotate { id, overlap, reason } => {
            let body = json!({ "overlap_s": overlap.0.div_ceil(1_000), "reason": reason });
            let token = client.post(&["tunnels", id, "rotate_token"], &body).await?;
            (token, Box::new(|token| shown::with_secret(token, "-")))
        }
        TunnelCommand::Revoke { id, credential, reason, leak_report } => {
            return revoke(client, id, credential.as_deref(), reason.as_deref(), leak_report.as_deref()).await;
        }
        TunnelCommand::Archive { id, reason } => {
            let body = json!({ "reason": reason });
            (client.post(&["tunnels", id, "archive"], &body).await?, Box::new(shown::tunnel))
        }
        TunnelCommand::Connections { id } => {
            (client.get(&["tunnels", id, "connections"], &[]).await?, Box::new(shown::connections))
        }
        TunnelCommand::Usage { id, since, credential } => {
            (usage(client, id, credential.as_deref(), since.as_deref()).await?, Box::new(shown::usage))
        }
        TunnelCommand::Events { id } => {
            let query: Vec<(&str, String)> = id.iter().map(|id| ("tunnel_id", id.clone())).collect();
            (client.list(&["events"], &query).await?, Box::new(shown::events))
        }
        TunnelCommand::Cert { command } => return ask_cert(client, command).await,
        TunnelCommand::Key { command } => return ask_key(client, command).await,
    })
}

/// The lists that were given; `none` is one without entries.
fn add_lists(body: &mut Value, lists: &ListArgs) -> Result<(), AdminError> {
    let given = [
        ("--allow", "allow_from", &lists.allow),
        ("--deny", "deny_from", &lists.deny),
        ("--connectors-from", "connectors_from", &lists.connectors_from),
    ];
    for (flag, key, list) in given.into_iter().filter(|(.., list)| !list.is_empty()) {
        let empties = list.iter().any(|entry| entry == NONE);
        if empties && list.len() > 1 {
            return Err(AdminError::Usage(format!("{flag} {NONE} empties the list: give it alone")));
        }
        body[key] = if empties { json!([]) } else { json!(list) };
    }
    if let Some(dry_run) = lists.dry_run {
        body["admission_dry_run"] = json!(dry_run);
    }
    Ok(())
}

async fn ask_cert(client: &AdminClient, command: &CertCommand) -> Result<(Value, Show), AdminError> {
    let one = |certificate: &Value| shown::certificates(&json!({ "data": [certificate] }));
    Ok(match command {
        CertCommand::Add { id, file } => {
            let unreadable = |cause: String| AdminError::Usage(format!("cannot read {}: {cause}", file.display()));
            let len = std::fs::metadata(file).map_err(|error| unreadable(error.to_string()))?.len();
            if len > CA_PEM_LEN_MAX as u64 {
                return Err(unreadable(format!("longer than {CA_PEM_LEN_MAX} bytes, give one certificate")));
            }
            let pem = std::fs::read_to_string(file).map_err(|error| unreadable(error.to_string()))?;
            let body = json!({ "ca_certificate_pem": pem });
            (client.post(&["tunnels", id, "certificates"], &body).await?, Box::new(one))
        }
        CertCommand::List { id, all } => {
            let query = [("include_archived", all.to_string())];
            (client.list(&["tunnels", id, "certificates"], &query).await?, Box::new(shown::certificates))
        }
        CertCommand::Archive { id, certificate } => {
            let path = ["tunnels", id, "certificates", certificate, "archive"];
            (client.post(&path, &json!({})).await?, Box::new(one))
        }
    })
}

async fn ask_key(client: &AdminClient, command: &KeyCommand) -> Result<(Value, Show), AdminError> {
    let one = |key: &Value| shown::keys(&json!({ "data": [key] }));
    Ok(match command {
        KeyCommand::Create { name, template, host, uses, life } => {
            let body = json!({
                "display_name": name, "name_template": template, "hosts": host, "uses_max": uses,
                "life_s": life.0.div_ceil(1_000),
            });
            (client.post(&["provisioning_keys"], &body).await?, Box::new(shown::created_key))
        }
        KeyCommand::List => (client.list(&["provisioning_keys"], &[]).await?, Box::new(shown::keys)),
        KeyCommand::Show { id } => (client.get(&["provisioning_keys", id], &[]).await?, Box::new(one)),
        KeyCommand::Revoke { id } => {
            (client.post(&["provisioning_keys", id, "revoke"], &json!({})).await?, Box::new(one))
        }
    })
}

async fn revoke(
    client: &AdminClient,
    id: &str,
    credential: Option<&str>,
    reason: Option<&str>,
    leak_report: Option<&str>,
) -> Result<(Value, Show), AdminError> {
    // What is wrong with it shall be told before, not after, the secret is gone.
    leak_report.map(since_text).transpose()?;
    let body = json!({ "credential_id": credential, "reason": reason });
    let mut answer = client.post(&["tunnels", id, "revoke_token"], &body).await?;
    let Some(since) = leak_report else { return Ok((answer, Box::new(shown::revoked))) };
    answer["leak_report"] = usage(client, id, credential, Some(since)).await?;
    Ok((answer, Box::new(|answer| format!("{}\n{}", shown::revoked(answer), shown::usage(&answer["leak_report"])))))
}

async fn usage(
    client: &AdminClient,
    id: &str,
    credential: Option<&str>,
    since: Option<&str>,
) -> Result<Value, AdminError> {
    let mut query = Vec::new();
    if let Some(since) = since {
        query.push(("since", since_text(since)?));
    }
    query.extend(credential.map(|credential| ("credential_id", credential.to_owned())));
    client.get(&["tunnels", id, "usage"], &query).await
}

/// A time on, or so long ago, as a time.
fn since_text(text: &str) -> Result<String, AdminError> {
    if let Ok(time) = text.parse::<WallTime>() {
        return Ok(time.to_string());
    }
    let ago: Millis = text.parse().map_err(|_| {
        AdminError::Usage(format!(
            "{text:?} is neither a duration, such as 24h, nor a time, such as 2026-07-28T12:00:00Z"
        ))
    })?;
    Ok(WallTime::now().before(Duration::from(ago)).to_string())
}
