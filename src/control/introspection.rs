//! Introspects tokens at their issuers (RFC 7662), and passes the answers to the cores.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use tokio::time::timeout;

use crate::control::asking::keep_asking;
use crate::control::issuer_http::{ClientCredentials, FETCH_TIMEOUT, content_of, form, sent, unix_time};
use crate::identity::{INTROSPECTION_LEN_MAX, Introspected, TokenIssuer, TokenQuestion, read_introspection};

/// The introspection endpoint of an issuer, the credentials for it, and how long answers are cached.
#[derive(Clone)]
pub struct IntrospectionEndpoint {
    /// The URL of the endpoint.
    pub url: Box<str>,
    /// The credentials of this client.
    pub credentials: ClientCredentials,
    /// How long an active token is not introspected again.
    pub cache: Duration,
}

/// Introspects the tokens of calls at their issuer while it is polled.
pub async fn keep_introspecting(issuer: Arc<TokenIssuer>, endpoint: IntrospectionEndpoint, client: Client) {
    let Some(answers) = issuer.introspection() else { return };
    let endpoint = Arc::new(endpoint);
    let answer = |question| answer(question, Arc::clone(&endpoint), client.clone());
    keep_asking(answers, answer, |why| {
        tracing::warn!(
            provider = %issuer.name, why,
            "an identity provider does not answer introspection requests: calls whose token is not cached get 503"
        );
    })
    .await;
}

/// Introspects one token.
///
/// # Errors
///
/// Why there is no answer.
async fn answer(
    question: TokenQuestion<Introspected>,
    endpoint: Arc<IntrospectionEndpoint>,
    client: Client,
) -> Result<(), String> {
    let asked = timeout(FETCH_TIMEOUT, ask(&question, &endpoint, &client)).await;
    let asked =
        asked.unwrap_or_else(|_| Err(format!("{}: no answer within {} s", endpoint.url, FETCH_TIMEOUT.as_secs())));
    let now = unix_time();
    match asked {
        Ok(Some((claims, len))) => question.accept(claims, (now, now + endpoint.cache), len),
        Ok(None) => question.refuse(now),
        Err(why) => {
            question.fail(now);
            return Err(why);
        }
    }
    Ok(())
}

async fn ask(
    question: &TokenQuestion<Introspected>,
    endpoint: &IntrospectionEndpoint,
    client: &Client,
) -> Result<Option<(Introspected, usize)>, String> {
    let url = &*endpoint.url;
    // These tokens are visible ASCII characters.
    let token = String::from_utf8_lossy(question.token().expose());
    let fields = [("token", &*token), ("token_type_hint", "access_token")];
    let answer = sent(url, form(client, url, &endpoint.credentials, &fields)).await?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED => return Err(format!("{url} answers 401: check client_id and client_secret_file")),
        status => return Err(format!("{url} answers {status}")),
    }
    let content = content_of(url, answer, INTROSPECTION_LEN_MAX).await?;
    read_introspection(&content).map_err(|error| format!("{url}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use tokio::net::TcpListener;

    use super::*;
    use crate::base::Secret;
    use crate::control::issuer_http::issuer_client;
    use crate::identity::TokenAnswers;

    /// The endpoint accepts connections and never answers. Without a timeout the call would wait for as long as its
    /// caller, and the token would never be introspected again.
    #[tokio::test]
    async fn an_endpoint_that_does_not_answer_times_out_and_can_be_retried() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = IntrospectionEndpoint {
            url: format!("http://{}/introspect", silent.local_addr().unwrap()).into(),
            credentials: ClientCredentials { id: "adit".into(), secret: Secret::from("of-the-client") },
            cache: Duration::from_secs(60),
        };
        let answers = Arc::new(TokenAnswers::new());
        let (asked, question) = TokenAnswers::asked_about(&answers, b"a", unix_time());
        assert!(answers.poll_answered(asked, &Context::from_waker(Waker::noop())).is_pending());
        let answer = tokio::spawn(answer(question, Arc::new(endpoint), issuer_client(None).unwrap()));
        let (_held, _) = silent.accept().await.unwrap();
        let why = answer.await.unwrap().unwrap_err();
        assert!(why.ends_with("/introspect: no answer within 6 s"), "{why}");
        assert_eq!(answers.poll_answered(asked, &Context::from_waker(Waker::noop())), Poll::Ready(()));
    }
}
