//! Scans a JSON-RPC answer as it passes: whether it is a result or an error, and its code.

use crate::wire::scan::text_stop;

/// The kind of the last answer among the messages that have passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AnswerSays {
    /// No response has ended yet. Requests and notifications do not count.
    #[default]
    Nothing,
    /// A complete result has passed.
    Result,
    /// An error, or a tool's result that is marked as one (`isError`).
    Error,
}

/// Scans the JSON-RPC messages of a body, which passes in pieces of any size. Of several answers the last counts. Names
/// with escapes are not recognised; text that is not JSON is ignored.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnswerScan {
    says: AnswerSays,
    code: Option<i64>,
    is_error: Option<bool>,
    /// The number of open objects and arrays, without that of a batch.
    depth: u32,
    at: At,
    /// The last string, while a colon may follow it, or the number that is being read.
    text: Text,
    /// Whether the message has a result, or an error that is not null.
    is_answer: bool,
    /// The member of the message that is open.
    part: Part,
}

/// The kind of the next byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Between,
    String {
        is_escaped: bool,
    },
    /// The value of a member follows.
    Value,
    /// The code of an error.
    Code,
}

/// The member of a message that is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Other,
    Result,
    Error,
}

/// The start of a string.
#[derive(Clone, Copy, Debug, Default)]
struct Text {
    start: [u8; Text::LEN_MAX],
    len: usize,
}

impl AnswerScan {
    /// Processes the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let [byte, behind @ ..] = rest {
            if self.at == (At::String { is_escaped: false }) && self.text.is_full() {
                // Nothing of a long text matters before its end.
                rest = &rest[text_stop(rest).unwrap_or(rest.len())..];
                let [stop, behind @ ..] = rest else { return };
                self.feed_byte(*stop);
                rest = behind;
            } else {
                self.feed_byte(*byte);
                rest = behind;
            }
        }
    }

    /// The kind of the last answer so far.
    #[must_use]
    pub const fn says(&self) -> AnswerSays {
        self.says
    }

    /// The code of the last answer, if it is an error.
    #[must_use]
    pub const fn code(&self) -> Option<i64> {
        self.code
    }

    /// The member `isError` of its result, if present.
    #[must_use]
    pub const fn is_error(&self) -> Option<bool> {
        self.is_error
    }

    fn feed_byte(&mut self, byte: u8) {
        if let At::String { is_escaped } = self.at {
            self.at = match byte {
                b'"' if !is_escaped => At::Between,
                _ => At::String { is_escaped: byte == b'\\' && !is_escaped },
            };
            if self.at != At::Between {
                self.text.push(byte);
            }
            return;
        }
        if self.at == At::Code && !matches!(byte, b',' | b'}' | b']') && !byte.is_ascii_whitespace() {
            return self.text.push(byte);
        }
        if self.at == At::Code {
            self.code = self.text.number();
            self.at = At::Between;
        }
        if byte.is_ascii_whitespace() {
            return;
        }
        let is_code = self.at == At::Value && self.on_value(byte);
        self.at = match byte {
            b'"' => At::String { is_escaped: false },
            b':' => At::Value,
            _ if is_code => At::Code,
            _ => At::Between,
        };
        if byte != b':' {
            self.text.len = 0;
        }
        match byte {
            b'{' => {
                if self.depth == 0 {
                    (self.is_answer, self.part) = (false, Part::Other);
                }
                self.depth += 1;
            }
            // The bracket of a batch is not counted.
            b'[' if self.depth > 0 => self.depth += 1,
            b'}' | b']' if self.depth > 0 => self.on_end(),
            _ if is_code => self.text.push(byte),
            _ => {}
        }
    }

    /// Called when the value of the last named member begins. Returns whether it is the code of an error.
    fn on_value(&mut self, byte: u8) -> bool {
        match (self.depth, self.text.bytes()) {
            (1, name) => {
                self.part = match name {
                    b"result" => Part::Result,
                    // Some servers send the unused member as null.
                    b"error" if byte != b'n' => Part::Error,
                    _ => Part::Other,
                };
                if self.part != Part::Other && !self.is_answer {
                    self.is_answer = true;
                    (self.says, self.code, self.is_error) = Default::default();
                }
                if self.part == Part::Error {
                    self.says = AnswerSays::Error;
                }
            }
            (2, b"isError") if self.part == Part::Result => {
                self.is_error = match byte {
                    b't' => Some(true),
                    b'f' => Some(false),
                    _ => None,
                };
                if self.is_error == Some(true) {
                    self.says = AnswerSays::Error;
                }
            }
            (2, b"code") if self.part == Part::Error => return byte == b'-' || byte.is_ascii_digit(),
            _ => {}
        }
        false
    }

    fn on_end(&mut self) {
        self.depth -= 1;
        if self.depth == 0 && self.is_answer && self.says == AnswerSays::Nothing {
            self.says = AnswerSays::Result;
        }
    }
}

impl Text {
    /// Enough bytes to distinguish the names of interest from all others, and for every 64-bit number.
    const LEN_MAX: usize = 24;

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.start.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    const fn is_full(&self) -> bool {
        self.len == Text::LEN_MAX
    }

    fn bytes(&self) -> &[u8] {
        &self.start[..self.len]
    }

