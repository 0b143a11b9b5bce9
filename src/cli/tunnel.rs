//! `adit tunnel`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::base::{Secret, TunnelId, plain_text};
use crate::cli::EXIT_USAGE;
use crate::cli::admin_args::AdminArgs;
use crate::cli::admin_client::{AdminClient, AdminError};
use crate::cli::output::print;
use crate::cli::run::{EXIT_FAILURE, RunError, on_control_thread};
use crate::cli::tunnel_args::{CertCommand, Dialect, KeyCommand, ListArgs, TunnelArgs, TunnelCommand};
use crate::cli::tunnel_text as text;
use crate::config::Millis;
use crate::control::WallTime;
use crate::control::bodies::{
    AddCertificate, CertificateInfo, ConnectionInfo, CreateKey, CreateTunnel, CreatedKey, CreatedTunnel, EventInfo,
    HostPatternText, IssuedToken, KeyInfo, ListPart, MemberText, NamedHostText, NetworkText, Reason, Revocation,
    RevokeToken, RotateToken, TunnelInfo, UpdateTunnel, UpdatedTunnel, UsageReport,
};
use crate::tls::CA_PEM_LEN_MAX;
use crate::wire::cloudflared::{TunnelCredentials, TunnelUuid};

/// The word for an empty list.
const NONE: &str = "none";

/// Runs `adit tunnel …` and returns the exit code.
#[must_use]
pub fn run_tunnel(args: &TunnelArgs, env: &BTreeMap<String, String>) -> u8 {
    let client = match AdminClient::new(&args.admin, env) {
        Ok(client) => client,
        Err(error) => return report(&error),
    };
    let commands = Commands { client, admin: args.admin.clone() };
    print_answer(commands.run(&args.command))
}

/// Runs a request to the admin API on the control thread, prints the result, and returns the exit code.
pub(super) fn print_answer(command: impl Future<Output = Result<String, AdminError>>) -> u8 {
    on_control_thread(async {
        Ok::<u8, RunError>(match command.await {
            Ok(text) => {
                print(&text);
                0
            }
            Err(error) => report(&error),
        })
    })
}

/// Prints an error, and returns its exit code.
pub(super) fn report(error: &AdminError) -> u8 {
    eprintln!("{error}{}", error.page());
    match error {
        AdminError::NoToken | AdminError::BadUrl(_) | AdminError::Usage(_) => EXIT_USAGE,
        _ => EXIT_FAILURE,
    }
}

/// The commands, over the admin API of one edge.
struct Commands {
    client: AdminClient,
    /// How the API is reached, and whether responses are printed as JSON.
    admin: AdminArgs,
}

/// A revocation, with the usage before it.
#[derive(Serialize)]
struct RevocationWithReport<'a> {
    #[serde(flatten)]
    revocation: &'a Revocation,
    leak_report: &'a UsageReport,
}

/// An answer of the API, with its token in the form of cloudflared.
#[derive(Serialize)]
struct WithToken<'a, T> {
    #[serde(flatten)]
    answer: &'a T,
    cloudflared_token: &'a str,
}

