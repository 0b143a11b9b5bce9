//! Bodies that readers of JSON may take for different things.

use adit::base::Rng;

/// What the policy of these tests allows.
pub(super) const TOOLS: [&str; 3] = ["get_a", "naïve 🦀", "get \"b\"\\c"];
pub(super) const PROMPT: &str = "ask_a";
pub(super) const RESOURCE: &str = "file:///docs/a";
/// What it denies.
const DENIED: [&str; 6] = ["drop", "get_b", "GET_A", "get_a ", "file:///etc/b", "constructor"];
const METHODS: [&str; 12] = [
    "tools/call",
    "tools/call",
    "tools/call",
    "prompts/get",
    "resources/read",
    "resources/subscribe",
    "completion/complete",
    "tools/list",
    "ping",
    "notifications/progress",
    "x/own",
    "tasks/result",
];
/// White space of the standard.
const SPACES: [&str; 4] = [" ", "\n", "\t", "\r\n"];
/// What some reader may take for white space, or skip.
const ODD_SPACES: [&[u8]; 9] =
    [b"\x0b", b"\x0c", b"\0", b"\xc2\xa0", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"/* x */", b"// x\n", b"\x1e"];
/// Keys that are almost those of a message.
const ODD_KEYS: [&str; 14] = [
    "Name",
    "NAME",
    "nam\u{435}",
    "name ",
    "name\u{0}",
    "Method",
    "METHOD",
    "m\u{435}thod",
    "Params",
    "param\u{17f}",
    "PARAMS",
    "__proto__",
    "uri\u{feff}",
    "Uri",
];
const KEYS: [&str; 9] = ["jsonrpc", "id", "method", "params", "name", "uri", "ref", "arguments", "_meta"];
const NUMBERS: [&str; 14] = [
    "7",
    "-0",
    "7.0",
    "7e0",
    "1e400",
    "01",
    "+1",
    "0x1",
    "1_000",
    "NaN",
    "Infinity",
    "-",
    "1.",
    "99999999999999999999999",
];

/// A body.
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    /// Whether it is a valid message for something that is allowed, however it is written.
    pub(super) is_clean: bool,
}

/// A member as it is written: key and value.
type Member = (Vec<u8>, Vec<u8>);

/// How odd a body is.
struct Writer<'a> {
    rng: &'a mut Rng,
    /// How likely each part is odd.
    oddness: f64,
    is_clean: bool,
}

impl Body {
    /// One of some thousands of kinds.
    pub(super) fn generate(rng: &mut Rng) -> Body {
        let oddness = [0.0, 0.02, 0.06, 0.15][rng.below(4) as usize];
        let mut writer = Writer { rng, oddness, is_clean: true };
        let mut bytes = writer.message();
        let is_odd = writer.is_odd();
        let mut is_clean = writer.is_clean;
        if is_odd {
            is_clean = false;
            bytes = spoil(rng, bytes);
        }
        Body { bytes, is_clean }
    }
}

