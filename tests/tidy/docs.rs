//! A doc comment of a public item or of a variant says something: it has at least four words, of which code counts as it
//! stands.

use crate::source::Source;
use crate::{Fault, fault};

/// The fewest words of the first paragraph of a doc comment.
const WORDS_MIN: usize = 4;

/// The doc comments of `src/` that are too short to say anything.
pub(crate) fn short_docs(source: &Source) -> Vec<Fault> {
    if !source.path.starts_with("src/") {
        return Vec::new();
    }
    let lines: Vec<(&str, &str)> = source.comments.lines().zip(source.code.lines()).collect();
    let is_doc = |at: usize| doc_text(lines[at].0).is_some();
    let starts = (0..lines.len()).filter(|at| is_doc(*at) && (*at == 0 || !is_doc(*at - 1)));
    starts
        .filter_map(|start| {
            let docs = lines[start..].iter().map_while(|(comment, _)| doc_text(comment));
            let words: usize =
                docs.take_while(|text| !text.is_empty()).map(|text| text.split_whitespace().count()).sum();
            let mut after = lines[start..].iter().map(|(_, code)| code.trim());
            let item = after.find(|code| !code.is_empty() && !code.starts_with("#["))?;
            (words < WORDS_MIN && (item.starts_with("pub") || is_variant(item))).then(|| {
                let at = source.code.split_inclusive('\n').take(start).map(str::len).sum();
                fault(
                    source,
                    at,
                    format!("a doc comment of {words} words"),
                    "say what the name does not say, or take it out",
                )
            })
        })
        .collect()
}

/// The text of a line of a doc comment.
fn doc_text(comment: &str) -> Option<&str> {
    comment.trim().strip_prefix("///").map(str::trim)
}

/// Whether a line begins a variant: nothing else that has a doc comment begins with a capital letter.
fn is_variant(item: &str) -> bool {
    item.starts_with(|first: char| first.is_ascii_uppercase())
}

#[test]
fn a_doc_comment_that_says_nothing_is_seen() {
    let lines =
        |text: &str| short_docs(&Source::new("src/x.rs", text)).iter().map(|fault| fault.line).collect::<Vec<_>>();
    assert_eq!(lines("\n    /// Why it is.\n    #[must_use]\n    pub reason: Reason,"), [2]);
    assert_eq!(lines("\n/// The error.\n///\n/// It is not long enough by itself.\npub(super) struct X;"), [2]);
    assert_eq!(lines("enum X {\n    /// `a.b`.\n    A,\n    /// None of\n    /// these two.\n    B(u8),\n}"), [2]);
    assert_eq!(
        lines("/// A private one.\nfn f() {}\n// Not so.\npub fn g() {}\n//! Not this.\npub fn h() {}"),
        [] as [usize; 0]
    );
    assert_eq!(lines("const X: &str = \"\n/// Not that.\npub fn f\";"), [] as [usize; 0]);
    assert!(short_docs(&Source::new("tests/x.rs", "/// Short.\npub struct X;")).is_empty());
}
