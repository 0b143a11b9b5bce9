//! The admin API and the dashboard: plain HTTP for operators and their tools, on loopback by default. Reading needs no token.
//! Changes ([`api`](crate::control::api)) need the admin token, or a session of the dashboard that it has opened.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State as Given};
use axum::http::HeaderMap;
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRANSFER_ENCODING};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::control::api::{Access, Api, ApiError, open_routes};
use crate::control::approval_pages::approval_pages;
use crate::control::dashboard;
use crate::control::dashboard::sessions::DashboardSessions;
use crate::control::metrics::{METRICS_TYPE, metrics};
use crate::control::state::State;

/// Paths that can only be read.
pub const ADMIN_PATHS: [&str; 8] =
    ["/healthz", "/metrics", "/readyz", "/v1/calls", "/v1/identity-keys", "/v1/latency", "/v1/status", "/v1/tasks"];

/// The router of the API, over the state of the process and its tunnels.
pub fn router(state: Arc<State>, access: Option<Access>) -> Router {
    let pages = access.as_ref().and_then(|access| Some((access.links.clone()?, access.approvals.clone())));
    let pages = pages.map(|(links, desk)| approval_pages(links, desk)).unwrap_or_default();
    // A system without random bytes has no sessions, and nothing else that needs a secret.
    let sessions = DashboardSessions::new().inspect_err(|error| tracing::error!(%error, "there is no dashboard")).ok();
    let sessions = sessions.map(Arc::new);
    let dashboard = sessions.clone().map(|sessions| dashboard::router(&state, access.clone(), sessions));
    let tunnels = Api::new(Arc::clone(&state), access, sessions).router();
    Router::new()
        .route("/metrics", get(get_metrics))
        .route("/v1/identity-keys", get(get_identity_keys))
        .merge(open_routes())
        .route_layer(middleware::from_fn(without_body))
        .with_state(state)
        .merge(tunnels)
        .merge(dashboard.unwrap_or_default())
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(guard))
        // They check their host themselves, because people open them at the configured URL.
        .merge(pages)
}

async fn get_metrics(Given(state): Given<Arc<State>>) -> Response {
    ([(CONTENT_TYPE, METRICS_TYPE)], metrics(state.report().await)).into_response()
}

/// The public keys of signed caller identities (RFC 7517), without duplicates.
async fn get_identity_keys(Given(state): Given<Arc<State>>) -> Json<Value> {
    let mut keys: Vec<Value> = state.roles.iter().flat_map(|role| role.identity_keys()).collect();
    keys.dedup();
    Json(json!({ "keys": keys }))
}

async fn unknown_path() -> ApiError {
    ApiError::unknown_path(&ADMIN_PATHS.join(", "))
}

async fn wrong_method() -> ApiError {
    ApiError::wrong_method()
}

/// Rejects requests with a body.
async fn without_body(request: Request, next: Next) -> Response {
    if has_body(request.headers()) {
        return ApiError::too_large("a request to this path must have no body").into_response();
    }
    next.run(request).await
}

/// Accepts only requests whose `Host` is an address or localhost. A web page whose own name resolves to this host (DNS
/// rebinding) cannot send such a request.
async fn guard(request: Request, next: Next) -> Response {
    let headers = request.headers();
    if !names_this_host(headers) {
        return ApiError::forbidden_host().into_response();
    }
    let mut response = next.run(request).await;
    response.headers_mut().insert(CACHE_CONTROL, axum::http::HeaderValue::from_static("no-store"));
    response
}

pub(super) fn names_this_host(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(host) = host.to_str() else { return false };
    let is_localhost = |host: &str| host.eq_ignore_ascii_case("localhost");
    if host.parse::<SocketAddr>().is_ok() || host.parse::<IpAddr>().is_ok() || is_localhost(host) {
        return true;
    }
    match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => is_localhost(name),
        _ => host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .is_some_and(|ip| ip.parse::<IpAddr>().is_ok()),
    }
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0")
}

#[cfg(test)]
mod tests {
    use reqwest::{Client, Method};
    use serde_json::{Value, json};

    use super::*;
    use crate::control::AdminListener;
    use crate::control::reading::RoleReading;
    use crate::control::sample::{self, SampleRole};

    async fn serve(reading: RoleReading) -> (String, Arc<State>) {
        let state = State::new(sample::facts(), vec![SampleRole::new(reading)], None);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = axum::serve(AdminListener::new(listener), router(Arc::clone(&state), None));
        tokio::spawn(async move { serve.await });
        (format!("http://{address}"), state)
    }

