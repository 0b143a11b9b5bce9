//! Checks what a server that asks for authorization says about itself: its protected-resource metadata (RFC 9728).
//!
//! A server behind a tunnel knows its private address, unless it is configured otherwise. A client then requests a
//! token for that address, or does not find the authorization server at all.

use reqwest::{Client, Url};
use serde_json::Value;
use tokio::time::timeout;

use crate::control::once::chain;
use crate::process::doctor::client::ANSWER_TIMEOUT;
use crate::process::doctor::finding::Findings;
use crate::process::doctor::mcp::McpTarget;

const CHECK: &str = "upstream.oauth";
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
const REMEDY: &str = "tell the MCP server its public URL (often called base or resource URL), so that clients ask for tokens for \
                      it; if the server has no such setting, set rewrite_oauth_metadata of its route";

/// Follows the challenge of a 401 from `url` to the metadata, and compares the metadata with the host that agents call.
pub(super) async fn check_challenge(
    findings: &mut Findings,
    client: &Client,
    target: &McpTarget<'_>,
    challenge: Option<&str>,
) {
    let named = challenge.and_then(resource_metadata);
    if challenge.is_none() {
        findings.warn(
            CHECK,
            "a 401 without WWW-Authenticate: clients do not learn how to authorize",
            "let the server send WWW-Authenticate: Bearer resource_metadata=\"https://…\" (RFC 9728 section 5.1)",
        );
    }
    if let (Some(named), Some(host)) = (named.map(|named| target.as_agents_read(named)), target.public_host)
        && !has_host(&named, host)
    {
        findings.fail(CHECK, format!("the 401 sends clients to {named}, which is not on {host}"), REMEDY);
        return;
    }
    // Requests the same document from the server itself.
    let Ok(base) = Url::parse(target.url) else { return };
    let path = named.and_then(|named| Url::parse(named).ok()).map(|named| named.path().to_owned());
    let with_path = format!("{WELL_KNOWN}{}", base.path().trim_end_matches('/'));
    let mut last = "nothing was tried".to_owned();
    for path in path.into_iter().chain([with_path, WELL_KNOWN.to_owned()]) {
        let Ok(url) = base.join(&path) else { continue };
        match fetch(client, url).await {
            Ok(metadata) => return check_metadata(findings, &metadata, target),
            Err(why) => last = why,
        }
    }
    findings.warn(
        CHECK,
        format!("the server asks for authorization and has no protected-resource metadata: {last}"),
        "serve it at /.well-known/oauth-protected-resource (RFC 9728), or give clients a token by hand",
    );
}

async fn fetch(client: &Client, url: Url) -> Result<Value, String> {
    let shown = url.to_string();
    let answer = timeout(ANSWER_TIMEOUT, client.get(url).send()).await.map_err(|_| format!("{shown}: no answer"))?;
    let answer = answer.map_err(|error| chain(&error))?;
    if !answer.status().is_success() {
        return Err(format!("{shown}: {}", answer.status()));
    }
    let body = timeout(ANSWER_TIMEOUT, answer.json()).await.map_err(|_| format!("{shown}: no end"))?;
    body.map_err(|_| format!("{shown}: not JSON"))
}

/// Compares protected-resource metadata with the host that agents call, if that is known.
fn check_metadata(findings: &mut Findings, metadata: &Value, target: &McpTarget<'_>) {
    let Some(resource) = metadata["resource"].as_str() else {
        findings.fail(
            CHECK,
            "the protected-resource metadata name no resource",
            "let it name the public URL (RFC 9728)",
        );
        return;
    };
    let resource = &*target.as_agents_read(resource);
    let servers: Vec<&str> =
        metadata["authorization_servers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    match target.public_host {
        Some(host) if !has_host(resource, host) => {
            findings.fail(CHECK, format!("the server calls itself {resource}, agents call {host}"), REMEDY);
        }
        _ if !resource.starts_with("https://") => {
            findings.warn(CHECK, format!("the server calls itself {resource}, which is not https"), REMEDY);
        }
        _ if servers.is_empty() => findings.warn(
            CHECK,
            format!("{resource} names no authorization server"),
            "name one in authorization_servers (RFC 9728 section 2), or clients must know it otherwise",
        ),
        _ => findings.ok(CHECK, format!("{resource}, tokens from {}", servers.join(", "))),
    }
}

/// Whether a URL is on this host. A host that begins with `*.` matches exactly one more label.
fn has_host(url: &str, host: &str) -> bool {
    let Some(found) = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_ascii_lowercase)) else {
        return false;
    };
    match host.strip_prefix("*.") {
        Some(parent) => found.split_once('.').is_some_and(|(_, rest)| rest == parent),
        None => found == host,
    }
}

/// The value of `resource_metadata` in a challenge (RFC 9728 section 5.1).
fn resource_metadata(challenge: &str) -> Option<&str> {
    const NAME: &str = "resource_metadata=";
    let at = challenge.to_ascii_lowercase().find(NAME)?;
    let value = &challenge[at + NAME.len()..];
    match value.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => value.split([',', ' ']).next(),
    }
    .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::process::doctor::Verdict;

    fn judged(metadata: &Value, host: &str) -> (Verdict, String) {
        let mut findings = Findings::default();
        let what = String::new();
        let target = McpTarget { check: "", url: "", what, ca_flag: None, public_host: Some(host), addresses: None };
        check_metadata(&mut findings, metadata, &target);
        let finding = &findings.all()[0];
        (finding.verdict, finding.found.clone())
    }

    #[test]
    fn a_server_must_call_itself_as_agents_do() {
        let metadata = |resource: &str| json!({ "resource": resource, "authorization_servers": ["https://as.test"] });
        let good = metadata("https://orders.test/mcp");
        assert_eq!(judged(&good, "orders.test").0, Verdict::Ok);
        assert_eq!(judged(&good, "*.test").0, Verdict::Ok);
        let (verdict, found) = judged(&metadata("http://127.0.0.1:3000/mcp"), "orders.test");
        assert_eq!(verdict, Verdict::Fail);
        assert!(found.contains("http://127.0.0.1:3000/mcp") && found.contains("orders.test"), "{found}");
        assert_eq!(judged(&good, "other.test").0, Verdict::Fail);
        assert_eq!(judged(&json!({}), "orders.test").0, Verdict::Fail);
        assert_eq!(judged(&json!({ "resource": "https://orders.test/mcp" }), "orders.test").0, Verdict::Warn);
        assert_eq!(judged(&metadata("http://orders.test/mcp"), "orders.test").0, Verdict::Warn);
    }

    #[test]
    fn the_challenge_says_where_the_metadata_is() {
        let cases = [
            (r#"Bearer resource_metadata="https://a.test/x""#, Some("https://a.test/x")),
            (r#"Bearer error="x", Resource_Metadata="https://a.test/x", scope="y""#, Some("https://a.test/x")),
            ("Bearer resource_metadata=https://a.test/x, scope=y", Some("https://a.test/x")),
            ("Bearer realm=\"x\"", None),
            ("Bearer resource_metadata=\"\"", None),
        ];
        for (challenge, want) in cases {
            assert_eq!(resource_metadata(challenge), want, "{challenge}");
        }
    }
}
