//! An authorization server: its metadata, its keys, which a test changes and takes away, tokens for its clients, and what it says about
//! tokens when it is asked.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use aws_lc_rs::digest;
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::Url;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::signer::{Signer, claims, key_set};

/// What it answers. It serves until the process ends.
#[derive(Clone)]
pub(crate) struct LoginServer {
    pub(crate) address: SocketAddr,
    signer: Arc<Signer>,
    keys: Arc<Mutex<Option<Value>>>,
    fetches: Arc<AtomicUsize>,
    /// The clients that may ask about tokens, as `Authorization` has them.
    clients: Arc<Mutex<Vec<String>>>,
    tokens: Arc<Mutex<HashMap<String, Known>>>,
    /// What is given for which token, and the requests for that.
    exchanged: Arc<Mutex<HashMap<String, Exchanges>>>,
    exchanges: Arc<Mutex<Vec<HashMap<String, String>>>>,
    /// What users have agreed to, by the code that says so.
    codes: Arc<Mutex<HashMap<String, Consent>>>,
    /// Whether answers that are held are given.
    released: Arc<watch::Sender<bool>>,
}

/// A user lets a client act (RFC 6749 section 4.1, RFC 7636, RFC 8707).
struct Consent {
    client: String,
    redirect_uri: String,
    challenge: String,
    scope: String,
    resource: String,
}

/// A token about which clients ask.
#[derive(Clone)]
struct Known {
    answer: Introspects,
    asked: usize,
}

/// What is answered about a token.
#[derive(Clone)]
pub(crate) enum Introspects {
    /// These members.
    Answers(Value),
    /// The same, once it is released.
    Held(Value),
    /// This text.
    Text(String),
    /// That the server is down.
    Fails,
}

/// What is given for a token.
#[derive(Clone)]
pub(crate) enum Exchanges {
    /// This token.
    Gives(String),
    /// The same, once it is released.
    Held(String),
    /// This status and this text.
    Answers(u16, String),
}

impl LoginServer {
    /// A server that signs by this key.
    pub(crate) fn start(signer: &Arc<Signer>) -> LoginServer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let keys = Arc::new(Mutex::new(Some(key_set(&[signer]))));
        let server = LoginServer {
            address,
            signer: Arc::clone(signer),
            keys,
            fetches: Arc::default(),
            clients: Arc::default(),
            tokens: Arc::default(),
            exchanged: Arc::default(),
            exchanges: Arc::default(),
            codes: Arc::default(),
            released: Arc::new(watch::channel(false).0),
        };
        let routes = Router::new()
            .route("/realms/demo/.well-known/openid-configuration", get(metadata))
            .route("/.well-known/oauth-authorization-server/realms/demo", get(metadata))
            .route("/realms/demo/keys", get(keys_of))
            .route("/realms/demo/authorize", get(authorize))
            .route("/realms/demo/token", post(token))
            .route("/realms/demo/introspect", post(introspect))
            .with_state(server.clone());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, routes).await.unwrap();
            });
        });
        server
    }

    /// Lets this client ask about tokens. Id and secret are encoded as RFC 6749 section 2.3.1 wants it.
    pub(crate) fn knows_client(&self, id: &str, secret: &str) {
        let encoded = |text: &str| {
            let url = Url::parse_with_params("http://form/", [(text, "")]).unwrap();
            url.query().unwrap().trim_end_matches('=').to_owned()
        };
        let both = format!("{}:{}", encoded(id), encoded(secret));
        self.clients.lock().unwrap().push(format!("Basic {}", STANDARD.encode(both)));
    }

    /// Answers this about a token from now on.
    pub(crate) fn introspects(&self, token: &str, text: Introspects) {
        let mut tokens = self.tokens.lock().unwrap();
        let asked = tokens.get(token).map_or(0, |known| known.asked);
        tokens.insert(token.to_owned(), Known { answer: text, asked });
    }

    /// How often it was asked about a token.
    pub(crate) fn introspections(&self, token: &str) -> usize {
        self.tokens.lock().unwrap()[token].asked
    }

    /// Waits until it is asked about a token.
    pub(crate) fn until_asked(&self, token: &str) {
        while self.introspections(token) == 0 {
            thread::yield_now();
        }
    }

    /// Gives this for a token from now on (RFC 8693).
    pub(crate) fn exchanges(&self, token: &str, given: Exchanges) {
        self.exchanged.lock().unwrap().insert(token.to_owned(), given);
    }

    /// What was asked since this was called last: the forms.
    pub(crate) fn was_asked_for(&self) -> Vec<HashMap<String, String>> {
        std::mem::take(&mut *self.exchanges.lock().unwrap())
    }

    /// Waits until a token is to be exchanged.
    pub(crate) fn until_exchanged(&self) {
        while self.exchanges.lock().unwrap().is_empty() {
            thread::yield_now();
        }
    }

    /// Gives the answers that are held.
    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.signer.sign(claims)
    }

    pub(crate) fn issuer(&self) -> String {
        format!("http://{}/realms/demo", self.address)
    }

    /// Has other keys from now on, or none that can be fetched.
    pub(crate) fn set_keys(&self, keys: Option<Value>) {
        *self.keys.lock().unwrap() = keys;
    }

    /// How often its keys were asked for.
    pub(crate) fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

