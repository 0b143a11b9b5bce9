/// Quotes a text, if necessary, so that a shell reads it as one word.
#[must_use]
pub fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_where_a_shell_would_take_it_apart() {
        for (text, want) in [
            ("/etc/adit/a.key", "/etc/adit/a.key"),
            ("a.test=http://127.0.0.1:3000", "a.test=http://127.0.0.1:3000"),
            ("*.a.test=unix:/a", "'*.a.test=unix:/a'"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$(id)", "'$(id)'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(text), want);
        }
    }
}
