//! Exchanges tokens of callers for tokens of servers (RFC 8693), and passes these to the cores.

use std::sync::Arc;

use reqwest::{Client, StatusCode};
use tokio::time::timeout;

use crate::control::asking::keep_asking;
use crate::control::issuer_http::{ClientCredentials, FETCH_TIMEOUT, content_of, form, sent, unix_time};
use crate::identity::{
    EXCHANGE_LEN_MAX, ExchangeAnswer, ExchangedToken, TokenExchange, TokenQuestion, read_exchange_refusal,
};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// The token endpoint, the credentials for it, and the requested target.
#[derive(Clone)]
pub struct ExchangeEndpoint {
    /// The URL of the token endpoint.
    pub url: Box<str>,
    /// The credentials of this client.
    pub credentials: ClientCredentials,
    /// The name of the server at the authorization server, for requests by name.
    pub audience: Option<Box<str>>,
    /// The URL of the server (RFC 8707), for requests by URL.
    pub resource: Option<Box<str>>,
    /// The requested scopes, separated by spaces; if empty, the authorization server chooses.
    pub scopes: Box<str>,
}

/// Exchanges the tokens of calls while it is polled.
pub async fn keep_exchanging(exchange: Arc<TokenExchange>, endpoint: ExchangeEndpoint, client: Client) {
    let endpoint = Arc::new(endpoint);
    let answer = |question| answer(question, Arc::clone(&endpoint), client.clone());
    keep_asking(&exchange.answers, answer, |why| {
        tracing::warn!(
            exchange = %exchange.name, why,
            "tokens of callers cannot be exchanged: calls get 403 if the exchange is refused, and 503 otherwise"
        );
    })
    .await;
}

/// The result of an exchange.
enum Outcome {
    Exchanged(ExchangeAnswer),
    Refused(String),
}

/// Exchanges one token of a caller.
///
/// # Errors
///
/// Why the exchange failed.
async fn answer(
    question: TokenQuestion<ExchangedToken>,
    endpoint: Arc<ExchangeEndpoint>,
    client: Client,
) -> Result<(), String> {
    let url = &endpoint.url;
    let asked = timeout(FETCH_TIMEOUT, ask(&question, &endpoint, &client)).await;
    let asked = asked.unwrap_or_else(|_| Err(format!("{url}: no answer within {} s", FETCH_TIMEOUT.as_secs())));
    let now = unix_time();
    match asked {
        Ok(Outcome::Exchanged(ExchangeAnswer { token, usable })) => {
            let len = token.expose().len();
            question.accept(token, (now, now + usable), len);
            Ok(())
        }
        Ok(Outcome::Refused(code)) => {
            question.refuse(now);
            Err(format!("{url} refuses a token of a caller: {code}"))
        }
        Err(why) => {
            question.fail(now);
            Err(why)
        }
    }
}

async fn ask(
    question: &TokenQuestion<ExchangedToken>,
    endpoint: &ExchangeEndpoint,
    client: &Client,
) -> Result<Outcome, String> {
    let url = &*endpoint.url;
    // Verified tokens are visible ASCII characters.
    let token = String::from_utf8_lossy(question.token().expose());
    let mut fields = vec![
        ("grant_type", GRANT),
        ("subject_token", &*token),
        ("subject_token_type", ACCESS_TOKEN),
        ("requested_token_type", ACCESS_TOKEN),
    ];
    let asked = [("audience", endpoint.audience.as_deref()), ("resource", endpoint.resource.as_deref())];
    fields.extend(asked.into_iter().filter_map(|(name, value)| Some((name, value?))));
    if !endpoint.scopes.is_empty() {
        fields.push(("scope", &endpoint.scopes));
    }
    let answer = sent(url, form(client, url, &endpoint.credentials, &fields)).await?;
    let status = answer.status();
    if status == StatusCode::UNAUTHORIZED {
        return Err(format!("{url} answers 401: check client_id and client_secret_file"));
    }
    let content = content_of(url, answer, EXCHANGE_LEN_MAX).await?;
    match status {
        StatusCode::OK => {
            let read = ExchangeAnswer::read(&content, question.token()).map_err(|error| format!("{url}: {error}"))?;
            Ok(Outcome::Exchanged(read))
        }
        StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => {
            let code = read_exchange_refusal(&content);
            let code =
                code.ok_or_else(|| format!("{url} answers {status}: check that this client may exchange tokens"))?;
            Ok(Outcome::Refused(code))
        }
        _ => Err(format!("{url} answers {status}")),
    }
}
