//! Which requests come from the same caller.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};

use crate::bridge::eras::path_of;
use crate::wire::http1::RequestHead;

/// The fields of a request that differ between requests of one caller, or say nothing about it. All other fields count, so
/// that credentials in unknown fields keep callers apart.
const IGNORED: [&str; 28] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "adit-time-left",
    "baggage",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "expect",
    "grpc-timeout",
    "host",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "pragma",
    "priority",
    "te",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "user-agent",
    "x-request-id",
    "x-request-timeout",
];

/// The start of the names of fields that repeat a part of the message.
const PARAMETER: &[u8] = b"mcp-param-";

/// A digest of the credentials of a request. Two requests with the same key may share a session with the server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallerKey([u8; 32]);

impl CallerKey {
    /// The key of a request with this head. `more` are further parts that the sessions must have in common.
    #[must_use]
    pub fn of(head: &RequestHead, more: &[&[u8]]) -> CallerKey {
        let mut fields: Vec<(Vec<u8>, &[u8])> = head
            .headers()
            .map(|(name, value)| (name.to_ascii_lowercase(), value))
            .filter(|(name, _)| counts(name))
            .collect();
        fields.sort_unstable();
        let mut context = Context::new(&SHA256);
        let mut add = |part: &[u8]| {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        };
        add(path_of(head));
        for part in more {
            add(part);
        }
        for (name, value) in &fields {
            add(name);
            add(value);
        }
        let mut key = [0; 32];
        key.copy_from_slice(context.finish().as_ref());
        CallerKey(key)
    }
}

/// Omits the digest, which could be compared with guesses.
impl fmt::Debug for CallerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallerKey(…)")
    }
}

fn counts(name: &[u8]) -> bool {
    let is_ignored = IGNORED.binary_search_by(|ignored| ignored.as_bytes().cmp(name)).is_ok();
    !is_ignored && !name.starts_with(PARAMETER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(fields: &str) -> CallerKey {
        let mut head = RequestHead::new();
        head.feed(format!("POST /mcp HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()).unwrap();
        CallerKey::of(&head, &[])
    }

    #[test]
    fn callers_with_different_credentials_have_different_keys() {
        assert!(IGNORED.is_sorted());
        let one = key("Authorization: Bearer a\r\nMcp-Method: x\r\nContent-Length: 2\r\n");
        assert_eq!(one, key("mcp-param-region: x\r\nAUTHORIZATION: Bearer a\r\nAccept: a/b\r\n"));
        let others = [
            "Authorization: Bearer b\r\n",
            "",
            "Authorization: Bearer a\r\nX-Key: 1\r\n",
            "Authorization: Bearer a\r\nCookie: s=1\r\n",
            "Authorization: Bearer a\r\nAuthorization: Bearer b\r\n",
            "X-Forwarded-For: 10.0.0.1\r\nAuthorization: Bearer a\r\n",
        ];
        for (nth, other) in others.iter().enumerate() {
            assert_ne!(key(other), one, "{other}");
            assert!(others[nth + 1..].iter().all(|next| key(next) != key(other)), "{other}");
        }
    }
}
