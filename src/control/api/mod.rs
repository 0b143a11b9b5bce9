//! The admin API, except the metrics. Anyone who can reach it may read the state of the process. The admin token also
//! allows creating, changing and archiving tunnels. That part is modelled on the Tunnels API that Anthropic publishes,
//! so that clients written for that API need few changes.
//!
//! The OpenAPI document at `/v1/openapi.json` is generated from the same declarations as the routes.

mod approvals;
mod body;
mod breakers;
mod certificates;
mod convert;
mod dashboard;
mod error;
mod keys;
mod process;
mod tools;
mod tunnels;

pub use body::BODY_LEN_MAX;
pub use error::ApiError;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::{Request, State as Given};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::base::{Secret, SecretHash, TunnelId};
use crate::control::api::convert::TunnelLinked;
use crate::control::approval_links::ApprovalLinks;
use crate::control::approvals::ApprovalDesk;
use crate::control::bodies::TunnelInfo;
use crate::control::dashboard::browser::{is_of_sessions, session_of};
use crate::control::dashboard::sessions::DashboardSessions;
use crate::control::reading::LinkReading;
use crate::control::state::State;
use crate::control::store::Tunnel;
use crate::control::tunnels::Tunnels;

/// The path of the document that describes the API.
pub const OPENAPI_PATH: &str = "/v1/openapi.json";
/// The name of the admin token's security scheme in the document.
const SCHEME: &str = "admin_token";

/// The state that the API's handlers use.
#[derive(Clone)]
pub struct Api {
    state: Arc<State>,
    access: Option<Access>,
    sessions: Option<Arc<DashboardSessions>>,
}

/// Runs the checks of `adit doctor`, and returns what they found as JSON. It blocks.
pub type Doctor = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// The objects to which the admin token gives access.
#[derive(Clone)]
pub struct Access {
    /// The tunnels of an edge; a connector has none.
    pub tunnels: Option<Arc<Tunnels>>,
    /// The calls that wait for approval.
    pub approvals: ApprovalDesk,
    /// The links by which one decides without the token, if they are configured.
    pub links: Option<Arc<ApprovalLinks>>,
    /// The token that requests must carry.
    pub token: Arc<AdminToken>,
    /// The directory of the audit log, if there is one.
    pub audit_dir: Option<PathBuf>,
    /// The checks of the process.
    pub doctor: Option<Doctor>,
}

/// The hash of the admin token. It can be replaced while the process runs.
pub struct AdminToken(RwLock<SecretHash>);

impl AdminToken {
    /// Creates it with this token.
    #[must_use]
    pub fn new(token: &Secret) -> Arc<AdminToken> {
        Arc::new(AdminToken(RwLock::new(SecretHash::of(token))))
    }

    /// Accepts only this token from now on.
    pub fn replace(&self, token: &Secret) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = SecretHash::of(token);
    }

    /// The hash of the token.
    pub(super) fn hash(&self) -> SecretHash {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether this is the token. Compares hashes in constant time.
    fn is(&self, shown: &Secret) -> bool {
        SecretHash::of(shown) == self.hash()
    }
}

impl Api {
    /// The admin API of a process. Without `access`, each of its routes answers that no admin token is configured.
    pub(super) fn new(state: Arc<State>, access: Option<Access>, sessions: Option<Arc<DashboardSessions>>) -> Api {
        Api { state, access, sessions }
    }

    /// Its routes, which require the admin token, and the document, which does not.
    pub(super) fn router(self) -> Router {
        let router = routes().split_for_parts().0;
        let document = Arc::new(openapi());
        let guarded = router.layer(middleware::from_fn_with_state(self.clone(), check_token)).with_state(self);
        let show = move || {
            let document = Arc::clone(&document);
            async move { Json(&*document).into_response() }
        };
        guarded.merge(Router::new().route(OPENAPI_PATH, get(show)))
    }

    fn tunnels(&self) -> Result<&Arc<Tunnels>, ApiError> {
        self.access.as_ref().and_then(|access| access.tunnels.as_ref()).ok_or_else(ApiError::no_store)
    }

    /// The established links of all tunnels.
    async fn links(&self) -> Vec<LinkReading> {
        self.state.read().await.into_iter().flat_map(|role| role.links).collect()
    }

