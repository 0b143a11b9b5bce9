//! The responses to callers whose token or certificate is missing, invalid, insufficient, or cannot be checked.

use crate::wire::http1::Answer;

/// The `Retry-After`, in seconds, of a call whose token could not be checked.
const RETRY_AFTER_S: u32 = 5;

/// Why a caller is refused before its message is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerRefused {
    /// The request has no access token.
    NoToken,
    /// The token is not valid.
    InvalidToken,
    /// The token lacks a required scope.
    Scope,
    /// The keys for checking the token are not known at present.
    KeysUnavailable,
    /// The issuer, which is asked about the token, gives no answer at present.
    IntrospectionUnavailable,
    /// The request names an MCP session that was begun for another caller.
    OtherSession,
    /// The caller has shown no client certificate.
    NoCertificate,
    /// The client certificate is not accepted.
    Certificate,
    /// The caller was not asked for its client certificate, because its connection is for another host.
    CertificateNotAsked,
    /// The token of the caller is not exchanged for one of the server.
    ExchangeRefused,
    /// The server that exchanges tokens gives no answer at present.
    ExchangeUnavailable,
    /// The edge has not said who calls.
    NoEdgeIdentity,
    /// What the edge says about the caller is not accepted.
    EdgeIdentity,
    /// The identity of the caller is too long to be forwarded to the connector.
    LongIdentity,
    /// The edge has shown no certificate.
    NoEdgeCertificate,
    /// The certificate of the edge is not accepted.
    EdgeCertificate,
}

impl CallerRefused {
    /// All reasons, in order of declaration.
    #[cfg(test)]
    pub const ALL: [CallerRefused; 16] = [
        CallerRefused::NoToken,
        CallerRefused::InvalidToken,
        CallerRefused::Scope,
        CallerRefused::KeysUnavailable,
        CallerRefused::IntrospectionUnavailable,
        CallerRefused::OtherSession,
        CallerRefused::NoCertificate,
        CallerRefused::Certificate,
        CallerRefused::CertificateNotAsked,
        CallerRefused::ExchangeRefused,
        CallerRefused::ExchangeUnavailable,
        CallerRefused::NoEdgeIdentity,
        CallerRefused::EdgeIdentity,
        CallerRefused::LongIdentity,
        CallerRefused::NoEdgeCertificate,
        CallerRefused::EdgeCertificate,
    ];

