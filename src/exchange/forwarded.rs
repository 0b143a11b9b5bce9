use crate::wire::http1::RequestHead;

/// The fields by which an upstream is told whose request it is: the agent's address, the scheme and the host that it called.
#[must_use]
pub fn forwarded<'a>(peer: &'a [u8], scheme: &'a [u8], head: &'a RequestHead) -> [(&'static str, &'a [u8]); 3] {
    let host = head.get("host").unwrap_or_default();
    [("X-Forwarded-For", peer), ("X-Forwarded-Proto", scheme), ("X-Forwarded-Host", host)]
}
