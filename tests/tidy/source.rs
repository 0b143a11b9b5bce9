//! Rust source as text, with comments and literals told apart from code: as much of a lexer as house rules need.

use std::path::Path;

const CFG_TEST: &str = "#[cfg(test)]";

/// One source file.
pub(crate) struct Source {
    /// Its path from the root of the repository, with `/`.
    pub(crate) path: String,
    /// Its text with comments and the insides of literals blanked, byte for byte.
    pub(crate) code: String,
    /// Its text with everything but comments blanked, byte for byte.
    pub(crate) comments: String,
    /// Its literals as they are written, with their quotes, each with the byte where it begins.
    pub(crate) literals: Vec<(usize, String)>,
    /// Whether another file brings it in for tests alone.
    pub(crate) is_for_tests: bool,
}

impl Source {
    /// Tells the parts of `text` apart.
    pub(crate) fn new(path: &str, text: &str) -> Source {
        let bytes = text.as_bytes();
        let (mut code, mut comments, mut literals) = (blank(bytes), blank(bytes), Vec::new());
        let mut at = 0;
        while at < bytes.len() {
            let (part, end) = part_at(bytes, at);
            match part {
                Part::Code => code[at..end].copy_from_slice(&bytes[at..end]),
                Part::Comment => comments[at..end].copy_from_slice(&bytes[at..end]),
                Part::Literal => literals.push((at, text[at..end].to_owned())),
            }
            at = end;
        }
        let text = |bytes| String::from_utf8(bytes).expect("parts end where characters end");
        Source { path: path.to_owned(), code: text(code), comments: text(comments), literals, is_for_tests: false }
    }

    /// The number of the line, from 1, that holds this byte.
    pub(crate) fn line_of(&self, at: usize) -> usize {
        self.code.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1
    }

    /// Where `phrase` stands in the code, not as a part of longer names.
    pub(crate) fn find_in_code<'a>(&'a self, phrase: &'a str) -> impl Iterator<Item = usize> + 'a {
        find_whole(&self.code, phrase)
    }

    /// Where `phrase` stands in comments, not as a part of longer words.
    pub(crate) fn find_in_comments<'a>(&'a self, phrase: &'a str) -> impl Iterator<Item = usize> + 'a {
        find_whole(&self.comments, phrase)
    }

    /// The first folder or file below `src/`: `wire` of `src/wire/http1.rs`; none outside.
    pub(crate) fn module(&self) -> Option<&str> {
        let first = self.path.strip_prefix("src/")?.split('/').next()?;
        Some(first.strip_suffix(".rs").unwrap_or(first))
    }

    /// How deep below the crate's root the file's own module is: 2 of `src/wire/http1.rs`, 1 of `src/wire/mod.rs`.
    pub(crate) fn depth(&self) -> usize {
        let inside = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let file = inside.rsplit('/').next().unwrap_or(inside);
        inside.split('/').count() - usize::from(matches!(file, "mod.rs" | "lib.rs" | "main.rs"))
    }

    /// The folders and files that hold what it brings in for tests alone, by `#[cfg(test)] mod name;`.
    pub(crate) fn test_modules(&self) -> Vec<String> {
        let file = Path::new(&self.path);
        let is_root = matches!(file.file_stem().and_then(|stem| stem.to_str()), Some("mod" | "lib" | "main"));
        let folder = if is_root { file.with_file_name("") } else { file.with_extension("") };
        let after = self.find_in_code(CFG_TEST).map(|at| self.code[at + CFG_TEST.len()..].trim_start());
        let names = after.filter_map(|after| after.strip_prefix("mod ")?.split_once(';').map(|(name, _)| name.trim()));
        let plain = names.filter(|name| name.bytes().all(is_name_byte));
        plain.map(|name| folder.join(name).display().to_string()).collect()
    }

    /// Whether this byte is compiled for tests alone; an inline module of tests is the last thing in its file.
    pub(crate) fn is_for_tests_at(&self, at: usize) -> bool {
        let inline = |start: usize| self.code[start + CFG_TEST.len()..].trim_start().starts_with("mod tests {");
        self.is_for_tests || self.find_in_code(CFG_TEST).any(|start| start < at && inline(start))
    }

    /// How many `mod name { … }` are open at this byte.
    pub(crate) fn inline_modules_at(&self, at: usize) -> usize {
        let mut open = Vec::new();
        for (end, byte) in self.code.bytes().enumerate().take(at) {
            match byte {
                b'{' => open.push(opens_module(&self.code[..end])),
                b'}' => drop(open.pop()),
                _ => {}
            }
        }
        open.iter().filter(|is_module| **is_module).count()
    }
}

/// Whether what stands before a brace is `mod name`.
fn opens_module(before: &str) -> bool {
    let mut words = before.trim_end().rsplit(|c: char| c.is_whitespace());
    let _name = words.next();
    words.find(|word| !word.is_empty()) == Some("mod")
}

/// Whether a byte can stand in a name.
pub(crate) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

enum Part {
    Code,
    Comment,
    Literal,
}

