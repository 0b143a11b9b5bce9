//! The field in which an edge tells a connector who calls.

use super::RequestHead;
use super::names::{EDGE_IDENTITY, Known};
use super::text::push_field;

/// Several fields for the one identity of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AmbiguousIdentity;

impl RequestHead {
    /// The signed identity of the caller, as an edge sends it to a connector. From anybody else it means nothing.
    ///
    /// # Errors
    ///
    /// If there are several of them, or one under a name that only looks like it.
    pub fn edge_identity(&self) -> Result<Option<&[u8]>, AmbiguousIdentity> {
        let section = self.section();
        let mut found = section.fields().iter().filter(|field| field.known == Known::EdgeIdentity);
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some(field), None) if section.name(field).eq_ignore_ascii_case(EDGE_IDENTITY.as_bytes()) => {
                Ok(Some(section.value(field)))
            }
            _ => Err(AmbiguousIdentity),
        }
    }
}

/// Appends the field with a signed identity.
pub(super) fn push_edge_identity(out: &mut Vec<u8>, identity: &str) {
    push_field(out, b"Adit-Caller", identity.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::{Method, RequestEdits, write_request};
    use super::*;

    fn head(fields: &str) -> RequestHead {
        let mut head = RequestHead::new();
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        assert!(head.feed(text.as_bytes()).is_ok_and(|fed| matches!(fed, super::super::Progress::Complete { .. })));
        assert_eq!(head.method(), Method::Post);
        head
    }

    #[test]
    fn only_the_request_writer_sets_the_identity_header() {
        let forged =
            "Adit-Caller: eve\r\nadit_caller: eve\r\nADIT-CALLER: eve\r\nX: 1\r\nConnection: x-a, adit-caller\r\n";
        let written = |edge_identity| {
            let mut out = Vec::new();
            write_request(&head(forged), &RequestEdits { edge_identity, ..RequestEdits::default() }, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(None), "POST / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n");
        assert_eq!(written(Some("alice")), "POST / HTTP/1.1\r\nHost: a\r\nX: 1\r\nAdit-Caller: alice\r\n\r\n");
    }

    #[test]
    fn one_field_is_read_and_several_are_refused() {
        assert_eq!(head("").edge_identity(), Ok(None));
        assert_eq!(head("adit-caller: a.b.c\r\n").edge_identity(), Ok(Some(&b"a.b.c"[..])));
        for several in
            ["Adit-Caller: a\r\nadit-caller: a\r\n", "Adit-Caller: a\r\nAdit_Caller: a\r\n", "adit_caller: a\r\n"]
        {
            assert_eq!(head(several).edge_identity(), Err(AmbiguousIdentity), "{several}");
        }
    }
}
