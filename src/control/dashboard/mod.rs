//! The dashboard: pages on the admin listener that show the live state of the process. The files are part of the program.
//!
//! What `GET` requests of the admin API show without a token is shown to everyone who reaches the listener. A session
//! ([`sessions`]), which the admin token opens by a one-time code, may also search the audit log, run the doctor, and make a few
//! changes ([`browser::is_of_sessions`]).

mod assets;
pub(super) mod browser;
mod history;
mod live;
mod search;
pub(super) mod sessions;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, DefaultBodyLimit, Query, Request, State as Given};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::sse::Sse;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::base::Clock;
use crate::control::admin_listener::ConnectionEnd;
use crate::control::api::{Access, ApiError};
use crate::control::dashboard::assets::{ASSETS, protect};
use crate::control::dashboard::browser::{cookie_of, is_same_origin, session_of};
use crate::control::dashboard::live::Live;
use crate::control::dashboard::search::{AuditQuery, AuditSearch, NotSearched};
use crate::control::dashboard::sessions::{DashboardSessions, SESSION_LIFE};
use crate::control::dashboard_counts::LogInOutcome;
use crate::control::state::State;
use crate::engine::MonotonicClock;
use crate::latency::Label;

/// The longest body of a request, in bytes.
const BODY_LEN_MAX: usize = 4 * 1_024;
/// The longest name in a query for a series, in bytes.
const NAME_LEN_MAX: usize = 512;

/// What the handlers use.
#[derive(Clone)]
struct Dashboard {
    state: Arc<State>,
    live: Arc<Live>,
    access: Option<Access>,
    sessions: Arc<DashboardSessions>,
    search: Arc<AuditSearch>,
    /// The doctor runs once at a time.
    doctor: Arc<Semaphore>,
}

/// The routes of the dashboard. `sessions` are those that the admin API accepts, too.
pub(super) fn router(state: &Arc<State>, access: Option<Access>, sessions: Arc<DashboardSessions>) -> Router {
    let log = access.as_ref().and_then(|access| access.audit_dir.clone());
    let dashboard = Dashboard {
        state: Arc::clone(state),
        live: Live::new(Arc::clone(state)),
        access,
        sessions,
        search: Arc::new(AuditSearch::new(log)),
        doctor: Arc::new(Semaphore::new(1)),
    };
    let private = Router::new()
        .route("/dashboard/audit", get(search_audit))
        .route("/dashboard/doctor", post(run_doctor))
        .route_layer(middleware::from_fn_with_state(dashboard.clone(), check_session));
    let open = Router::new()
        .route("/dashboard/live", get(live))
        .route("/dashboard/series", get(series))
        .route("/dashboard/session", get(show_session).post(open_session).delete(close_session));
    let pages = ASSETS
        .iter()
        .fold(Router::new(), |router, asset| router.route(asset.path, get(async move || asset.response())));
    pages
        .merge(open.merge(private).route_layer(middleware::from_fn(check_origin)))
        .layer(middleware::map_response(async |response: Response| protect(response)))
        .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
        .with_state(dashboard)
}

/// Accepts only requests that no page of another origin has made.
async fn check_origin(request: Request, next: Next) -> Response {
    if is_same_origin(request.method(), request.headers()) {
        return next.run(request).await;
    }
    ApiError::new(StatusCode::FORBIDDEN, "other_origin", "only the dashboard's own page may request this")
        .into_response()
}

/// Accepts only requests with a session.
async fn check_session(Given(dashboard): Given<Dashboard>, request: Request, next: Next) -> Response {
    match dashboard.session(request.method(), request.headers()) {
        Some(_) => next.run(request).await,
        None => no_session().into_response(),
    }
}

/// Samples of the state, as server-sent events.
async fn live(
    Given(dashboard): Given<Dashboard>,
    connection: Option<Extension<ConnectInfo<ConnectionEnd>>>,
) -> Result<Response, ApiError> {
    let ends = connection.map(|Extension(ConnectInfo(ConnectionEnd(ends)))| ends);
    let stream = dashboard.live.stream(ends).ok_or_else(|| {
        let message = "too many dashboards are open: close one, or use `adit top`";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", message)
    })?;
    Ok(Sse::new(stream).into_response())
}

/// The label of a series; all calls without one.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeriesQuery {
    route: Option<String>,
    #[serde(default)]
    method: String,
    #[serde(default)]
    tool: String,
}

