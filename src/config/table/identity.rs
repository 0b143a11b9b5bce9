//! The tables of who calls: issuers of tokens, authorities of certificates, token exchange and trusted edges.

use std::path::PathBuf;

use crate::config::section::section;
use crate::config::values::{AlgorithmName, CallerName, Millis, TokenText};

section! {
    /// The keys of the issuers of access tokens, which hosts and routes with `auth` accept. Both roles read it.
    section "identity" => IdentityConfig {
        /// How often the keys of each provider are fetched again.
        refresh_ms: Millis = "10m" in 1_000..=86_400_000, live, like "1h";
        /// How long known keys are used while new ones cannot be fetched. After that, calls are answered 503.
        offline_grace_ms: Millis = "4h" in 1_000..=604_800_000, live, like "1h";
        /// The shortest time between two fetches that tokens with unknown keys cause, for example after keys were rotated. In
        /// between, such tokens are refused.
        unknown_key_ms: Millis = "15s" in 1_000..=3_600_000, live, like "1m";
        /// The name of this edge as the issuer of identities that it forwards (`forward_identity`), such as its URL. Connectors compare
        /// it byte for byte with `issuer` of a `[[trusted_edge]]`.
        edge_issuer: Option<TokenText> = unset, live, like "https://edge.example.com";
    } with {
        /// The issuers of access tokens: the tables `[[identity_provider]]`.
        providers: IdentityProviderConfig
    } with {
        /// The authorities of client certificates: the tables `[[client_authority]]`.
        authorities: ClientAuthorityConfig
    } with {
        /// Where tokens are exchanged: the tables `[[token_exchange]]`.
        exchanges: TokenExchangeConfig
    } with {
        /// The edges that may say who calls: the tables `[[trusted_edge]]`.
        trusted_edges: TrustedEdgeConfig
    }
}

section! {
    /// An edge that may say who calls, for routes with `forwarded_identity`: one `[[trusted_edge]]` each. It can then claim to be called
    /// by anybody. Read by `adit connect`.
    record "trusted_edge" => TrustedEdgeConfig {
        /// The name that routes, policies and the audit log use for it.
        name: TokenText = required, live, like "front";
        /// Its name as an issuer, byte for byte as in its `identity.edge_issuer`.
        issuer: TokenText = required, live, like "https://edge.example.com";
        /// A file with its public keys (JWKS), as `adit edge identity-keys` prints them. Read again when it changes. This or `jwks_url`
        /// is required.
        jwks_file: Option<PathBuf> = unset, live, like "front.jwks.json";
        /// The URL of its public keys (JWKS): `https`, or `http` on this machine. Redirects are not followed.
        jwks_url: Option<TokenText> = unset, live, like "https://keys.example.com/front.jwks.json";
        /// The certificates (PEM) of the authorities that sign the certificate of `jwks_url`, instead of the public ones.
        ca_file: Option<PathBuf> = unset, live, like "keys-ca.pem";
        /// The issuers of the identities that it may forward: those of tokens, `x509:` with the name of a `[[client_authority]]`
        /// of the edge, or its own `issuer` for static keys. Empty for any.
        vouches_for: Vec<TokenText> = unset, live, like "https://login.example.com/realms/demo";
        /// How far the clocks of the edge and of this process may be apart.
        leeway_ms: Millis = "10s" in 0..=60_000, live, like "2s";
    }
}

section! {
    /// An authorization server at which tokens of callers are exchanged for tokens of an MCP server (RFC 8693), for hosts and
    /// routes with `token_exchange`: one `[[token_exchange]]` each. Both roles read it.
    record "token_exchange" => TokenExchangeConfig {
        /// The name that hosts and routes use for it.
        name: TokenText = required, live, like "tickets";
        /// The URL of the token endpoint: `https`, or `http` on this machine.
        token_url: TokenText = required, live, like "https://login.example.com/realms/demo/protocol/openid-connect/token";
        /// The id with which adit authenticates there (HTTP Basic).
        client_id: TokenText = required, live, like "adit";
        /// A file, mode 0600, with the secret for `client_id`. It is read again when it changes.
        client_secret_file: PathBuf = required, live, like "exchange.secret";
        /// The name of the MCP server at the authorization server. This or `resource` is required.
        audience: Option<TokenText> = unset, live, like "tickets-api";
        /// The URL of the MCP server (RFC 8707), for authorization servers that know it by its URL.
        resource: Option<TokenText> = unset, live, like "https://tickets.internal.example.com/";
        /// The scopes to ask for. By default, the authorization server decides.
        scopes: Vec<TokenText> = unset, live, like "tickets:read";
        /// The certificates (PEM) of the authorities that sign the certificate of the token endpoint, instead of the public ones.
        ca_file: Option<PathBuf> = unset, live, like "login-ca.pem";
    }
}

