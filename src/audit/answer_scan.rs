/// What an answer says of the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RpcAnswer {
    /// The code of its JSON-RPC error, if it is one.
    pub code: Option<i64>,
    /// `isError` of its result, if that says so.
    pub is_error: Option<bool>,
}

/// The longest value that is looked for, and more than the longest key, in bytes.
const KEPT_LEN: usize = 24;

/// Looks for `error.code` and `result.isError` in answers while they pass: JSON, or the data of an event stream. It keeps a few bytes
/// and never fails. Of several answers in one stream the last counts.
#[derive(Clone, Debug, Default)]
pub struct RpcAnswerScan {
    depth: u32,
    in_text: bool,
    is_escaped: bool,
    part: Part,
    reads: Reads,
    /// The last text, which is a key if a colon follows, or the value that is read.
    kept: [u8; KEPT_LEN],
    kept_len: usize,
    found: RpcAnswer,
}

/// In which member of the message it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Other,
    Result,
    Error,
}

/// Which value it reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reads {
    #[default]
    Nothing,
    Code,
    IsError,
}

impl RpcAnswerScan {
    /// Looks at the next bytes of the answer.
    pub fn feed(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.read(*byte));
    }

    /// What was found so far.
    #[must_use]
    pub const fn found(&self) -> RpcAnswer {
        self.found
    }

    fn read(&mut self, byte: u8) {
        if self.in_text {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => {
                    self.in_text = false;
                    return;
                }
                _ => {}
            }
            return self.keep(byte);
        }
        match byte {
            // Outside of a message only its start counts: an event stream has other fields.
            b'{' | b'[' if self.depth == 0 => {
                (self.depth, self.part, self.reads) = (1, Part::Other, Reads::Nothing);
            }
            _ if self.depth == 0 => {}
            b'"' => {
                (self.in_text, self.is_escaped, self.kept_len) = (true, false, 0);
                self.reads = Reads::Nothing;
            }
            b'{' | b'[' => (self.depth, self.reads) = (self.depth + 1, Reads::Nothing),
            b'}' | b']' => {
                self.end_value();
                self.depth -= 1;
            }
            b',' => self.end_value(),
            b':' => self.begin_value(),
            b' ' | b'\t' | b'\r' | b'\n' => {}
            byte => self.keep(byte),
        }
    }

    fn keep(&mut self, byte: u8) {
        // One that is too long is neither a key nor a value that is looked for.
        if let Some(place) = self.kept.get_mut(self.kept_len) {
            *place = byte;
            self.kept_len += 1;
        }
    }

    fn begin_value(&mut self) {
        let key = &self.kept[..self.kept_len];
        match self.depth {
            1 => {
                self.part = match key {
                    b"result" => Part::Result,
                    b"error" => Part::Error,
                    _ => Part::Other,
                };
                match self.part {
                    Part::Result | Part::Error => self.found = RpcAnswer::default(),
                    Part::Other => {}
                }
            }
            2 => {
                self.reads = match (self.part, key) {
                    (Part::Error, b"code") => Reads::Code,
                    (Part::Result, b"isError") => Reads::IsError,
                    _ => Reads::Nothing,
                };
            }
            _ => {}
        }
        self.kept_len = 0;
    }

    fn end_value(&mut self) {
        let value = &self.kept[..self.kept_len];
        match self.reads {
            Reads::Nothing => return,
            Reads::Code => self.found.code = std::str::from_utf8(value).ok().and_then(|code| code.parse().ok()),
            Reads::IsError => {
                self.found.is_error = match value {
                    b"true" => Some(true),
                    b"false" => Some(false),
                    _ => None,
                }
            }
        }
        self.reads = Reads::Nothing;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(answer: &str, piece: usize) -> (Option<i64>, Option<bool>) {
        let mut scan = RpcAnswerScan::default();
        answer.as_bytes().chunks(piece).for_each(|piece| scan.feed(piece));
        (scan.found().code, scan.found().is_error)
    }

    #[test]
    fn code_and_is_error_are_found_where_they_mean_something_however_the_answer_is_cut() {
        for (answer, found) in [
            (r#"{"jsonrpc":"2.0","id":1,"result":{"content":[],"isError":true}}"#, (None, Some(true))),
            (r#"{"result":{"isError" : false , "content":[{"isError":true}]},"id":1}"#, (None, Some(false))),
            (r#"{"error":{"code":-32602,"message":"\"code\":1"},"id":"}"}"#, (Some(-32_602), None)),
            (r#"{"error":{"data":{"code":1},"message":"m","code": -31001 }}"#, (Some(-31_001), None)),
            (r#"{"result":{"structuredContent":{"isError":true}}}"#, (None, None)),
            (r#"{"isError":true,"params":{"isError":true,"code":4},"code":3}"#, (None, None)),
            (r#"{"result":{"text":"{\"isError\":true"}}"#, (None, None)),
            (r#"{"result":{"isError":"true"}}"#, (None, None)),
            (r#"[{"result":{"isError":true}}]"#, (None, None)),
            (
                "event: message\nid: \"7\ndata: {\"method\":\"notifications/progress\",\"params\":{}}\n\ndata: {\"result\":{\"isError\":true}}\n\n",
                (None, Some(true)),
            ),
            ("", (None, None)),
            ("}}]]::,,\"{", (None, None)),
        ] {
            for piece in [1, 2, 7, answer.len().max(1)] {
                assert_eq!(scanned(answer, piece), found, "{answer} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn no_bytes_make_it_fail() {
        let mut rng = crate::base::Rng::new(5);
        let alphabet = b"{}[]\":,\\ \nresultisErrorcode-1true\xff";
        let mut scan = RpcAnswerScan::default();
        for _ in 0..200_000 {
            scan.feed(&[alphabet[rng.below(alphabet.len() as u64) as usize]]);
        }
    }
}