impl Commands {
    /// Runs one command; returns what it prints.
    async fn run(&self, command: &TunnelCommand) -> Result<String, AdminError> {
        let client = &self.client;
        Ok(match command {
            TunnelCommand::Create { name, host, traffic, dialect, lists } => {
                let body = CreateTunnel {
                    display_name: name.clone(),
                    hosts: host.iter().cloned().map(HostPatternText).collect(),
                    traffic: traffic.map(Into::into),
                    connectors_from: list("--connectors-from", &lists.connectors_from, NetworkText)?,
                    allow_from: list("--allow", &lists.allow, MemberText)?,
                    deny_from: list("--deny", &lists.deny, MemberText)?,
                    admission_dry_run: lists.dry_run,
                };
                let created: CreatedTunnel = client.post(&["tunnels"], &body).await?;
                match cloudflared_token(*dialect, &created.token)? {
                    Some(token) => self.output(&WithToken { answer: &created, cloudflared_token: &token }, |with| {
                        text::created_for_cloudflared(with.answer, &token)
                    }),
                    None => self.output(&created, |created| text::created(created, &self.admin)),
                }
            }
            TunnelCommand::Update { id, name, host, traffic, lists, reason } => {
                let body = UpdateTunnel { reason: reason.clone(), ..update(name, host, *traffic, lists)? };
                let updated: UpdatedTunnel = client.post(&["tunnels", id], &body).await?;
                self.output(&updated, text::updated)
            }
            TunnelCommand::List { all } => {
                let query = [("include_archived", all.to_string())];
                let tunnels: ListPart<TunnelInfo> = client.list(&["tunnels"], &query).await?;
                self.output(&tunnels, |tunnels| text::tunnels(&tunnels.data))
            }
            TunnelCommand::Show { id } => {
                let tunnel: TunnelInfo = client.get(&["tunnels", id], &[]).await?;
                self.output(&tunnel, text::tunnel)
            }
            TunnelCommand::Rotate { id, overlap, dialect, reason } => {
                let body = RotateToken { overlap_s: Some(overlap.0.div_ceil(1_000)), reason: reason.clone() };
                let token: IssuedToken = client.post(&["tunnels", id, "rotate_token"], &body).await?;
                if let Some(of_cloudflared) = cloudflared_token(*dialect, &token)? {
                    let with = WithToken { answer: &token, cloudflared_token: &of_cloudflared };
                    return Ok(self.output(&with, |with| text::cloudflared_token(with.answer, &of_cloudflared)));
                }
                // The new secret is printed even if the tunnel cannot be read.
                let tunnel = self.client.get::<TunnelInfo>(&["tunnels", id], &[]).await.ok();
                self.output(&token, |token| text::token(token, tunnel.as_ref()))
            }
            TunnelCommand::Revoke { id, credential, reason, leak_report } => {
                self.revoke(id, credential.as_deref(), reason.clone(), leak_report.as_deref()).await?
            }
            TunnelCommand::Archive { id, reason } => {
                let body = Reason { reason: reason.clone() };
                let tunnel: TunnelInfo = client.post(&["tunnels", id, "archive"], &body).await?;
                self.output(&tunnel, text::tunnel)
            }
            TunnelCommand::Connections { id } => {
                let links: ListPart<ConnectionInfo> = client.get(&["tunnels", id, "connections"], &[]).await?;
                self.output(&links, |links| text::connections(&links.data))
            }
            TunnelCommand::Usage { id, since, credential } => {
                let usage = self.usage(id, credential.as_deref(), since.as_deref()).await?;
                self.output(&usage, text::usage)
            }
            TunnelCommand::Events { id } => {
                let query: Vec<(&str, String)> = id.iter().map(|id| ("tunnel_id", id.clone())).collect();
                let events: ListPart<EventInfo> = client.list(&["events"], &query).await?;
                self.output(&events, |events| text::events(&events.data))
            }
            TunnelCommand::Cert { command } => self.run_cert(command).await?,
            TunnelCommand::Key { command } => self.run_key(command).await?,
        })
    }

    async fn run_cert(&self, command: &CertCommand) -> Result<String, AdminError> {
        let client = &self.client;
        let certificate: CertificateInfo = match command {
            CertCommand::Add { id, file } => {
                let body = AddCertificate { ca_certificate_pem: read_certificate(file)? };
                client.post(&["tunnels", id, "certificates"], &body).await?
            }
            CertCommand::List { id, all } => {
                let query = [("include_archived", all.to_string())];
                let listed: ListPart<CertificateInfo> = client.list(&["tunnels", id, "certificates"], &query).await?;
                return Ok(self.output(&listed, |listed| text::certificates(&listed.data)));
            }
            CertCommand::Archive { id, certificate } => {
                client.post(&["tunnels", id, "certificates", certificate, "archive"], &Reason::default()).await?
            }
        };
        Ok(self.output(&certificate, |certificate| text::certificates(std::slice::from_ref(certificate))))
    }

    async fn run_key(&self, command: &KeyCommand) -> Result<String, AdminError> {
        let client = &self.client;
        let key: KeyInfo = match command {
            KeyCommand::Create { name, template, host, uses, life } => {
                let body = CreateKey {
                    display_name: name.clone(),
                    name_template: Some(template.clone()),
                    hosts: host.iter().cloned().map(NamedHostText).collect(),
                    uses_max: (*uses).into(),
                    life_s: Some(life.0.div_ceil(1_000)),
                };
                let created: CreatedKey = client.post(&["provisioning_keys"], &body).await?;
                return Ok(self.output(&created, text::created_key));
            }
            KeyCommand::List => {
                let listed: ListPart<KeyInfo> = client.list(&["provisioning_keys"], &[]).await?;
                return Ok(self.output(&listed, |listed| text::keys(&listed.data)));
            }
            KeyCommand::Show { id } => client.get(&["provisioning_keys", id], &[]).await?,
            KeyCommand::Revoke { id } => client.post(&["provisioning_keys", id, "revoke"], &Reason::default()).await?,
        };
        Ok(self.output(&key, |key| text::keys(std::slice::from_ref(key))))
    }

    async fn revoke(
        &self,
        id: &str,
        credential: Option<&str>,
        reason: Option<String>,
        leak_report: Option<&str>,
    ) -> Result<String, AdminError> {
        // Checks the time first, so that a malformed one is reported before the secret is revoked.
        leak_report.map(since_text).transpose()?;
        let body = RevokeToken { credential_id: credential.map(str::to_owned), reason };
        let revocation: Revocation = self.client.post(&["tunnels", id, "revoke_token"], &body).await?;
        let Some(since) = leak_report else { return Ok(self.output(&revocation, text::revoked)) };
        let usage = self.usage(id, credential, Some(since)).await?;
        let both = RevocationWithReport { revocation: &revocation, leak_report: &usage };
        Ok(self.output(&both, |both| format!("{}\n{}", text::revoked(both.revocation), text::usage(both.leak_report))))
    }

