use memchr::memchr;

/// The method of a progress notification, as JSON text.
const PROGRESS: &[u8] = br#""notifications/progress""#;
/// The method of a notification that a server's tools have changed.
const TOOLS_CHANGED: &[u8] = br#""notifications/tools/list_changed""#;

/// Finds messages of one method in an event stream that passes in pieces of any size.
///
/// It searches for the method's name as a complete JSON string, which may contain `\/`. Inside other JSON strings
/// quotes are escaped, so a text that contains the name does not match.
#[derive(Clone, Copy, Debug)]
pub struct MethodScan {
    method: Method,
    /// How much of the name was matched.
    matched: u8,
}

#[derive(Clone, Copy, Debug)]
enum Method {
    Progress,
    ToolsChanged,
}

impl MethodScan {
    /// Finds progress notifications (`notifications/progress`).
    #[must_use]
    pub const fn progress() -> MethodScan {
        MethodScan { method: Method::Progress, matched: 0 }
    }

    /// Finds notifications of changed tools (`notifications/tools/list_changed`).
    #[must_use]
    pub const fn tools_changed() -> MethodScan {
        MethodScan { method: Method::ToolsChanged, matched: 0 }
    }

    /// Processes the next bytes; returns whether a name ends in them.
    pub fn feed(&mut self, bytes: &[u8]) -> bool {
        let name = match self.method {
            Method::Progress => PROGRESS,
            Method::ToolsChanged => TOOLS_CHANGED,
        };
        let (mut rest, mut found) = (bytes, false);
        while !rest.is_empty() {
            if self.matched == 0 {
                let Some(quote) = memchr(b'"', rest) else { break };
                rest = &rest[quote + 1..];
                self.matched = 1;
                continue;
            }
            let (byte, wanted) = (rest[0], name[usize::from(self.matched)]);
            rest = &rest[1..];
            self.matched = match byte {
                byte if byte == wanted => self.matched + 1,
                b'\\' if wanted == b'/' => self.matched,
                b'"' => 1,
                _ => 0,
            };
            if usize::from(self.matched) == name.len() {
                (self.matched, found) = (0, true);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scan_finds_its_own_method() {
        let text = br#"data: {"jsonrpc":"2.0","method":"notifications\/tools/list_changed"}"#;
        assert!(MethodScan::tools_changed().feed(text) && !MethodScan::progress().feed(text));
    }

    #[test]
    fn progress_is_found_in_every_cut_and_nothing_else_is() {
        let cases: [(&str, usize); 8] = [
            (r#"data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1}}"#, 1),
            (r#"data: {"method":"notifications\/progress"}"#, 1),
            ("data: {\"method\":\"notifications/progress\"}\n\ndata: {\"method\":\"notifications/progress\"}\n\n", 2),
            (r#"data: {"result":{"text":"it says \"notifications/progress\" to us"}}"#, 0),
            (r#"data: {"method":"notifications/progressing"}"#, 0),
            (r#"data: {"method":"notifications/message"}"#, 0),
            (r#"data: {"method":""notifications/progress""#, 1),
            ("", 0),
        ];
        for (text, count) in cases {
            for at in 0..=text.len() {
                let mut scan = MethodScan::progress();
                let found = [&text[..at], &text[at..]].iter().filter(|piece| scan.feed(piece.as_bytes())).count();
                assert!(found == count || (count == 2 && found == 1), "{text} cut at {at}: {found}");
            }
            let mut scan = MethodScan::progress();
            assert_eq!(text.bytes().filter(|byte| scan.feed(&[*byte])).count(), count, "{text} byte by byte");
        }
    }
}