    /// The machine-readable name of the reason.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            CallerRefused::NoToken => "token_missing",
            CallerRefused::InvalidToken => "invalid_token",
            CallerRefused::Scope => "insufficient_scope",
            CallerRefused::KeysUnavailable => "keys_unavailable",
            CallerRefused::IntrospectionUnavailable => "introspection_unavailable",
            CallerRefused::OtherSession => "session_unknown",
            CallerRefused::NoCertificate => "certificate_missing",
            CallerRefused::Certificate => "certificate_refused",
            CallerRefused::CertificateNotAsked => "certificate_not_asked",
            CallerRefused::ExchangeRefused => "exchange_refused",
            CallerRefused::ExchangeUnavailable => "exchange_unavailable",
            CallerRefused::NoEdgeIdentity => "edge_identity_missing",
            CallerRefused::EdgeIdentity => "edge_identity_refused",
            CallerRefused::LongIdentity => "identity_too_long",
            CallerRefused::NoEdgeCertificate => "edge_certificate_missing",
            CallerRefused::EdgeCertificate => "edge_certificate_refused",
        }
    }

    /// The response, which leaves the connection open.
    #[must_use]
    pub fn answer(self) -> Answer<'static> {
        let (status, rpc_code, message) = match self {
            CallerRefused::NoToken => {
                (401, -31_050, "this server needs an access token: `WWW-Authenticate` says where to get one")
            }
            CallerRefused::InvalidToken => {
                (401, -31_051, "the access token is not accepted: `WWW-Authenticate` says why and where to get another")
            }
            CallerRefused::Scope => {
                (403, -31_031, "the access token lacks a scope: authorize again with the scopes of `WWW-Authenticate`")
            }
            CallerRefused::KeysUnavailable => (
                503,
                -31_052,
                "the access token cannot be checked, because the keys of its issuer cannot be fetched: try again after a \
                 pause; the operator finds the reason in the log of the edge or connector",
            ),
            CallerRefused::IntrospectionUnavailable => (
                503,
                -31_054,
                "the access token cannot be checked, because its issuer gives no answer about it: try again after a pause; the \
                 operator finds the reason in the log of the edge or connector",
            ),
            // As the specification has it for a session that the server does not know.
            CallerRefused::OtherSession => {
                (404, -31_053, "this caller has no such session: begin one with `initialize`, without Mcp-Session-Id")
            }
            CallerRefused::NoCertificate => {
                (403, -31_055, "this server needs a client certificate: connect with one that its operator accepts")
            }
            CallerRefused::Certificate => (
                403,
                -31_056,
                "the client certificate is not accepted: connect with another one, or with none if none is needed",
            ),
            CallerRefused::ExchangeRefused => (
                403,
                -31_058,
                "the authorization server gives no token of this MCP server for the access token: have its administrator grant this \
                 user access to the server, or authorize as another user; the operator finds the reason in the log of the edge or \
                 connector",
            ),
            CallerRefused::ExchangeUnavailable => (
                503,
                -31_059,
                "the access token cannot be exchanged for one of this MCP server, because the authorization server gives no answer: \
                 try again after a pause; the operator finds the reason in the log of the edge or connector",
            ),
            CallerRefused::NoEdgeIdentity => (
                403,
                -31_080,
                "this server is only for callers that the edge has identified: the operator of the edge has to set `forward_identity` \
                 for this host, and an edge that is not trusted does not lead here",
            ),
            CallerRefused::EdgeIdentity => (
                403,
                -31_081,
                "what the edge says about the caller is not accepted: the operators of edge and connector have to compare issuer, keys, \
                 clocks and the URL of this server",
            ),
            CallerRefused::LongIdentity => (
                403,
                -31_082,
                "the identity of the caller is too long for the connector: the operator of the edge has to forward fewer claims \
                 (`forwarded_claims`)",
            ),
            CallerRefused::NoEdgeCertificate => (
                403,
                -31_083,
                "this server takes calls only from an edge that shows a certificate in an inner TLS session: the operators have to set \
                 `traffic = \"resealed\"` for this host at edge and connector",
            ),
            CallerRefused::EdgeCertificate => (
                403,
                -31_084,
                "the certificate of the edge is not accepted: the operator of the connector has to compare `edge_authorities` with the \
                 authority of the edge",
            ),
            CallerRefused::CertificateNotAsked => (
                421,
                -31_057,
                "this server may need a client certificate, and this connection was made for another host: open a connection with \
                 this host as its server name (SNI)",
            ),
        };
        let retry_after_s = Some(RETRY_AFTER_S).filter(|_| status == 503);
        let may_have_acted = Some(false);
        Answer { rpc_code, retry_after_s, may_have_acted, close: false, ..Answer::new(status, self.code(), message) }
    }

    /// Whether another token would help.
    #[must_use]
    pub(super) const fn is_challenged(self) -> bool {
        matches!(self, CallerRefused::NoToken | CallerRefused::InvalidToken | CallerRefused::Scope)
    }

    /// The text in the list of calls.
    #[must_use]
    pub const fn listed(self) -> &'static str {
        match self {
            CallerRefused::NoToken => "its caller presented no access token",
            CallerRefused::InvalidToken => "the access token of its caller is not accepted",
            CallerRefused::Scope => "the access token of its caller lacks a scope",
            CallerRefused::KeysUnavailable => "the keys of the issuer of its access token are not known",
            CallerRefused::IntrospectionUnavailable => "the issuer of its access token gives no answer about it",
            CallerRefused::OtherSession => "its session was begun for another caller",
            CallerRefused::ExchangeRefused => {
                "the authorization server gives no token of the server for that of its caller"
            }
            CallerRefused::ExchangeUnavailable => "the authorization server that exchanges its token gives no answer",
            CallerRefused::NoEdgeIdentity => "the edge has not said who its caller is",
            CallerRefused::EdgeIdentity => "what the edge says about its caller is not accepted",
            CallerRefused::LongIdentity => "the identity of its caller is too long to be forwarded",
            CallerRefused::NoEdgeCertificate => "the edge has shown no certificate",
            CallerRefused::EdgeCertificate => "the certificate of the edge is not accepted",
            CallerRefused::NoCertificate => "its caller has shown no client certificate",
            CallerRefused::Certificate => "the client certificate of its caller is not accepted",
            CallerRefused::CertificateNotAsked => {
                "its connection is for another host, so its caller was not asked for a certificate"
            }
        }
    }
}
