//! Checks of the settings that concern callers.

use std::collections::BTreeMap;

use crate::base::{HostPattern, Traffic};
use crate::config::caller_terms::CallerTerms;
use crate::config::checks::Checker;
use crate::config::error::nearest;
use crate::config::table::{ConnectConfig, EdgeConfig, IdentityConfig, IdentityProviderConfig, TrustedEdgeConfig};
use crate::config::values::{CallerAuth, ClientCertificate, ForwardedIdentity, TokenText};

impl Checker<'_> {
    /// Checks that the names and issuers of providers are unique, and that hosts and routes name only existing providers.
    pub(super) fn identity(
        &mut self,
        identity: &IdentityConfig,
        edge: Option<&EdgeConfig>,
        connect: Option<&ConnectConfig>,
    ) {
        let (mut names, mut issuers) = (BTreeMap::new(), BTreeMap::new());
        for (index, provider) in identity.providers.iter().enumerate() {
            let table = format!("identity_provider[{index}]");
            self.unique(&mut names, &format!("{table}.name"), &provider.name.0);
            self.unique(&mut issuers, &format!("{table}.issuer"), &provider.issuer.0);
            self.provider(&table, provider);
        }
        let mut authorities = BTreeMap::new();
        for (index, authority) in identity.authorities.iter().enumerate() {
            self.unique(&mut authorities, &format!("client_authority[{index}].name"), &authority.name.0);
        }
        let mut exchanges = BTreeMap::new();
        for (index, exchange) in identity.exchanges.iter().enumerate() {
            let table = format!("token_exchange[{index}]");
            self.unique(&mut exchanges, &format!("{table}.name"), &exchange.name.0);
            if !is_safe_url(&exchange.token_url.0) {
                let why = "tokens and the client's secret are sent here, which needs an https URL, or an http URL on this machine";
                self.fault(&format!("{table}.token_url"), &[], why);
            }
            if exchange.audience.is_none() && exchange.resource.is_none() {
                let why = "missing; set it or resource, so that the token is for one MCP server only";
                self.missing(&format!("{table}.audience"), why);
            }
        }
        let mut edges = BTreeMap::new();
        let mut edge_issuers = BTreeMap::new();
        for (index, edge) in identity.trusted_edges.iter().enumerate() {
            let table = format!("trusted_edge[{index}]");
            self.unique(&mut edges, &format!("{table}.name"), &edge.name.0);
            self.unique(&mut edge_issuers, &format!("{table}.issuer"), &edge.issuer.0);
            self.trusted_edge(&table, edge);
        }
        let providers = &identity.providers;
        if let Some(edge) = edge {
            for (index, host) in edge.hosts.iter().enumerate() {
                let asks = CallerTerms::of_host(host, index);
                self.asks(&asks, &names, providers);
                self.exchange(&asks, &exchanges);
                let unread = edge.agents_cert_file.is_none().then_some(
                    "agents show certificates in TLS, which does not end at this edge: set edge.agents_cert_file",
                );
                self.asks_for_certificate(&asks, &authorities, unread);
                self.forwards(&asks, identity, edge);
            }
        }
        if let Some(connect) = connect {
            for (index, route) in connect.routes.iter().enumerate() {
                let asks = CallerTerms::of_route(route, index);
                self.asks(&asks, &names, providers);
                self.exchange(&asks, &exchanges);
                let unread = (route.traffic.unwrap_or(connect.traffic) != Traffic::Passthrough).then_some(
                    "agents show certificates in TLS, which ends here only with traffic = \"passthrough\": set it in [[host]] of the \
                     edge, where their TLS ends",
                );
                self.asks_for_certificate(&asks, &authorities, unread);
                self.trusts(&asks, &edges, route.traffic.unwrap_or(connect.traffic));
            }
        }
    }

    fn trusted_edge(&mut self, table: &str, edge: &TrustedEdgeConfig) {
        let key = |name: &str| format!("{table}.{name}");
        match (&edge.jwks_file, &edge.jwks_url) {
            (None, None) => self.missing(
                &key("jwks_file"),
                "missing; set it or jwks_url, so that it is known which keys are those of the edge",
            ),
            (Some(_), Some(_)) => {
                self.fault(&key("jwks_file"), &[&key("jwks_url")], "jwks_file and jwks_url are both set; remove one");
            }
            (None, Some(url)) if !is_safe_url(&url.0) => {
                let why = "the keys of the edge are fetched from here, which needs an https URL, or an http URL on this machine";
                self.fault(&key("jwks_url"), &[], why);
            }
            _ => {}
        }
        if edge.ca_file.is_some() && edge.jwks_url.is_none() {
            self.fault(&key("ca_file"), &[], "nothing is fetched from this edge, so no certificate is checked");
        }
    }

    /// Checks that an edge which forwards identities can sign them, and has some.
    fn forwards(&mut self, asks: &CallerTerms<'_>, identity: &IdentityConfig, edge: &EdgeConfig) {
        if asks.forwards.is_none() {
            return;
        }
        let key = format!("{}.forward_identity", asks.table);
        if !asks.asks_for_anything() {
            let why = "nobody proves who calls: set auth to verify or terminate, or client_certificate";
            self.fault(&key, &[], why);
        } else if asks.auth == CallerAuth::Passthrough {
            // The audience of what is signed.
            self.resource(asks);
        }
        if identity.edge_issuer.is_none() {
            self.missing("identity.edge_issuer", "missing; forward_identity needs it: set it to the URL of this edge");
        }
        if edge.data_dir.is_none() {
            self.missing(
                "edge.data_dir",
                "missing; forward_identity needs it, as the edge keeps its signing keys there",
            );
        }
    }

    /// Checks which edges may say who calls a route.
    fn trusts(&mut self, asks: &CallerTerms<'_>, names: &BTreeMap<String, String>, traffic: Traffic) {
        let key = |name: &str| format!("{}.{name}", asks.table);
        if asks.forwarded_identity == ForwardedIdentity::Off {
            if !asks.trusted_edges.is_empty() {
                let why = "it has no effect: set forwarded_identity to optional or required";
                self.fault(&key("trusted_edges"), &[&key("forwarded_identity")], why);
            }
            return;
        }
        if names.is_empty() {
            let why = "no edge is trusted, so no identity can be accepted: add a [[trusted_edge]]";
            self.fault(&key("forwarded_identity"), &[], why);
        }
        if traffic == Traffic::Passthrough {
            let why = "no edge reads passthrough traffic, so none can say who calls";
            self.fault(&key("forwarded_identity"), &[], why);
        }
        self.names_of(asks, ("trusted_edges", asks.trusted_edges), "trusted_edge", names);
        if matches!(asks.host, HostPattern::Wildcard(_)) && asks.auth == CallerAuth::Passthrough {
            let why =
                "an identity is for one resource, and this is a table for many hosts: write a table for each host";
            self.fault(&key("forwarded_identity"), &[], why);
        }
        if asks.auth == CallerAuth::Passthrough && asks.identity_header.is_none() {
            self.resource(asks);
        }
    }

    fn provider(&mut self, table: &str, provider: &IdentityProviderConfig) {
        let key = |name: &str| format!("{table}.{name}");
        let sources = [
            ("jwks_url", provider.jwks_url.is_some()),
            ("jwks_file", provider.jwks_file.is_some()),
            ("shared_key_file", provider.shared_key_file.is_some()),
            ("introspection_url", provider.introspection_url.is_some()),
        ];
        let set: Vec<&str> = sources.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
        if let [one, other, ..] = set[..] {
            self.fault(&key(one), &[&key(other)], &format!("{one} and {other} are both set; remove one"));
        }
        self.introspection(table, provider);
        let is_asked = provider.introspection_url.is_some();
        let is_fetched = provider.jwks_file.is_none() && provider.shared_key_file.is_none() && !is_asked;
        let url = provider.jwks_url.as_ref().map_or(("issuer", &provider.issuer), |url| ("jwks_url", url));
        if is_fetched && !is_safe_url(&url.1.0) {
            let why = "its keys would be fetched from here, which needs an https URL, or an http URL on this machine; jwks_file and \
                       shared_key_file need none";
            self.fault(&key(url.0), &[], why);
        }
        if provider.ca_file.is_some() && !is_fetched && !is_asked {
            self.fault(&key("ca_file"), &[], "nothing is fetched from this provider, so no certificate is checked");
        }
        let is_shared = provider.shared_key_file.is_some();
        if let Some(other) = provider.algorithms.iter().find(|algorithm| algorithm.0.is_shared() != is_shared) {
            let why = match is_shared {
                true => format!("{} needs a public key, and shared_key_file is set", other.0),
                false => format!("{} needs a key that both sides know: set shared_key_file", other.0),
            };
            self.fault(&key("algorithms"), &[&key("shared_key_file")], &why);
        }
        if provider.token_types.is_empty() {
            self.fault(&key("token_types"), &[], "the list is empty");
        }
    }

    /// Checks the settings by which a provider is asked about its tokens.
    fn introspection(&mut self, table: &str, provider: &IdentityProviderConfig) {
        let key = |name: &str| format!("{table}.{name}");
        let needed = [
            ("client_id", provider.client_id.is_some()),
            ("client_secret_file", provider.client_secret_file.is_some()),
        ];
        let Some(url) = &provider.introspection_url else {
            for (name, _) in needed.into_iter().filter(|(_, is_set)| *is_set) {
                self.fault(&key(name), &[&key("introspection_url")], "it has no effect without introspection_url");
            }
            return;
        };
        if !is_safe_url(&url.0) {
            let why = "tokens and the client's secret are sent here, which needs an https URL, or an http URL on this machine";
            self.fault(&key("introspection_url"), &[], why);
        }
        for (name, _) in needed.into_iter().filter(|(_, is_set)| !*is_set) {
            self.missing(&key(name), "missing; introspection_url needs it");
        }
        if !provider.algorithms.is_empty() {
            let why =
                "with introspection_url the provider itself checks the signatures of its tokens: remove algorithms";
            self.fault(&key("algorithms"), &[&key("introspection_url")], why);
        }
    }

    /// Checks that no more than one provider of a table is shown tokens that do not say whose they are.
    fn asks_one(&mut self, asks: &CallerTerms<'_>, providers: &[IdentityProviderConfig]) {
        let is_meant = |provider: &&IdentityProviderConfig| {
            asks.providers.is_empty() || asks.providers.iter().any(|name| name.0 == provider.name.0)
        };
        let asked = providers.iter().filter(is_meant).filter(|provider| provider.introspection_url.is_some());
        let names: Vec<&str> = asked.map(|provider| &*provider.name.0).collect();
        if let [one, other, ..] = names[..] {
            let why = format!(
                "{one} and {other} both have introspection_url, and an opaque token does not say which of them to ask: name one of \
                 them"
            );
            self.fault(&format!("{}.identity_providers", asks.table), &[], &why);
        }
    }

    /// Checks by what the tokens of callers are exchanged, if they are.
    fn exchange(&mut self, asks: &CallerTerms<'_>, names: &BTreeMap<String, String>) {
        let Some(name) = asks.token_exchange else { return };
        let key = |name: &str| format!("{}.{name}", asks.table);
        if asks.auth != CallerAuth::Terminate {
            let why = "it has no effect: set auth to terminate, so that the token of the caller stays here";
            self.fault(&key("token_exchange"), &[&key("auth")], why);
        }
        if asks.authorization_file.is_some() {
            let why = "upstream_authorization_file is set too, and the server gets one `Authorization`: remove one";
            self.fault(&key("token_exchange"), &[&key("upstream_authorization_file")], why);
        }
        self.names_of(asks, ("token_exchange", std::slice::from_ref(name)), "token_exchange", names);
    }

    /// Checks what is asked of certificates. `unread` is why callers cannot show one here, if that is so.
    fn asks_for_certificate(&mut self, asks: &CallerTerms<'_>, names: &BTreeMap<String, String>, unread: Option<&str>) {
        let key = |name: &str| format!("{}.{name}", asks.table);
        if asks.client_certificate == ClientCertificate::Off {
            if !asks.client_authorities.is_empty() {
                let why = "it has no effect: set client_certificate to optional or required";
                self.fault(&key("client_authorities"), &[&key("client_certificate")], why);
            }
            return;
        }
        if names.is_empty() {
            let why = "no authority is configured, so no certificate can be accepted: add a [[client_authority]]";
            self.fault(&key("client_certificate"), &[], why);
        }
        if let Some(why) = unread {
            self.fault(&key("client_certificate"), &[], why);
        }
        self.names_of(asks, ("client_authorities", asks.client_authorities), "client_authority", names);
    }

    /// Checks that a list names only tables that are there.
    fn names_of(
        &mut self,
        asks: &CallerTerms<'_>,
        (list, named): (&str, &[TokenText]),
        record: &str,
        names: &BTreeMap<String, String>,
    ) {
        for name in named.iter().filter(|name| !names.contains_key(&name.0)) {
            let meant = nearest(&name.0, names.keys().map(String::as_str));
            let meant = meant.map(|meant| format!(", did you mean {meant}?")).unwrap_or_default();
            let message = format!("no [[{record}]] has the name {}{meant}", name.0);
            self.fault(&format!("{}.{list}", asks.table), &[], &message);
        }
    }

    fn asks(&mut self, asks: &CallerTerms<'_>, names: &BTreeMap<String, String>, providers: &[IdentityProviderConfig]) {
        let key = |name: &str| format!("{}.{name}", asks.table);
        if asks.auth == CallerAuth::Passthrough {
            let is_forwarded = asks.forwards.is_some() || asks.forwarded_identity != ForwardedIdentity::Off;
            let settings = [
                ("identity_providers", !asks.providers.is_empty()),
                ("auth_resource", asks.auth_resource.is_some() && asks.identity_header.is_none() && !is_forwarded),
                ("scopes_required", !asks.scopes.is_empty() && asks.forwarded_identity == ForwardedIdentity::Off),
                ("upstream_authorization_file", asks.authorization_file.is_some()),
                ("identity_header", asks.identity_header.is_some() && !asks.asks_for_anything()),
            ];
            for (name, _) in settings.into_iter().filter(|(_, is_set)| *is_set) {
                self.fault(&key(name), &[&key("auth")], "it has no effect: set auth to verify or terminate");
            }
            // Whoever reads the header has to know that it is meant.
            if asks.asks_for_anything() && asks.identity_header.is_some() {
                self.resource(asks);
            }
            return;
        }
        self.asks_one(asks, providers);
        if names.is_empty() {
            self.fault(
                &key("auth"),
                &[],
                "no identity provider is configured, so no token can be accepted: add an [[identity_provider]]",
            );
        }
        self.names_of(asks, ("identity_providers", asks.providers), "identity_provider", names);
        if matches!(asks.host, HostPattern::Wildcard(_)) {
            let why = "a token is for one resource, and this is a table for many hosts: write a table for each host";
            self.fault(&key("auth"), &[], why);
        }
        self.resource(asks);
        if asks.authorization_file.is_some() && asks.auth != CallerAuth::Terminate {
            let why = "with auth = \"verify\" the caller's token is passed on to the server: set auth to terminate";
            self.fault(&key("upstream_authorization_file"), &[&key("auth")], why);
        }
    }

    /// Checks that it is known what tokens are for.
    fn resource(&mut self, asks: &CallerTerms<'_>) {
        let key = format!("{}.auth_resource", asks.table);
        match (asks.auth_resource, asks.public_url) {
            (None, None) => {
                let why = "missing; set it to the URL by which agents call the MCP server, or set public_url";
                self.missing(&key, why);
            }
            (Some(resource), _) if !is_resource(&resource.0) => {
                let why = "this is not the URL of a resource: scheme and host in lower case, no query and no fragment, such as \
                           https://demo.example.com/mcp";
                self.fault(&key, &[], why);
            }
            _ => {}
        }
    }
}

