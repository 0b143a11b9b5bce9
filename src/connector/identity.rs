//! The two addresses of a route: that of its upstream, and the public one that agents call.

use std::borrow::Cow;

use crate::exchange::CalledAddress;
use crate::route::{PublicUrl, Scheme, UpstreamUrl};
use crate::wire::http1::{Method, OriginEdit, PublicAddress, RequestHead, ResponseHead};
use crate::wire::oauth::is_metadata_path;

/// The media type of the metadata.
const JSON: &[u8] = b"application/json";

/// How a route's upstream is addressed, and how it learns the address that agents call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteIdentity {
    /// The `Host` that is sent to the upstream; none for the authority of its URL.
    pub upstream_host: Option<Box<str>>,
    /// Whether the `Host` that the agent has sent is kept, unless there is an `upstream_host`.
    pub keeps_host: bool,
    /// The treatment of the `Origin` field.
    pub upstream_origin: UpstreamOrigin,
    /// The public URL of the route; none for the address that each agent called.
    pub public: Option<PublicUrl>,
    /// Whether the upstream's address is rewritten in the metadata of a protected resource (RFC 9728).
    pub rewrites_oauth_metadata: bool,
}

/// The treatment of the `Origin` of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamOrigin {
    /// The field is forwarded unchanged.
    #[default]
    Keep,
    /// The field is removed from the request.
    Drop,
    /// It is replaced by the upstream's own origin.
    Rewrite,
}

/// The addresses of one route, computed once.
pub struct Addresses {
    identity: RouteIdentity,
    own_authority: Box<str>,
    own_origin: Box<str>,
    default_port: u16,
}

impl Addresses {
    /// The addresses of a route to the upstream with this URL.
    #[must_use]
    pub fn new(identity: &RouteIdentity, url: &UpstreamUrl) -> Addresses {
        let (scheme, default_port) = if url.is_tls() { ("https", 443) } else { ("http", 80) };
        let host = identity.upstream_host.as_deref().unwrap_or(url.authority());
        Addresses {
            own_origin: format!("{scheme}://{host}").into(),
            own_authority: url.authority().into(),
            identity: identity.clone(),
            default_port,
        }
    }

    /// The `Host` to set in requests to the upstream; none to keep the one that the agent has sent.
    #[must_use]
    pub fn new_host(&self) -> Option<&str> {
        let is_kept = self.identity.keeps_host && self.identity.upstream_host.is_none();
        (!is_kept).then(|| self.host())
    }

    /// The `Host` that the upstream has for itself.
    #[must_use]
    pub fn host(&self) -> &str {
        self.identity.upstream_host.as_deref().unwrap_or(&self.own_authority)
    }

    /// The change to the `Origin` of requests to the upstream.
    #[must_use]
    pub fn origin(&self) -> OriginEdit<'_> {
        match self.identity.upstream_origin {
            UpstreamOrigin::Keep => OriginEdit::Keep,
            UpstreamOrigin::Drop => OriginEdit::Drop,
            UpstreamOrigin::Rewrite => OriginEdit::Replace(&self.own_origin),
        }
    }

    /// The public address of the route, if one is configured.
    pub(super) fn public(&self) -> Option<CalledAddress<'_>> {
        let public = self.identity.public.as_ref()?;
        Some(CalledAddress { scheme: public.scheme(), authority: public.authority().as_bytes() })
    }

    /// A URL in the upstream's OAuth metadata, rewritten for agents that call this host over HTTPS.
    #[must_use]
    pub fn in_metadata<'a>(&self, url: &'a str, host: &str) -> Cow<'a, str> {
        let called = CalledAddress { scheme: Scheme::Https, authority: host.as_bytes() };
        let public = self.public_address(self.public().unwrap_or(called));
        match public.own_prefix(url.as_bytes()).filter(|_| self.identity.rewrites_oauth_metadata) {
            Some(own) => {
                let address = [public.scheme, b"://", public.authority].concat();
                format!("{}{}", String::from_utf8_lossy(&address), &url[own..]).into()
            }
            None => url.into(),
        }
    }

    /// Whether the body of a response has to be rewritten: the metadata of a protected resource, as plain JSON.
    pub(super) fn is_metadata(&self, request: &RequestHead, response: &ResponseHead) -> bool {
        self.identity.rewrites_oauth_metadata
            && response.status() == 200
            && request.method() == Method::Get
            && is_metadata_path(request.path())
            && response.get("content-encoding").is_none()
            && response
                .get("content-type")
                .is_some_and(|kind| kind.get(..JSON.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(JSON)))
    }

    /// The public address for a response: the one that the agent of this request called.
    pub(super) fn in_response<'a>(&'a self, request: &'a RequestHead, is_agents: bool) -> Option<PublicAddress<'a>> {
        let as_called = || match is_agents {
            true => Some(CalledAddress::of(Scheme::Https, request)),
            false => CalledAddress::of_edge(request),
        };
        self.public().or_else(as_called).map(|called| self.public_address(called))
    }

    fn public_address<'a>(&'a self, CalledAddress { scheme, authority }: CalledAddress<'a>) -> PublicAddress<'a> {
        PublicAddress {
            own: [&self.own_authority, self.host()],
            default_port: self.default_port,
            scheme: scheme.name().as_bytes(),
            authority,
            challenges: self.identity.rewrites_oauth_metadata,
        }
    }
}