fn json_of(value: &Value) -> impl IntoResponse + use<> {
    ([(CONTENT_TYPE, "application/json")], value.to_string())
}

async fn metadata(State(server): State<LoginServer>) -> impl IntoResponse {
    let issuer = server.issuer();
    json_of(&json!({
        "issuer": issuer, "jwks_uri": format!("{issuer}/keys"), "token_endpoint": format!("{issuer}/token"),
        "authorization_endpoint": format!("{issuer}/authorize"), "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "client_credentials"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "none"],
    }))
}

async fn keys_of(State(server): State<LoginServer>) -> Result<impl IntoResponse, StatusCode> {
    server.fetches.fetch_add(1, Ordering::SeqCst);
    let keys = server.keys.lock().unwrap().clone();
    keys.map(|keys| json_of(&keys)).ok_or(StatusCode::SERVICE_UNAVAILABLE)
}

/// What a form or a query says.
struct Form(Url);

impl Form {
    fn parse(text: &str) -> Result<Form, StatusCode> {
        Url::parse(&format!("http://form/?{text}")).map(Form).map_err(|_| StatusCode::BAD_REQUEST)
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// What it has to say.
    fn required(&self, name: &str) -> Result<String, StatusCode> {
        self.get(name).ok_or(StatusCode::BAD_REQUEST)
    }
}

/// The user agrees at once.
async fn authorize(State(server): State<LoginServer>, RawQuery(query): RawQuery) -> Result<Response, StatusCode> {
    let asked = Form::parse(&query.unwrap_or_default())?;
    if asked.required("response_type")? != "code" || asked.required("code_challenge_method")? != "S256" {
        return Err(StatusCode::BAD_REQUEST);
    }
    let consent = Consent {
        client: asked.required("client_id")?,
        redirect_uri: asked.required("redirect_uri")?,
        challenge: asked.required("code_challenge")?,
        scope: asked.get("scope").unwrap_or_default(),
        resource: asked.required("resource")?,
    };
    let mut codes = server.codes.lock().unwrap();
    let code = format!("code-{}", codes.len());
    let text = [("code", code.clone()), ("state", asked.get("state").unwrap_or_default())];
    let back = Url::parse_with_params(&consent.redirect_uri, text).map_err(|_| StatusCode::BAD_REQUEST)?;
    codes.insert(code, consent);
    Ok((StatusCode::FOUND, [(LOCATION, back.to_string())]).into_response())
}

/// A token for the resource and with the scopes that the client asks for, or that a user has agreed to (RFC 6749 sections 4.4 and
/// 4.1.3, RFC 8707).
async fn token(State(server): State<LoginServer>, head: HeaderMap, form: String) -> Result<Response, StatusCode> {
    let form = Form::parse(&form)?;
    if form.required("grant_type")? == "urn:ietf:params:oauth:grant-type:token-exchange" {
        return exchange(&server, &head, form.0.query_pairs().into_owned().collect()).await;
    }
    let (resource, scope) = match form.required("grant_type")?.as_str() {
        "client_credentials" => (form.get("resource").unwrap_or_default(), form.get("scope").unwrap_or_default()),
        "authorization_code" => {
            let consent = server.codes.lock().unwrap().remove(&form.required("code")?);
            let consent = consent.ok_or(StatusCode::BAD_REQUEST)?;
            let verifier = digest::digest(&digest::SHA256, form.required("code_verifier")?.as_bytes());
            let is_same = form.required("client_id")? == consent.client
                && form.required("redirect_uri")? == consent.redirect_uri
                && form.required("resource")? == consent.resource
                && URL_SAFE_NO_PAD.encode(verifier) == consent.challenge;
            if !is_same {
                return Err(StatusCode::BAD_REQUEST);
            }
            (consent.resource, consent.scope)
        }
        _ => return Err(StatusCode::BAD_REQUEST),
    };
    let mut claims = claims(&server.issuer(), &resource);
    claims["scope"] = json!(scope);
    let token = server.signer.sign(&claims);
    let answer = json!({ "access_token": token, "token_type": "Bearer", "expires_in": 300, "scope": scope });
    Ok(json_of(&answer).into_response())
}

/// Another token for the one of a caller (RFC 8693 section 2), for clients that may have it.
async fn exchange(
    server: &LoginServer,
    head: &HeaderMap,
    form: HashMap<String, String>,
) -> Result<Response, StatusCode> {
    let shown = head.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !server.clients.lock().unwrap().iter().any(|client| client == shown) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let given =
        server.exchanged.lock().unwrap().get(form.get("subject_token").ok_or(StatusCode::BAD_REQUEST)?).cloned();
    server.exchanges.lock().unwrap().push(form);
    let access = "urn:ietf:params:oauth:token-type:access_token";
    let answer = |token: String| json!({ "access_token": token, "issued_token_type": access, "token_type": "Bearer", "expires_in": 300 });
    match given {
        None => Ok((StatusCode::BAD_REQUEST, "{\"error\":\"invalid_request\"}").into_response()),
        Some(Exchanges::Gives(token)) => Ok(json_of(&answer(token)).into_response()),
        Some(Exchanges::Held(token)) => {
            let _ = server.released.subscribe().wait_for(|is_released| *is_released).await;
            Ok(json_of(&answer(token)).into_response())
        }
        Some(Exchanges::Answers(status, text)) => Ok((StatusCode::from_u16(status).unwrap(), text).into_response()),
    }
}

/// What is known of a token, for clients that may know it.
async fn introspect(State(server): State<LoginServer>, head: HeaderMap, form: String) -> Result<Response, StatusCode> {
    let shown = head.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !server.clients.lock().unwrap().iter().any(|client| client == shown) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let token = Form::parse(&form)?.required("token")?;
    let answer = server.tokens.lock().unwrap().get_mut(&token).map(|known| {
        known.asked += 1;
        known.answer.clone()
    });
    match answer {
        None => Ok(json_of(&json!({"active": false})).into_response()),
        Some(Introspects::Answers(claims)) => Ok(json_of(&claims).into_response()),
        Some(Introspects::Held(claims)) => {
            let _ = server.released.subscribe().wait_for(|is_released| *is_released).await;
            Ok(json_of(&claims).into_response())
        }
        Some(Introspects::Text(text)) => Ok(text.into_response()),
        Some(Introspects::Fails) => Err(StatusCode::BAD_GATEWAY),
    }
}