/// Whether what is fetched from a URL is authentic.
pub(super) fn is_safe_url(url: &str) -> bool {
    let authority = |rest: &str| rest.split(['/', '?', '#']).next().unwrap_or_default().to_owned();
    if let Some(rest) = url.strip_prefix("https://") {
        return !authority(rest).is_empty() && !authority(rest).contains('@');
    }
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = authority(rest);
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// Whether this is a valid URL of a resource (RFC 8707 section 2).
fn is_resource(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    ["http", "https"].contains(&scheme)
        && !authority.is_empty()
        && !authority.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'@')
        && !url.contains(['?', '#'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_urls_must_be_https_or_local() {
        for url in
            ["https://a.example/jwks?x=1", "http://localhost:8080/jwks", "http://127.0.0.1:1/", "http://[::1]:1/x"]
        {
            assert!(is_safe_url(url), "{url}");
        }
        for url in
            ["http://a.example", "http://localhost.evil.example", "http://127.0.0.1@evil.example/", "https://", "x"]
        {
            assert!(!is_safe_url(url), "{url}");
        }
        for url in ["https://a.example", "https://a.example/mcp", "http://localhost:1/mcp/"] {
            assert!(is_resource(url), "{url}");
        }
        for url in
            ["a.example", "https://A.example", "HTTPS://a.example", "https://a/mcp?x", "https://a#x", "https:///"]
        {
            assert!(!is_resource(url), "{url}");
        }
    }
}
