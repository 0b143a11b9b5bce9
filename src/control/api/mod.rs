//! The API by which tunnels are made, changed and given up: `/v1/tunnels` and what belongs to it, for whoever has the admin
//! token. Shaped after the Tunnels API that Anthropic publishes, so that what was written for that one finds its way.
//!
//! The document at `/v1/openapi.json` is made from the same lines as the routes.

mod body;
mod certificates;
mod error;
mod keys;
mod shapes;
mod tunnels;
mod wanted;

pub use body::{BODY_LEN_MAX, LIMIT_MAX, ListBody};
pub use error::{ApiError, ErrorBody, ErrorDetail};
pub use shapes::{
    CertificateBody, ConnectionBody, CreatedBody, CreatedKeyBody, CredentialBody, EventBody, KeyBody, RevokedBody,
    TunnelBody, TunnelState, TunnelTokenBody, UpdatedBody, UsageBody, UsageLineBody,
};

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::{Request, State as Given};
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
use crate::control::reading::LinkReading;
use crate::control::state::State;
use crate::control::store::Tunnel;
use crate::control::tunnels::Tunnels;

/// The path of the document that describes the API.
pub const OPENAPI_PATH: &str = "/v1/openapi.json";
/// How requests show the admin token, in the document.
const SCHEME: &str = "admin_token";

/// What the API acts on.
#[derive(Clone)]
pub struct Api {
    state: Arc<State>,
    access: Option<Access>,
}

/// The tunnels, and the token that opens them.
#[derive(Clone)]
pub struct Access {
    /// The tunnels.
    pub tunnels: Arc<Tunnels>,
    /// The admin token.
    pub token: Arc<AdminToken>,
}

/// The hash of the token that opens the API; the token can be replaced while the process runs.
pub struct AdminToken(RwLock<SecretHash>);

impl AdminToken {
    /// Begins with this one.
    #[must_use]
    pub fn new(token: &Secret) -> Arc<AdminToken> {
        Arc::new(AdminToken(RwLock::new(SecretHash::of(token))))
    }

    /// Lets in who shows this one from here on, and nobody else.
    pub fn replace(&self, token: &Secret) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = SecretHash::of(token);
    }

    /// Whether this is it. Compares hashes, in constant time.
    fn is(&self, shown: &Secret) -> bool {
        SecretHash::of(shown) == *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Api {
    /// The API of a process; without `access` every path of it says that there is no store.
    #[must_use]
    pub fn new(state: Arc<State>, access: Option<Access>) -> Api {
        Api { state, access }
    }

    /// Its routes, which ask for the admin token, and the document, which does not.
    pub(super) fn router(self) -> Router {
        let (router, document) = routes().split_for_parts();
        let document = Arc::new(described(document));
        let guarded = router.layer(middleware::from_fn_with_state(self.clone(), check_token)).with_state(self);
        let show = move || {
            let document = Arc::clone(&document);
            async move { Json(&*document).into_response() }
        };
        guarded.merge(Router::new().route(OPENAPI_PATH, get(show)))
    }

    fn tunnels(&self) -> Result<&Arc<Tunnels>, ApiError> {
        self.access.as_ref().map(|access| &access.tunnels).ok_or_else(ApiError::no_store)
    }

    /// The links that are up, of all tunnels.
    async fn links(&self) -> Vec<LinkReading> {
        self.state.read().await.into_iter().flat_map(|role| role.links).collect()
    }

    async fn links_by_tunnel(&self) -> HashMap<String, u32> {
        let mut counts = HashMap::new();
        for link in self.links().await {
            *counts.entry(link.tunnel).or_insert(0) += 1;
        }
        counts
    }

    async fn shown(&self, tunnel: Tunnel) -> TunnelBody {
        let connections = self.links_by_tunnel().await.get(tunnel.id.as_str()).copied().unwrap_or(0);
        TunnelBody::of(tunnel, connections)
    }
}

/// The document that describes the API.
#[must_use]
#[cfg(test)]
pub fn openapi() -> OpenApi {
    described(routes().into_openapi())
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
}

fn described(document: OpenApi) -> OpenApi {
    let info = InfoBuilder::new()
        .title("adit edge: tunnels")
        .description(Some("Tunnels of an edge, their secrets, certificates, connections and record."))
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

/// Lets through who shows the admin token.
async fn check_token(Given(api): Given<Api>, request: Request, next: Next) -> Response {
    let Some(access) = &api.access else { return ApiError::no_store().into_response() };
    let mut given = request.headers().get_all(AUTHORIZATION).iter();
    let (Some(header), None) = (given.next(), given.next()) else { return ApiError::unauthorized().into_response() };
    let token = header.to_str().ok().and_then(|text| text.split_once(' '));
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    match token.map(Secret::from) {
        Some(shown) if access.token.is(&shown) => next.run(request).await,
        _ => ApiError::unauthorized().into_response(),
    }
}

/// An id that is malformed is one that no tunnel has.
fn tunnel_id(text: &str) -> Result<TunnelId, ApiError> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
        ApiError::new(axum::http::StatusCode::NOT_FOUND, "tunnel_not_found", format!("there is no tunnel {shown}"))
    })
}