    async fn usage(&self, id: &str, credential: Option<&str>, since: Option<&str>) -> Result<UsageReport, AdminError> {
        let mut query = Vec::new();
        if let Some(since) = since {
            query.push(("since", since_text(since)?));
        }
        query.extend(credential.map(|credential| ("credential_id", credential.to_owned())));
        self.client.get(&["tunnels", id, "usage"], &query).await
    }

    /// Formats a response, as JSON or for people.
    fn output<T: Serialize>(&self, answer: &T, for_people: impl FnOnce(&T) -> String) -> String {
        if !self.admin.json {
            return for_people(answer);
        }
        let json = serde_json::to_string_pretty(answer).expect("the bodies of the API are plain data");
        format!("{json}\n")
    }
}

/// The token in the form of cloudflared, if that is the dialect. The tunnel's id stands in it for the account.
fn cloudflared_token(dialect: Dialect, issued: &IssuedToken) -> Result<Option<String>, AdminError> {
    if dialect != Dialect::Cloudflared {
        return Ok(None);
    }
    let tunnel: TunnelId = issued.tunnel_id.parse().map_err(|_| {
        AdminError::Usage(
            "the id in the answer of the edge is malformed: use the same version of adit here and at the edge".into(),
        )
    })?;
    let credentials = TunnelCredentials {
        account: issued.tunnel_id.clone(),
        tunnel: TunnelUuid::of_tunnel(&tunnel),
        secret: Secret::from(&*issued.secret),
        endpoint: None,
    };
    Ok(Some(credentials.token()))
}

/// The changes of a tunnel, of which there must be at least one.
fn update(
    name: &Option<String>,
    host: &[String],
    traffic: Option<crate::base::Traffic>,
    lists: &ListArgs,
) -> Result<UpdateTunnel, AdminError> {
    let body = UpdateTunnel {
        display_name: name.clone(),
        hosts: (!host.is_empty()).then(|| host.iter().cloned().map(HostPatternText).collect()),
        traffic: traffic.map(Into::into),
        connectors_from: list("--connectors-from", &lists.connectors_from, NetworkText)?,
        allow_from: list("--allow", &lists.allow, MemberText)?,
        deny_from: list("--deny", &lists.deny, MemberText)?,
        admission_dry_run: lists.dry_run,
        reason: None,
    };
    if body == UpdateTunnel::default() {
        let remedy = "nothing to change: `adit tunnel update --help` lists what can be changed";
        return Err(AdminError::Usage(remedy.into()));
    }
    Ok(body)
}

/// Parses a list; `none` alone makes it empty.
fn list<T>(flag: &str, given: &[String], entry: fn(String) -> T) -> Result<Option<Vec<T>>, AdminError> {
    if given.is_empty() {
        return Ok(None);
    }
    if !given.iter().any(|entry| entry == NONE) {
        return Ok(Some(given.iter().cloned().map(entry).collect()));
    }
    if given.len() > 1 {
        return Err(AdminError::Usage(format!("{flag} {NONE} empties the list: give it alone")));
    }
    Ok(Some(Vec::new()))
}

fn read_certificate(file: &Path) -> Result<String, AdminError> {
    let unreadable = |cause: String| AdminError::Usage(format!("cannot read {}: {cause}", file.display()));
    let len = std::fs::metadata(file).map_err(|error| unreadable(error.to_string()))?.len();
    if len > CA_PEM_LEN_MAX as u64 {
        return Err(unreadable(format!("it is longer than {CA_PEM_LEN_MAX} bytes: give one certificate")));
    }
    let content = std::fs::read(file).map_err(|error| unreadable(error.to_string()))?;
    plain_text(&content).map(str::to_owned).map_err(|error| unreadable(error.to_string()))
}

/// Converts a duration before now, or a point in time, to a point in time.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_for_cloudflared_names_the_same_tunnel_and_secret() {
        let issued = IssuedToken {
            id: "crd_a".to_owned(),
            kind: "tunnel_token".to_owned(),
            tunnel_id: "tnl_a".to_owned(),
            tunnel_token: "tnl_a:adts_x".to_owned(),
            secret: "adts_x".to_owned(),
            edge: "edge.example.com:7844".to_owned(),
            previous_until: None,
        };
        assert!(matches!(cloudflared_token(Dialect::Adit, &issued), Ok(None)));
        let Ok(Some(token)) = cloudflared_token(Dialect::Cloudflared, &issued) else { panic!("there is one") };
        let read = TunnelCredentials::of_token(&token).unwrap();
        assert_eq!((read.account.as_str(), read.secret.expose()), ("tnl_a", &b"adts_x"[..]));
        assert_eq!(read.tunnel, TunnelUuid::of_tunnel(&"tnl_a".parse().unwrap()));
    }
}
