//! What the library shows for outsiders' sake: the tests, the benches and `adit-loadtest`.
//!
//! The compiler sees in the build without the feature `internals` what the program itself does not use. What is kept for
//! outsiders with that feature must be used by one.

use crate::source::Source;
use crate::{Fault, fault};

/// What makes the next item one for outsiders.
const MARK: &str = "#[cfg(feature = \"internals\")]";
/// What comes before an item's name.
const ITEMS: &[&str] = &["fn ", "const ", "struct ", "enum ", "trait ", "type ", "static ", "mod ", "use "];

/// The items for outsiders that none of `outsiders` names. `text` is the source's text, as literals are blank in it.
pub(crate) fn unused(source: &Source, text: &str, outsiders: &[&Source]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut line_start = 0;
    let mut marked = false;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        if marked && !trimmed.starts_with("#[") {
            marked = false;
            if let Some(name) = item_name(trimmed).filter(|name| !is_used(name, outsiders)) {
                let what = format!("`{name}` is for outsiders, and none uses it");
                faults.push(fault(source, line_start, what, "delete it, or keep it for its unit tests alone"));
            }
        }
        marked |= trimmed == MARK;
        line_start += line.len();
    }
    faults
}

/// The name of the public item that a line begins; none for a field, a private item or an expression.
fn item_name(line: &str) -> Option<&str> {
    let at =
        ITEMS.iter().find_map(|word| line.starts_with("pub ").then(|| line.find(word).map(|at| at + word.len()))?)?;
    let path = line[at..].trim_end_matches(';');
    let last = path.rsplit("::").next().unwrap_or(path);
    let len = last.bytes().take_while(|byte| crate::is_name_byte(*byte)).count();
    Some(&last[..len])
}

fn is_used(name: &str, outsiders: &[&Source]) -> bool {
    outsiders.iter().any(|outsider| outsider.find_in_code(name).next().is_some())
}

#[test]
fn an_item_for_outsiders_that_none_uses_is_seen() {
    let text = "impl A {\n    #[cfg(feature = \"internals\")]\n    pub const fn wanted(&self) {}\n\
                \n    #[cfg(feature = \"internals\")]\n    #[must_use]\n    pub async fn lost<T>() {}\n}\n\
                #[cfg(feature = \"internals\")]\npub use a::gone;\n#[cfg(feature = \"internals\")]\nfield: u8,\n";
    let source = Source::new("src/a.rs", text);
    let outsider = Source::new("tests/a.rs", "fn main() { a.wanted(); /* lost */ \"gone\" }");
    let lines: Vec<usize> = unused(&source, text, &[&outsider]).iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [7, 10]);
}
