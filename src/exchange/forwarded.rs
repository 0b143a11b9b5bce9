use crate::route::Scheme;
use crate::wire::http1::RequestHead;

/// The address that an agent called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CalledAddress<'a> {
    /// The scheme by which the agent called.
    pub scheme: Scheme,
    /// Host and port, as in `Host`.
    pub authority: &'a [u8],
}

impl<'a> CalledAddress<'a> {
    /// The address in the agent's own request.
    #[must_use]
    pub fn of(scheme: Scheme, head: &'a RequestHead) -> CalledAddress<'a> {
        CalledAddress { scheme, authority: head.get("host").unwrap_or_default() }
    }

    /// The address that the edge forwarded with [`forwarded`]. The edge replaces these fields, so an agent cannot forge
    /// them.
    #[must_use]
    pub fn of_edge(head: &'a RequestHead) -> Option<CalledAddress<'a>> {
        let scheme = Scheme::of(head.get(PROTO)?)?;
        let authority = head.get(HOST).filter(|authority| !authority.is_empty())?;
        Some(CalledAddress { scheme, authority })
    }
}

const FOR: &str = "X-Forwarded-For";
const PROTO: &str = "X-Forwarded-Proto";
const HOST: &str = "X-Forwarded-Host";

/// The fields that tell an upstream the agent's address, and the scheme and host that the agent called.
#[must_use]
pub fn forwarded<'a>(peer: &'a [u8], called: CalledAddress<'a>) -> [(&'static str, &'a [u8]); 3] {
    [(FOR, peer), (PROTO, called.scheme.name().as_bytes()), (HOST, called.authority)]
}

/// The agent's address, as the edge forwarded it with [`forwarded`].
#[must_use]
pub fn forwarded_peer(head: &RequestHead) -> &[u8] {
    head.get(FOR).unwrap_or_default()
}
