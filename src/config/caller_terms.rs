use std::path::Path;

use crate::base::HostPattern;
use crate::config::addresses::HttpUrl;
use crate::config::table::{HostConfig, RouteConfig};
use crate::config::values::{CallerAuth, ClientCertificate, ForwardedIdentity, IdentityHeaderName, TokenText};

/// The settings of a table that concern the callers of its host.
pub struct CallerTerms<'a> {
    /// The name of the table in error messages.
    pub table: String,
    /// The host that the table is for.
    pub host: &'a HostPattern,
    /// How callers must authenticate.
    pub auth: CallerAuth,
    /// The names of the providers whose tokens are accepted; empty for all.
    pub providers: &'a [TokenText],
    /// The setting `auth_resource`, if it is set.
    pub auth_resource: Option<&'a TokenText>,
    /// Whether callers are asked for a client certificate.
    pub client_certificate: ClientCertificate,
    /// The names of the authorities whose certificates are accepted; empty for all.
    pub client_authorities: &'a [TokenText],
    /// The URL that agents call.
    pub public_url: Option<&'a HttpUrl>,
    /// The scopes that every caller needs.
    pub scopes: &'a [TokenText],
    /// The file with the `Authorization` value for the server.
    pub authorization_file: Option<&'a Path>,
    /// The name of the table by which tokens are exchanged.
    pub token_exchange: Option<&'a TokenText>,
    /// The header field in which the server is told who calls.
    pub identity_header: Option<&'a IdentityHeaderName>,
    /// The claims that are forwarded to the connector, if identities are.
    pub forwards: Option<&'a [TokenText]>,
    /// Whether an edge may say who calls.
    pub forwarded_identity: ForwardedIdentity,
    /// The names of the edges that may; empty for all.
    pub trusted_edges: &'a [TokenText],
    /// The names of the authorities of edges, if the edge must show a certificate.
    pub edge_authorities: &'a [TokenText],
}

impl<'a> CallerTerms<'a> {
    /// The settings of the `[[host]]` at this index.
    #[must_use]
    pub fn of_host(host: &'a HostConfig, index: usize) -> CallerTerms<'a> {
        CallerTerms {
            table: format!("host[{index}]"),
            host: &host.host,
            auth: host.auth,
            providers: &host.identity_providers,
            client_certificate: host.client_certificate,
            client_authorities: &host.client_authorities,
            auth_resource: host.auth_resource.as_ref(),
            public_url: host.public_url.as_ref(),
            scopes: &host.scopes_required,
            authorization_file: host.upstream_authorization_file.as_deref(),
            token_exchange: host.token_exchange.as_ref(),
            identity_header: host.identity_header.as_ref(),
            forwards: host.forward_identity.then_some(&*host.forwarded_claims),
            forwarded_identity: ForwardedIdentity::Off,
            trusted_edges: &[],
            edge_authorities: &[],
        }
    }

    /// The settings of the `[[route]]` at this index.
    #[must_use]
    pub fn of_route(route: &'a RouteConfig, index: usize) -> CallerTerms<'a> {
        CallerTerms {
            table: format!("route[{index}]"),
            host: &route.host,
            auth: route.auth,
            providers: &route.identity_providers,
            client_certificate: route.client_certificate,
            client_authorities: &route.client_authorities,
            auth_resource: route.auth_resource.as_ref(),
            public_url: route.public_url.as_ref(),
            scopes: &route.scopes_required,
            authorization_file: route.upstream_authorization_file.as_deref(),
            token_exchange: route.token_exchange.as_ref(),
            identity_header: route.identity_header.as_ref(),
            forwards: None,
            forwarded_identity: route.forwarded_identity,
            trusted_edges: &route.trusted_edges,
            edge_authorities: &route.edge_authorities,
        }
    }

    /// Whether anything is asked of callers.
    #[must_use]
    pub fn asks_for_anything(&self) -> bool {
        self.auth != CallerAuth::Passthrough
            || self.client_certificate != ClientCertificate::Off
            || self.forwarded_identity != ForwardedIdentity::Off
            || !self.edge_authorities.is_empty()
    }

    /// The resource that tokens are for.
    #[must_use]
    pub fn resource(&self) -> Option<&'a str> {
        self.auth_resource.map(|own| own.0.as_str()).or(self.public_url.map(HttpUrl::as_str))
    }
}