    async fn linked_tunnels(&self) -> HashMap<String, TunnelLinked> {
        let mut linked: HashMap<String, TunnelLinked> = HashMap::new();
        for role in self.state.read().await {
            for link in role.links {
                linked.entry(link.tunnel).or_default().connections += 1;
            }
            for tunnel in role.tunnels {
                let unserved = tunnel.unserved().map(str::to_owned).collect();
                linked.entry(tunnel.id).or_default().hosts_unserved = unserved;
            }
        }
        linked
    }

    async fn tunnel_info(&self, tunnel: Tunnel) -> TunnelInfo {
        let linked = self.linked_tunnels().await.remove(tunnel.id.as_str()).unwrap_or_default();
        TunnelInfo::of(tunnel, linked)
    }
}

/// The document that describes the API.
#[must_use]
pub fn openapi() -> OpenApi {
    let mut document = routes().into_openapi();
    document.merge(process::routes().into_openapi());
    described(document)
}

/// The routes that only read and need no token.
pub(super) fn open_routes() -> Router<Arc<State>> {
    process::routes().split_for_parts().0
}

fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(tunnels::create, tunnels::list))
        .routes(routes!(tunnels::get, tunnels::update))
        .routes(routes!(tunnels::archive))
        .routes(routes!(tunnels::reveal_token))
        .routes(routes!(tunnels::rotate_token))
        .routes(routes!(tunnels::revoke_token))
        .routes(routes!(tunnels::connections))
        .routes(routes!(tunnels::usage))
        .routes(routes!(certificates::add, certificates::list))
        .routes(routes!(certificates::get))
        .routes(routes!(certificates::archive))
        .routes(routes!(keys::create, keys::list))
        .routes(routes!(keys::get))
        .routes(routes!(keys::revoke))
        .routes(routes!(keys::events))
        .routes(routes!(breakers::force))
        .routes(routes!(tools::approve))
        .routes(routes!(approvals::list))
        .routes(routes!(approvals::approve))
        .routes(routes!(approvals::deny))
        .routes(routes!(dashboard::create_code))
}

fn described(document: OpenApi) -> OpenApi {
    let info = InfoBuilder::new()
        .title("adit: admin API")
        .description(Some("The state of an adit process; the tools of its servers; and the tunnels of an edge with their secrets, certificates, connections, events and usage."))
        .version(env!("CARGO_PKG_VERSION"))
        .build();
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let base = OpenApiBuilder::new()
        .info(info)
        .components(Some(ComponentsBuilder::new().security_scheme(SCHEME, scheme).build()))
        .security(Some([SecurityRequirement::new(SCHEME, Vec::<String>::new())]))
        .build();
    base.merge_from(document)
}

/// Accepts only requests with the admin token, and a few with a session of the dashboard.
async fn check_token(Given(api): Given<Api>, request: Request, next: Next) -> Response {
    let Some(access) = &api.access else { return ApiError::no_store().into_response() };
    if is_of_sessions(request.method(), request.uri().path())
        && let Some(sessions) = &api.sessions
        && session_of(sessions, request.method(), request.headers(), &access.token.hash()).is_some()
    {
        return next.run(request).await;
    }
    let mut given = request.headers().get_all(AUTHORIZATION).iter();
    let (Some(header), None) = (given.next(), given.next()) else { return ApiError::unauthorized().into_response() };
    let token = header.to_str().ok().and_then(|text| text.split_once(' '));
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    match token.map(Secret::from) {
        Some(shown) if access.token.is(&shown) => next.run(request).await,
        _ => ApiError::unauthorized().into_response(),
    }
}

/// Runs a change to completion even if the client disconnects. After a revocation, for example, links still have to be
/// ended.
async fn to_the_end<T: Send + 'static, E: Into<ApiError> + Send + 'static>(
    change: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, ApiError> {
    let broken = |_| {
        let message = "the change failed: the log of the process says why";
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    };
    tokio::spawn(change).await.map_err(broken)?.map_err(Into::into)
}

/// A malformed id is answered like one that does not exist.
fn tunnel_id(text: &str) -> Result<TunnelId, ApiError> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
        ApiError::new(StatusCode::NOT_FOUND, "tunnel_not_found", format!("there is no tunnel {shown}"))
    })
}