section! {
    /// An authority that signs client certificates of callers, for hosts and routes with `client_certificate`: one
    /// `[[client_authority]]` each. Both roles read it.
    record "client_authority" => ClientAuthorityConfig {
        /// The name that hosts and routes use for it. As the issuer of an identity it is written with `x509:` before it.
        name: TokenText = required, live, like "partners";
        /// The certificates (PEM) of the authority. Intermediate certificates may also come from the caller. Read again when it
        /// changes.
        ca_file: PathBuf = required, live, like "partners-ca.pem";
        /// Which name in a certificate says who calls: the `uri`, `dns` name or `email` address of its alternative names, the
        /// `common-name` of its subject, or the whole `subject` (RFC 4514). A certificate with none or several of them is refused.
        /// For `subject`, the authority must never give one subject to two callers.
        name_from: CallerName = "uri", live, like "email";
        /// The lists of revoked certificates (PEM, `X509 CRL`). If it is set, a certificate that no list covers is refused, and
        /// so are all certificates once the next list is overdue. Intermediate certificates need a list of their authority too. Read again when it changes.
        crl_file: Option<PathBuf> = unset, live, like "partners.crl.pem";
    }
}

section! {
    /// An issuer of access tokens: one `[[identity_provider]]` each. Its keys are fetched from the URL in its metadata
    /// (OpenID Connect Discovery, RFC 8414), unless one of `jwks_url`, `jwks_file`, `shared_key_file` and
    /// `introspection_url` is set. Both
    /// roles read it.
    record "identity_provider" => IdentityProviderConfig {
        /// The name that hosts and routes use for it.
        name: TokenText = required, live, like "corporate";
        /// The issuer, byte for byte as in the claim `iss` of its tokens.
        issuer: TokenText = required, live, like "https://login.example.com/realms/demo";
        /// The URL of its keys (JWKS): `https`, or `http` on this machine. Redirects are not followed.
        jwks_url: Option<TokenText> = unset, live, like "https://login.example.com/realms/demo/protocol/openid-connect/certs";
        /// A file with its keys (JWKS), in place of a URL. Read again when it changes.
        jwks_file: Option<PathBuf> = unset, live, like "jwks.json";
        /// A file, mode 0600, with the key that it shares with this process: at least 32 bytes, used unchanged except
        /// for a line end. Anyone who can read it can create tokens. It is required for, and only used by, HS256, HS384
        /// and HS512.
        shared_key_file: Option<PathBuf> = unset, live, like "shared.key";
        /// The URL at which it is asked about each token (RFC 7662), for opaque tokens or for tokens that can be revoked: `https`,
        /// or `http` on this machine. It is used in place of keys, and requires `client_id` and `client_secret_file`. At most one
        /// provider of a host or route can have it.
        introspection_url: Option<TokenText> = unset, live, like "https://login.example.com/realms/demo/introspect";
        /// The id with which adit authenticates at `introspection_url` (HTTP Basic).
        client_id: Option<TokenText> = unset, live, like "adit";
        /// A file, mode 0600, with the secret for `client_id`. It is read again when it changes.
        client_secret_file: Option<PathBuf> = unset, live, like "introspection.secret";
        /// How long a token is accepted after the provider has said that it is active. A token that is revoked is refused after this
        /// time. A token is never accepted after its own end.
        introspection_cache_ms: Millis = "1m" in 5_000..=3_600_000, live, like "10s";
        /// The certificates (PEM) of the authorities that sign the certificate of its server, instead of the public ones.
        ca_file: Option<PathBuf> = unset, live, like "login-ca.pem";
        /// The accepted audiences of tokens, in place of the URL of the resource: a token must have one of them. A token is then
        /// valid for all hosts and routes that accept the provider.
        audiences: Vec<TokenText> = unset, live, like "api://demo";
        /// The algorithms by which its tokens may be signed. By default those with public keys (RS256, RS384, RS512, PS256, PS384,
        /// PS512, ES256, ES384, EdDSA), or with `shared_key_file` HS256.
        algorithms: Vec<AlgorithmName> = unset, live, like "RS256";
        /// The types of tokens (`typ`) that are accepted, without `application/`. A token without a type counts as
        /// `jwt`. If the provider types its access tokens (RFC 9068), `at+jwt` alone keeps out identity tokens.
        token_types: Vec<TokenText> = "at+jwt,jwt", live, like "at+jwt";
        /// How far the clocks of the provider and of this process may be apart.
        leeway_ms: Millis = "30s" in 0..=600_000, live, like "1m";
    }
}