async fn series(Given(dashboard): Given<Dashboard>, Query(query): Query<SeriesQuery>) -> Result<Response, ApiError> {
    let SeriesQuery { route, method, tool } = query;
    if [&method, &tool].into_iter().chain(&route).any(|name| name.len() > NAME_LEN_MAX) {
        return Err(ApiError::bad_query("a name is too long"));
    }
    let label = route.map(|route| Label { route: route.into(), method: method.into(), tool: tool.into() });
    Ok(Json(dashboard.live.series(label.as_ref())).into_response())
}

/// A one-time code that opens a session.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CodeBody {
    code: String,
}

async fn open_session(Given(dashboard): Given<Dashboard>, Json(body): Json<CodeBody>) -> Result<Response, ApiError> {
    let sessions = &dashboard.sessions;
    let access = dashboard.access.as_ref().ok_or_else(ApiError::no_store)?;
    let counts = &dashboard.state.dashboard;
    let opened = sessions.open(&body.code, &access.token.hash(), MonotonicClock.now())?.ok_or_else(|| {
        counts.on_log_in(LogInOutcome::Invalid);
        let message = "this log-in link is used up or over: `adit dashboard` prints a new one";
        ApiError::new(StatusCode::FORBIDDEN, "invalid_code", message)
    })?;
    counts.on_log_in(LogInOutcome::Opened);
    tracing::info!("a session of the dashboard was opened");
    let (name, age) = (sessions.cookie_name(), SESSION_LIFE.as_secs());
    let cookie = format!("{name}={}; HttpOnly; SameSite=Strict; Path=/; Max-Age={age}", *opened.cookie);
    let body = Json(json!({ "key": *opened.key, "ends_in_s": age }));
    Ok(([(SET_COOKIE, cookie)], body).into_response())
}

/// Whether a session is possible, and whether the request has one.
async fn show_session(Given(dashboard): Given<Dashboard>, method: Method, headers: HeaderMap) -> Json<Value> {
    let access = dashboard.access.as_ref();
    Json(json!({
        "possible": access.is_some(),
        "ends_in_s": dashboard.session(&method, &headers).map(|left| left.as_secs()),
        "audit": access.is_some_and(|access| access.audit_dir.is_some()),
        "doctor": access.is_some_and(|access| access.doctor.is_some()),
    }))
}

async fn close_session(Given(dashboard): Given<Dashboard>, headers: HeaderMap) -> Response {
    let sessions = &dashboard.sessions;
    if let Some(cookie) = cookie_of(sessions, &headers) {
        sessions.close(cookie, MonotonicClock.now());
    }
    let cookie = format!("{}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0", sessions.cookie_name());
    (StatusCode::NO_CONTENT, [(SET_COOKIE, cookie)]).into_response()
}

async fn search_audit(
    Given(dashboard): Given<Dashboard>,
    Query(query): Query<AuditQuery>,
) -> Result<Response, ApiError> {
    let found = dashboard.search.find(&query).await.map_err(|why| match why {
        NotSearched::NoLog => {
            ApiError::new(StatusCode::NOT_FOUND, "no_audit_log", "this process writes no audit log: set audit.mode")
        }
        NotSearched::Busy => {
            let message = "another search has not ended: try again in a moment";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "search_busy", message)
        }
        NotSearched::Query => ApiError::bad_query("a text or number of the search is too long"),
        NotSearched::Failed => {
            let message = "the audit log cannot be read: the log of the process says why";
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "audit_unreadable", message)
        }
    })?;
    Ok(Json(found).into_response())
}

/// Runs the checks of `adit doctor` on a thread of their own.
async fn run_doctor(Given(dashboard): Given<Dashboard>) -> Result<Json<Value>, ApiError> {
    let doctor = dashboard.access.as_ref().and_then(|access| access.doctor.clone()).ok_or_else(ApiError::no_store)?;
    let place = Arc::clone(&dashboard.doctor).try_acquire_owned().map_err(|_| {
        let message = "the doctor already runs: try again when it has ended";
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "doctor_busy", message)
    })?;
    let done = tokio::task::spawn_blocking(move || {
        let _place = place;
        doctor()
    });
    done.await.map(Json).map_err(|_| {
        let message = "the doctor failed: the log of the process says why";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    })
}

fn no_session() -> ApiError {
    let message = "this needs a session: run `adit dashboard` with the admin token, and open the link that it prints";
    ApiError::new(StatusCode::UNAUTHORIZED, "no_session", message)
}

impl Dashboard {
    fn session(&self, method: &Method, headers: &HeaderMap) -> Option<Duration> {
        session_of(&self.sessions, method, headers, &self.access.as_ref()?.token.hash())
    }
}