/// What begins at `at`, and where it ends.
fn part_at(bytes: &[u8], at: usize) -> (Part, usize) {
    let rest = &bytes[at..];
    let in_name = at > 0 && is_name_byte(bytes[at - 1]);
    match rest {
        [b'/', b'/', ..] => (Part::Comment, at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len())),
        [b'/', b'*', ..] => (Part::Comment, at + block_comment_len(rest)),
        [b'"', ..] => (Part::Literal, at + string_len(rest)),
        [b'r' | b'b' | b'c', ..] if !in_name => match prefixed_string_len(rest) {
            Some(len) => (Part::Literal, at + len),
            None => (Part::Code, at + 1),
        },
        [b'\'', ..] => match char_len(rest) {
            Some(len) => (Part::Literal, at + len),
            None => (Part::Code, at + 1),
        },
        _ => {
            let more = rest.iter().skip(1).take_while(|b| (**b & 0xc0) == 0x80).count();
            (Part::Code, at + 1 + more)
        }
    }
}

fn block_comment_len(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of a literal from its opening quote to its closing one, escapes minded.
fn string_len(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// The length of `r"…"`, `br#"…"#`, `b"…"`, `c"…"`, if that is what begins here.
fn prefixed_string_len(rest: &[u8]) -> Option<usize> {
    let letters = rest.iter().take_while(|b| matches!(b, b'r' | b'b' | b'c')).count();
    let hashes = rest[letters..].iter().take_while(|b| **b == b'#').count();
    let open = letters + hashes;
    if letters > 2 || rest.get(open) != Some(&b'"') {
        return None;
    }
    if rest[letters - 1] != b'r' {
        return (hashes == 0).then(|| open + string_len(&rest[open..]));
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let inside = &rest[open + 1..];
    let len = inside.windows(close.len()).position(|window| window == close)?;
    Some(open + 1 + len + close.len())
}

/// The length of a character literal; none when the quote begins a lifetime.
fn char_len(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        return rest.iter().skip(3).position(|b| *b == b'\'').map(|at| at + 4);
    }
    let more = rest.iter().skip(2).take_while(|b| (**b & 0xc0) == 0x80).count();
    (rest.get(2 + more) == Some(&b'\'')).then_some(3 + more)
}

fn blank(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|b| if *b == b'\n' { b'\n' } else { b' ' }).collect()
}

fn find_whole<'a>(text: &'a str, phrase: &'a str) -> impl Iterator<Item = usize> + 'a {
    let touches = |first: Option<&u8>, edge: u8| is_name_byte(edge) && first.is_some_and(|b| is_name_byte(*b));
    let (bytes, wanted) = (text.as_bytes(), phrase.as_bytes());
    text.match_indices(phrase).map(|(at, _)| at).filter(move |at| {
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        let after = bytes.get(at + wanted.len());
        !touches(before, wanted[0]) && !touches(after, wanted[wanted.len() - 1])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_comments_and_literals_are_distinguished() {
        let text = r####"a /* b /* c */ d */ e // f "g"
"h // \" i" j 'k' '\'' '"' 'l: 'é' m r#"n " o"# r#type br"p\" q b'r' s"####;
        let source = Source::new("src/x.rs", text);
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        assert_eq!(words(&source.code), "a e j 'l: m r#type q b s");
        assert_eq!(words(&source.comments), "/* b /* c */ d */ // f \"g\"");
        assert_eq!((source.code.len(), source.comments.len()), (text.len(), text.len()));
        assert_eq!(source.line_of(text.find(" j ").unwrap()), 2);
        let literals: Vec<&str> = source.literals.iter().map(|(at, literal)| &text[*at..*at + literal.len()]).collect();
        assert_eq!((literals.len(), literals[0], literals[5]), (8, r#""h // \" i""#, r##"r#"n " o"#"##));
    }

    #[test]
    fn names_are_found_whole() {
        let source = Source::new("src/x.rs", "unsafe_code unsafe {} xunsafe x::Instant::now() nowhere");
        assert_eq!(source.find_in_code("unsafe").collect::<Vec<_>>(), [12]);
        assert_eq!(source.find_in_code("Instant::now").count(), 1);
        assert_eq!(source.find_in_code("now").count(), 1);
    }

    #[test]
    fn the_place_in_the_tree_is_known() {
        let depth = |path| Source::new(path, "").depth();
        assert_eq!((depth("src/lib.rs"), depth("src/wire/mod.rs"), depth("src/wire/http1.rs")), (0, 1, 2));
        assert_eq!((depth("src/wire/mux/mod.rs"), depth("src/wire/mux/frame.rs")), (2, 3));
        let source = Source::new("src/wire/http1.rs", "fn f() { } mod tests { fn g() { } mod  x { } super }");
        assert_eq!(source.inline_modules_at(source.code.find("g()").unwrap()), 1);
        assert_eq!(source.inline_modules_at(source.code.find("super").unwrap()), 1);
        assert_eq!(source.module(), Some("wire"));
    }

    #[test]
    fn test_only_code_is_recognised() {
        let text = "#[cfg(test)]\nmod suite;\nmod x;\nfn f() {}\n#[cfg(test)]\nmod tests { fn g() {} }";
        assert_eq!(Source::new("src/engine/mod.rs", text).test_modules(), ["src/engine/suite"]);
        let source = Source::new("src/engine/core.rs", text);
        assert_eq!(source.test_modules(), ["src/engine/core/suite"]);
        assert!(!source.is_for_tests_at(text.find("f()").unwrap()));
        assert!(source.is_for_tests_at(text.find("g()").unwrap()));
    }
}