    async fn ask(url: String, method: Method, host: Option<&str>) -> (u16, String, String) {
        let mut request = Client::new().request(method, url);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        let answer = request.send().await.unwrap();
        let kind = answer.headers()[CONTENT_TYPE].to_str().unwrap().to_owned();
        (answer.status().as_u16(), kind, answer.text().await.unwrap())
    }

    #[tokio::test]
    async fn every_path_answers_and_others_say_so() {
        let (base, _) = serve(sample::edge_reading()).await;
        for path in ADMIN_PATHS {
            let (status, kind, body) = ask(format!("{base}{path}"), Method::GET, None).await;
            assert_eq!(status, 200, "{path}: {body}");
            assert_eq!(kind, if path == "/metrics" { METRICS_TYPE } else { "application/json" });
            let (status, _, body) = ask(format!("{base}{path}"), Method::POST, None).await;
            assert_eq!((status, body.contains("wrong_method")), (405, true), "{path}");
        }
        let (status, kind, body) = ask(format!("{base}/nothing"), Method::GET, None).await;
        assert_eq!((status, kind.as_str()), (404, "application/json"));
        assert!(body.contains("/v1/status"));
    }

    #[tokio::test]
    async fn a_host_that_is_a_name_is_refused() {
        let (base, _) = serve(sample::edge_reading()).await;
        for (host, status) in [
            ("localhost:9443", 200),
            ("LOCALHOST", 200),
            ("127.0.0.1", 200),
            ("[::1]:9443", 200),
            ("[::1]", 200),
            ("10.1.2.3:80", 200),
            ("evil.test", 403),
            ("evil.test:9443", 403),
            ("127.0.0.1.evil.test", 403),
            ("localhost.evil.test:80", 403),
            ("localhost:80:80", 403),
        ] {
            assert_eq!(ask(format!("{base}/healthz"), Method::GET, Some(host)).await.0, status, "{host}");
        }
    }

    #[tokio::test]
    async fn a_body_is_not_read() {
        let (base, _) = serve(sample::edge_reading()).await;
        let answer = Client::new().get(format!("{base}/healthz")).body("x".repeat(1 << 20)).send().await.unwrap();
        assert_eq!(answer.status(), 413);
    }

    #[tokio::test]
    async fn latency_takes_a_route_and_nothing_else() {
        let (base, _) = serve(sample::edge_reading()).await;
        let (status, _, body) = ask(format!("{base}/v1/latency?route=other"), Method::GET, None).await;
        assert_eq!(status, 200);
        let json: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&json["route"], &json["total"]["calls"]), (&json!("other"), &json!(0)));
        assert_eq!(ask(format!("{base}/v1/latency?rout=other"), Method::GET, None).await.0, 400);
    }

    #[tokio::test]
    async fn a_silent_core_is_unhealthy_unless_the_process_is_ending() {
        let mut reading = sample::edge_reading();
        reading.cores_asked = 2;
        let (base, state) = serve(reading).await;
        let (status, _, body) = ask(format!("{base}/healthz"), Method::GET, None).await;
        assert_eq!((status, body.contains("\"answered\":1")), (503, true), "{body}");
        state.on_draining();
        assert_eq!(ask(format!("{base}/healthz"), Method::GET, None).await.0, 200);
        let (status, _, body) = ask(format!("{base}/readyz"), Method::GET, None).await;
        assert_eq!((status, body.contains("draining")), (503, true), "{body}");
    }

    #[tokio::test]
    async fn ready_needs_a_proof() {
        let mut reading = sample::edge_reading();
        assert_eq!(ask(format!("{}/readyz", serve(reading.clone()).await.0), Method::GET, None).await.0, 200);
        reading.cores[0].last_good_call = None;
        let (status, _, body) = ask(format!("{}/readyz", serve(reading.clone()).await.0), Method::GET, None).await;
        assert_eq!((status, body.contains("not_ready")), (503, true), "{body}");
    }

    #[tokio::test]
    async fn a_connector_is_ready_when_a_link_takes_streams() {
        let mut reading = sample::edge_reading();
        reading.kind = crate::control::RoleKind::Connector;
        assert_eq!(ask(format!("{}/readyz", serve(reading.clone()).await.0), Method::GET, None).await.0, 200);
        reading.links[0].draining = true;
        assert_eq!(ask(format!("{}/readyz", serve(reading).await.0), Method::GET, None).await.0, 503);
    }
}