    fn number(&self) -> Option<i64> {
        std::str::from_utf8(self.bytes()).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_errors_are_distinguished_in_every_cut() {
        let cases = [
            ("", AnswerSays::Nothing),
            (r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#, AnswerSays::Result),
            (r#"{"result":{"content":[{"type":"text","text":"\"}"}],"isError":false},"id":1}"#, AnswerSays::Result),
            (r#"{"id":1,"result":null,"error":{"code":1}}"#, AnswerSays::Error),
            (r#"{"id":1,"error":null,"result":{}}"#, AnswerSays::Result),
            (r#"{"id":1,"error" : {"code":-32603,"message":"x"}}"#, AnswerSays::Error),
            (r#"{"id":1,"result":{"content":[{"a":1}], "isError" : true}}"#, AnswerSays::Error),
            (r#" [ {"id":1,"result":{"isError":true}} ]"#, AnswerSays::Error),
            (r#"[{"id":1,"result":{}}]"#, AnswerSays::Result),
            // Not a member of the message or of its result, or another name.
            (r#"{"id":1,"result":{"structuredContent":{"isError":true,"error":{}}}}"#, AnswerSays::Result),
            (r#"{"id":1,"_meta":{"isError":true},"result":{"error":"isError"}}"#, AnswerSays::Result),
            (r#"{"id":1,"result":{"isErrors":true,"text":"error\\"}}"#, AnswerSays::Result),
            (r#"{"id":1,"result":{"content":[]}"#, AnswerSays::Nothing),
            (r#"{"method":"notifications/message","params":{"error":1,"isError":true}}"#, AnswerSays::Nothing),
            (r#"{"method":"a","params":{}}{"id":1,"result":{}}"#, AnswerSays::Result),
            (r#"{"method":"a","params":{"result":{}}}{"id":1,"error":{}}"#, AnswerSays::Error),
            (r#"not "json" at: all ]]}}"#, AnswerSays::Nothing),
        ];
        for (body, says) in cases {
            for at in 0..=body.len() {
                let mut scan = AnswerScan::default();
                let (before, after) = body.as_bytes().split_at(at);
                scan.feed(before);
                scan.feed(after);
                assert_eq!(scan.says(), says, "{body:?} cut at {at}");
            }
        }
    }

    #[test]
    fn code_and_is_error_of_the_last_answer_are_found_in_every_cut() {
        for (answer, found) in [
            (r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}"#, (None, Some(true))),
            (r#"{"result":{"isError" : false , "content":[{"isError":true}]},"id":1}"#, (None, Some(false))),
            (r#"{"error":{"code":-32602,"message":"\"code\":1"},"id":"}"}"#, (Some(-32_602), None)),
            (r#"{"error":{"data":{"code":1},"message":"m","code": -31001 }}"#, (Some(-31_001), None)),
            (r#"{"result":{"structuredContent":{"isError":true}}}"#, (None, None)),
            (r#"{"isError":true,"params":{"isError":true,"code":4},"code":3}"#, (None, None)),
            (r#"{"result":{"text":"{\"isError\":true"}}"#, (None, None)),
            (r#"{"result":{"isError":"true"}}"#, (None, None)),
            (r#"{"error":{"code":"1"}}"#, (None, None)),
            (r#"{"error":{"code":1.5}}"#, (None, None)),
            (r#"{"error":{"code":123456789012345678901234567890}}"#, (None, None)),
            // The member that is not used is null.
            (r#"{"result":{"isError":true},"error":null}"#, (None, Some(true))),
            (r#"{"error":{"code":1},"result":null}"#, (Some(1), None)),
            (r#"{"result":null,"error":{"code":1}}"#, (Some(1), None)),
            // The last answer counts, and nothing of the previous one.
            (r#"[{"result":{"isError":true}}]"#, (None, Some(true))),
            (r#"[{"result":{"isError":true}},{"error":{"code":7}}]"#, (Some(7), None)),
            (r#"[{"error":{"code":7}},{"result":{}},{"method":"m","params":{"error":{}}}]"#, (None, None)),
            (r#"{"error":{"code":7}}{"method":"m","params":{}}"#, (Some(7), None)),
            ("", (None, None)),
            ("}}]]::,,\"{", (None, None)),
        ] {
            for at in 0..=answer.len() {
                let mut scan = AnswerScan::default();
                let (before, after) = answer.as_bytes().split_at(at);
                scan.feed(before);
                scan.feed(after);
                assert_eq!((scan.code(), scan.is_error()), found, "{answer} cut at {at}");
            }
        }
    }

    #[test]
    fn a_body_in_one_piece_and_byte_by_byte_have_the_same_result() {
        let mut rng = crate::base::Rng::new(6);
        let parts: [&[u8]; 14] = [
            b"{\"result\":", b"{\"isError\":true", b"\"error\":", b"{\"code\":-7", b"}", b"]", b"[", b",", b"\"", b"\\", b":", b"\n",
            b"a text that is longer than any name of interest, and a long one that goes on for a while behind it ........",
            b"\xc3\xa4",
        ];
        for _ in 0..3_000 {
            let count = rng.below(30);
            let body: Vec<u8> =
                (0..count).flat_map(|_| parts[rng.below(parts.len() as u64) as usize].iter().copied()).collect();
            let (mut whole, mut single) = (AnswerScan::default(), AnswerScan::default());
            whole.feed(&body);
            body.iter().for_each(|byte| single.feed_byte(*byte));
            let state = |scan: &AnswerScan| (scan.says(), scan.code(), scan.is_error(), scan.depth, scan.at);
            assert_eq!(state(&whole), state(&single), "{}", String::from_utf8_lossy(&body));
        }
    }

    #[test]
    fn no_bytes_make_it_fail() {
        let mut rng = crate::base::Rng::new(5);
        let alphabet = b"{}[]\":,\\ \nresultisErrorcode-1true\xff";
        let mut scan = AnswerScan::default();
        for _ in 0..200_000 {
            scan.feed(&[alphabet[rng.below(alphabet.len() as u64) as usize]]);
        }
    }
}
