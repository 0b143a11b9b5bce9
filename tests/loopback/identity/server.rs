//! An authorization server: its metadata, its keys, which a test changes and takes away, and tokens for its clients.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use reqwest::Url;
use serde_json::{Value, json};

use super::signer::{Signer, claims, key_set};

/// What it answers. It serves until the process ends.
#[derive(Clone)]
pub(crate) struct LoginServer {
    pub(crate) address: SocketAddr,
    signer: Arc<Signer>,
    keys: Arc<Mutex<Option<Value>>>,
    fetches: Arc<AtomicUsize>,
}

impl LoginServer {
    /// A server that signs by this key.
    pub(crate) fn start(signer: &Arc<Signer>) -> LoginServer {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let keys = Arc::new(Mutex::new(Some(key_set(&[signer]))));
        let server = LoginServer { address, signer: Arc::clone(signer), keys, fetches: Arc::default() };
        let routes = Router::new()
            .route("/realms/demo/.well-known/openid-configuration", get(metadata))
            .route("/.well-known/oauth-authorization-server/realms/demo", get(metadata))
            .route("/realms/demo/keys", get(keys_of))
            .route("/realms/demo/token", post(token))
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
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic"],
    }))
}

async fn keys_of(State(server): State<LoginServer>) -> Result<impl IntoResponse, StatusCode> {
    server.fetches.fetch_add(1, Ordering::SeqCst);
    let keys = server.keys.lock().unwrap().clone();
    keys.map(|keys| json_of(&keys)).ok_or(StatusCode::SERVICE_UNAVAILABLE)
}

/// A token for the resource and with the scopes that are asked for (RFC 6749 section 4.4, RFC 8707).
async fn token(State(server): State<LoginServer>, form: String) -> Result<impl IntoResponse, StatusCode> {
    let form = Url::parse(&format!("http://form/?{form}")).map_err(|_| StatusCode::BAD_REQUEST)?;
    let of = |name: &str| form.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    if of("grant_type").as_deref() != Some("client_credentials") {
        return Err(StatusCode::BAD_REQUEST);
    }
    let scope = of("scope").unwrap_or_default();
    let mut claims = claims(&server.issuer(), &of("resource").unwrap_or_default());
    claims["scope"] = json!(scope);
    let token = server.signer.sign(&claims);
    Ok(json_of(&json!({ "access_token": token, "token_type": "Bearer", "expires_in": 300, "scope": scope })))
}