impl Writer<'_> {
    /// Whether the next part is odd.
    fn is_odd(&mut self) -> bool {
        let is_odd = self.rng.chance(self.oddness);
        self.is_clean &= !is_odd;
        is_odd
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.below(of.len() as u64) as usize]
    }

    fn message(&mut self) -> Vec<u8> {
        let method = self.one(&METHODS);
        self.is_clean &= method != "tasks/result";
        let mut members = vec![(b"\"jsonrpc\"".to_vec(), b"\"2.0\"".to_vec())];
        if !method.starts_with("notifications/") || self.is_odd() {
            let id = if self.is_odd() { self.one(&NUMBERS).as_bytes().to_vec() } else { b"7".to_vec() };
            members.push((self.key("id"), id));
        }
        let method_text = self.text(method);
        members.push((self.key("method"), method_text));
        let params = self.params(method);
        members.push((self.key("params"), params));
        if self.is_odd() {
            // An answer, or a decoy.
            let key = self.one(&["result", "error", "name", "uri", "arguments", "x"]);
            let value = self.value(0);
            members.push((self.key(key), value));
        }
        self.object(members)
    }

    /// A name that is allowed, unless it is odd.
    fn target(&mut self, allowed: &[&'static str]) -> Vec<u8> {
        let name = if self.is_odd() { self.one(&DENIED) } else { self.one(allowed) };
        self.text(name)
    }

    fn params(&mut self, method: &str) -> Vec<u8> {
        if self.is_odd() {
            let call = self.target(&DENIED);
            return [&b"[{\"name\":"[..], &call, b"}]"].concat();
        }
        let mut members = Vec::new();
        match method {
            "tools/call" | "prompts/get" => {
                let allowed: &[&str] = if method == "tools/call" { &TOOLS } else { &[PROMPT] };
                let name = if self.is_odd() { self.value(0) } else { self.target(allowed) };
                members.push((self.key("name"), name));
                let arguments = if self.rng.chance(0.7) { self.arguments() } else { b"{}".to_vec() };
                members.push((self.key("arguments"), arguments));
            }
            "resources/read" | "resources/subscribe" => {
                let uri = self.target(&[RESOURCE]);
                members.push((self.key("uri"), uri));
            }
            "completion/complete" => {
                let is_prompt = self.rng.chance(0.5);
                let name = self.target(if is_prompt { &[PROMPT] } else { &[RESOURCE] });
                let kind = if is_prompt { "ref/prompt" } else { "ref/resource" };
                let kind = self.text(kind);
                let by = self.key(if is_prompt { "name" } else { "uri" });
                let reference = self.object(vec![(b"\"type\"".to_vec(), kind), (by, name)]);
                members.push((self.key("ref"), reference));
                members.push((b"\"argument\"".to_vec(), b"{\"name\":\"drop\",\"value\":\"drop\"}".to_vec()));
            }
            "notifications/progress" => {
                members.push((b"\"progressToken\"".to_vec(), b"5".to_vec()));
                members.push((b"\"progress\"".to_vec(), b"0.5".to_vec()));
            }
            _ => {}
        }
        if self.rng.chance(0.2) {
            members.push((self.key("_meta"), b"{\"progressToken\":1}".to_vec()));
        }
        self.object(members)
    }

    /// Arguments, with decoys: what they have is no affair of a policy that asks for none.
    fn arguments(&mut self) -> Vec<u8> {
        let decoy = self.one(&DENIED);
        let decoy = quoted(decoy);
        let nested =
            [&b"{\"name\":"[..], &decoy, b",\"method\":\"tools/call\",\"params\":{\"name\":", &decoy, b"}}"].concat();
        let members = vec![(b"\"name\"".to_vec(), decoy), (b"\"params\"".to_vec(), nested)];
        self.object(members)
    }

    fn value(&mut self, depth: u32) -> Vec<u8> {
        let kind = if depth > 4 { 0 } else { self.rng.below(8) };
        match kind {
            0 => self.one(&NUMBERS).as_bytes().to_vec(),
            1 => b"null".to_vec(),
            2 => b"[\"drop\"]".to_vec(),
            3 => [b"[".to_vec(), self.value(depth + 1), b"]".to_vec()].concat(),
            4 => b"{\"name\":\"drop\"}".to_vec(),
            5 => b"true".to_vec(),
            _ => {
                let text = self.one(&DENIED);
                self.text(text)
            }
        }
    }

    /// A key in quotes.
    fn key(&mut self, key: &str) -> Vec<u8> {
        if !self.is_odd() {
            return if self.rng.chance(0.1) { escaped(self.rng, key) } else { quoted(key) };
        }
        let odd = match self.rng.below(4) {
            0 => return [b"'", key.as_bytes(), b"'"].concat(),
            1 => return key.as_bytes().to_vec(),
            2 => self.one(&KEYS),
            _ => self.one(&ODD_KEYS),
        };
        quoted(odd)
    }

    /// A text in quotes, perhaps with escapes, and odd if it is to be.
    fn text(&mut self, text: &str) -> Vec<u8> {
        let mut written = if self.rng.chance(0.25) { escaped(self.rng, text) } else { quoted(text) };
        if self.is_odd() {
            let odd: [&[u8]; 14] = [
                b"\\ud800",
                b"\\udc00\\ud800",
                b"\\u0000",
                b"\0",
                b"\n",
                b"\t",
                b"\\x41",
                b"\\u00",
                b"\xff",
                b"\xc0\xaf",
                b"\xed\xa0\x80",
                b"\\u200b",
                b"\xe2\x80\x8b",
                b"\"",
            ];
            let odd = self.one(&odd);
            let at = self.rng.between(1, written.len() as u64 - 1) as usize;
            written.splice(at..at, odd.iter().copied());
        }
        written
    }

    fn space(&mut self, out: &mut Vec<u8>) {
        if self.rng.chance(0.08) {
            let space = self.one(&SPACES);
            out.extend_from_slice(space.as_bytes());
        }
        // There are many of these places.
        if self.rng.chance(0.1) && self.is_odd() {
            let odd = self.one(&ODD_SPACES);
            out.extend_from_slice(odd);
        }
    }

    /// An object with its members in any order, some of them twice.
    fn object(&mut self, mut members: Vec<Member>) -> Vec<u8> {
        for at in (1..members.len()).rev() {
            members.swap(at, self.rng.below(at as u64 + 1) as usize);
        }
        if !members.is_empty() && self.is_odd() {
            let (key, value) = members[self.rng.below(members.len() as u64) as usize].clone();
            let value = if self.rng.chance(0.3) { value } else { self.value(0) };
            let at = self.rng.below(members.len() as u64 + 1) as usize;
            members.insert(at, (key, value));
        }
        let mut out = b"{".to_vec();
        for (nth, (key, value)) in members.iter().enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            self.space(&mut out);
            out.extend_from_slice(key);
            self.space(&mut out);
            out.push(b':');
            self.space(&mut out);
            out.extend_from_slice(value);
            self.space(&mut out);
        }
        if self.rng.chance(0.3) && self.is_odd() {
            out.push(b',');
        }
        out.push(b'}');
        out
    }
}

