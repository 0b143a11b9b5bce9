//! Splits a Cedar file into its policies, so that each fault has its line, and one fault does not hide others.

/// The longest policy, in bytes.
const POLICY_LEN_MAX: usize = 16 * 1_024;
/// The deepest nesting of brackets in a policy, and the most operators. Both bound the stack that its expressions need.
const BRACKETS_MAX: usize = 32;
const OPERATORS_MAX: usize = 250;

/// The text of one policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Statement<'a> {
    pub(super) text: &'a str,
    /// The line of its first word, from 1.
    pub(super) line: usize,
    /// The deepest nesting of brackets, outside of texts and comments.
    brackets: usize,
    operators: usize,
}

/// A policy being read.
#[derive(Clone, Copy)]
struct Begun {
    start: usize,
    line: usize,
    open: usize,
    brackets: usize,
    operators: usize,
}

impl Begun {
    fn see(&mut self, byte: u8) {
        match byte {
            b'(' | b'[' | b'{' => {
                self.open += 1;
                self.brackets = self.brackets.max(self.open);
            }
            b')' | b']' | b'}' => self.open = self.open.saturating_sub(1),
            // Of `if` and `has` too, the operands nest.
            b'&' | b'|' | b'!' | b'.' | b'+' | b'-' | b'*' | b'?' => self.operators += 1,
            _ => {}
        }
    }

    fn ends(self, file: &str, end: usize) -> Statement<'_> {
        let Begun { start, line, brackets, .. } = self;
        let text = file[start..end].trim_end();
        let operators = self.operators + text.split_whitespace().filter(|word| *word == "if").count();
        Statement { text, line, brackets, operators }
    }
}

impl<'a> Statement<'a> {
    /// What makes it longer than it may be, if anything does.
    pub(super) fn too_long(&self) -> Option<String> {
        let limits = [
            (self.text.len(), POLICY_LEN_MAX, "bytes"),
            (self.brackets, BRACKETS_MAX, "brackets within each other"),
            (self.operators, OPERATORS_MAX, "operators"),
        ];
        let reached = limits.into_iter().find(|(count, max, _)| count > max);
        reached.map(|(_, max, what)| format!("a policy has at most {max} {what}: write several policies"))
    }

    /// The line of a place in the text of the policy.
    pub(super) fn line_at(&self, offset: usize) -> usize {
        self.line + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }
}

/// The policies of a file. Each ends with a semicolon outside of texts and comments.
pub(super) fn statements(file: &str) -> Vec<Statement<'_>> {
    let bytes = file.as_bytes();
    let mut all = Vec::new();
    let (mut at, mut line) = (0, 1);
    let mut begun: Option<Begun> = None;
    while let Some(byte) = bytes.get(at) {
        let new = Begun { start: at, line, open: 0, brackets: 0, operators: 0 };
        match byte {
            b'\n' => line += 1,
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at += bytes[at..].iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len() - at);
                continue;
            }
            b'"' => {
                begun.get_or_insert(new);
                at += 1;
                while let Some(byte) = bytes.get(at).filter(|byte| **byte != b'"') {
                    let is_escape = *byte == b'\\';
                    line += bytes[at..].iter().take(1 + usize::from(is_escape)).filter(|byte| **byte == b'\n').count();
                    at += 1 + usize::from(is_escape);
                }
            }
            b';' => all.push(begun.take().unwrap_or(new).ends(file, at + 1)),
            byte if byte.is_ascii_whitespace() => {}
            byte => begun.get_or_insert(new).see(*byte),
        }
        at += 1;
    }
    all.extend(begun.map(|begun| begun.ends(file, file.len())));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_ends_with_a_semicolon_that_is_none_of_a_text_or_comment() {
        let file = "// one; two\n\npermit(a) // \"\n when {\"x;\\\";\" == b\n};forbid\n(c);\n\"open;";
        let all: Vec<(usize, &str)> = statements(file).into_iter().map(|found| (found.line, found.text)).collect();
        let first = "permit(a) // \"\n when {\"x;\\\";\" == b\n};";
        assert_eq!(all, [(3, first), (5, "forbid\n(c);"), (7, "\"open;")]);
        assert_eq!(statements(file)[0].line_at(20), 4);
        for end in 0..file.len() {
            statements(&file[..end]);
        }
        assert_eq!(statements(";").len(), 1);
        assert_eq!(statements("\"\\").len(), 1);
    }
}
