//! Fetches the keys of token issuers, and passes them to the cores.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::time::{Instant, sleep_until, timeout};

use crate::control::issuer_http::{FETCH_TIMEOUT, content_of, sent, unix_time};
use crate::identity::{KEY_SET_LEN_MAX, KeySet, KeyStore, TokenIssuer};

/// The pause after a failed fetch, unless a call requests one earlier.
const RETRY_AFTER: Duration = Duration::from_secs(20);
/// The path at which an issuer publishes where its keys are (OpenID Connect Discovery 1.0 section 4, RFC 8414 section
/// 3).
const OPENID_METADATA: &str = "/.well-known/openid-configuration";
const OAUTH_METADATA: &str = "/.well-known/oauth-authorization-server";

/// The source of an issuer's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// This URL, exactly as given.
    Url(Box<str>),
    /// The URL in the metadata of the issuer.
    Discovery,
}

/// Keeps the keys of an issuer fresh while it is polled.
pub async fn keep_keys(issuer: Arc<TokenIssuer>, source: KeySource, client: Client) {
    let Some(store) = issuer.keys() else { return };
    // Keys that another task has fetched count as confirmed.
    let mut confirmed = store.keys().0.is_some().then(Instant::now);
    loop {
        let fetched = timeout(FETCH_TIMEOUT, fetch(&issuer.rules.issuer, &source, &client)).await;
        let fetched = fetched.unwrap_or_else(|_| Err(format!("no answer within {} s", FETCH_TIMEOUT.as_secs())));
        let now = unix_time();
        let next = match fetched {
            Ok(keys) => {
                let count = keys.key_count();
                if store.publish(keys, now) {
                    tracing::info!(provider = %issuer.name, keys = count, "the keys of an identity provider were read");
                }
                confirmed = Some(Instant::now());
                issuer.refresh
            }
            Err(why) => {
                store.on_failed(now);
                let known = store.keys().0.is_some();
                tracing::warn!(
                    provider = %issuer.name, why, known,
                    "the keys of an identity provider cannot be fetched; tokens signed with known keys are accepted for offline_grace_ms"
                );
                RETRY_AFTER.min(issuer.refresh)
            }
        };
        wait_for_next(&issuer, store, confirmed, Instant::now() + next).await;
    }
}

/// Waits until the next fetch is due or requested. Meanwhile keys that were not confirmed for too long are dropped.
async fn wait_for_next(issuer: &TokenIssuer, store: &KeyStore, confirmed: Option<Instant>, next: Instant) {
    loop {
        let given_up = confirmed.map(|confirmed| confirmed + issuer.grace);
        let given_up = given_up.filter(|_| store.keys().0.is_some());
        tokio::select! {
            () = sleep_until(next) => return,
            () = poll_fn(|cx| store.poll_asked(cx)) => return,
            () = sleep_until(given_up.unwrap_or(next)), if given_up.is_some() => {
                if store.lose() {
                    tracing::error!(
                        provider = %issuer.name,
                        "the keys of an identity provider could not be fetched for offline_grace_ms: calls with its tokens are \
                         answered 503"
                    );
                }
            }
        }
    }
}

async fn fetch(issuer: &str, source: &KeySource, client: &Client) -> Result<KeySet, String> {
    let discovered;
    let url = match source {
        KeySource::Url(url) => url,
        KeySource::Discovery => {
            discovered = discover(issuer, client).await?;
            &*discovered
        }
    };
    let content = read(url, client).await?;
    KeySet::parse(&content).map_err(|error| format!("{url}: {error}"))
}

/// Finds the URL of an issuer's keys in its own metadata.
async fn discover(issuer: &str, client: &Client) -> Result<Box<str>, String> {
    let base = issuer.trim_end_matches('/');
    let origin = base.find("://").map_or(0, |at| at + 3);
    let origin = base[origin..].find('/').map_or(base.len(), |at| origin + at);
    let (origin, path) = base.split_at(origin);
    let content = match read(&format!("{base}{OPENID_METADATA}"), client).await {
        Ok(content) => content,
        Err(first) => {
            let other = read(&format!("{origin}{OAUTH_METADATA}{path}"), client).await;
            other.map_err(|second| format!("{first}; {second}"))?
        }
    };
    let metadata: Value =
        serde_json::from_slice(&content).map_err(|_| format!("the metadata of {issuer} is not JSON"))?;
    // Metadata of another issuer must not be used (RFC 8414 section 3.3).
    if metadata["issuer"] != *issuer {
        return Err(format!("the metadata name the issuer {}, not {issuer}", metadata["issuer"]));
    }
    let url = metadata["jwks_uri"].as_str().ok_or_else(|| format!("the metadata of {issuer} contain no jwks_uri"))?;
    let is_safe = url.starts_with("https://") || (url.starts_with("http://") && url.starts_with(&format!("{origin}/")));
    if is_safe { Ok(url.into()) } else { Err(format!("the jwks_uri in the metadata of {issuer} is not an https URL")) }
}

async fn read(url: &str, client: &Client) -> Result<Vec<u8>, String> {
    let answer = sent(url, client.get(url)).await?;
    match answer.status() {
        StatusCode::OK => content_of(url, answer, KEY_SET_LEN_MAX).await,
        status => Err(format!("{url} answers {status}")),
    }
}