/// Spoils a whole message.
fn spoil(rng: &mut Rng, mut bytes: Vec<u8>) -> Vec<u8> {
    let drop = br#"{"jsonrpc":"2.0","id":8,"method":"tools/call","params":{"name":"drop","arguments":{}}}"#;
    let at = rng.below(bytes.len() as u64 + 1) as usize;
    let encoded = |units: fn(u16) -> [u8; 2], text: &[u8]| -> Vec<u8> {
        String::from_utf8_lossy(text).encode_utf16().flat_map(units).collect()
    };
    match rng.below(17) {
        0 => [b"[", &bytes[..], b"]"].concat(),
        1 => [b"[", &bytes[..], b",", &drop[..], b"]"].concat(),
        2 => [&bytes[..], drop].concat(),
        3 => [&bytes[..], b"\n", &drop[..]].concat(),
        4 => [&drop[..], b"\n", &bytes].concat(),
        5 => [b"\xef\xbb\xbf", &bytes[..]].concat(),
        6 => encoded(u16::to_le_bytes, drop),
        7 => [b"\xfe\xff", &encoded(u16::to_be_bytes, drop)[..]].concat(),
        8 => drop.iter().flat_map(|byte| u32::from(*byte).to_be_bytes()).collect(),
        9 => {
            bytes.truncate(at);
            bytes
        }
        10 => {
            // One message within another.
            bytes.splice(at..at, drop.iter().copied());
            bytes
        }
        11 => {
            let pad = [b"{\"pad\":\"", &vec![b'x'; rng.between(60_000, 70_000) as usize][..], b"\","].concat();
            bytes.splice(..1, pad);
            bytes
        }
        12 => {
            // Behind what is read before the decision, something else is said.
            bytes.pop();
            let pad = vec![b' '; rng.between(1_000, 70_000) as usize];
            let more = [
                &b",\"method\":\"tools/call\""[..],
                b",\"params\":{\"name\":\"drop\"}",
                b",\"Params\":{\"name\":\"drop\"}",
            ];
            [&bytes[..], &pad, more[rng.below(3) as usize], b"}"].concat()
        }
        13 => {
            let depth = rng.between(60, 300) as usize;
            let nested = [vec![b'['; depth], vec![b']'; depth]].concat();
            [b"{\"x\":", &nested[..], b",", &bytes[1.min(bytes.len())..]].concat()
        }
        14 => String::from_utf8_lossy(&bytes).replace('"', "\u{201c}").into_bytes(),
        _ => {
            for _ in 0..rng.between(1, 4) {
                let at = rng.below(bytes.len() as u64) as usize;
                match rng.below(3) {
                    0 => bytes[at] = rng.below(256) as u8,
                    1 => bytes.insert(at, b"{}[]\",:\\\0 \xff"[rng.below(11) as usize]),
                    _ => drop_byte(&mut bytes, at),
                }
            }
            bytes
        }
    }
}

fn drop_byte(bytes: &mut Vec<u8>, at: usize) {
    if bytes.len() > 1 {
        bytes.remove(at);
    }
}

fn quoted(text: &str) -> Vec<u8> {
    serde_json::to_vec(text).expect("a text is JSON")
}

/// The same text with escapes for some of its characters.
fn escaped(rng: &mut Rng, text: &str) -> Vec<u8> {
    let mut out = String::from("\"");
    for character in text.chars() {
        let needs_escape = matches!(character, '"' | '\\') || character.is_control();
        match rng.below(4) {
            0 => character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
            1 => character.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04X}"))),
            2 if character == '/' => out.push_str("\\/"),
            _ if needs_escape => out.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => out.push(character),
        }
    }
    out.push('"');
    out.into_bytes()
}
