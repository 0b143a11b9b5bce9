//! The sections of the documentation that errors end with, where one says more than the error.

use crate::process::RunError;

/// Every setting, and the files that hold them.
pub(super) const CONFIG: &str = "docs/CONFIG.md";
/// Files that only their owner may read.
pub(super) const FILES: &str = "docs/OPERATING.md#files-and-their-modes";
const STORE: &str = "docs/OPERATING.md#back-up-and-restore";
const AUDIT: &str = "docs/AUDIT.md";
/// Where the admin token comes from.
pub(super) const TUNNEL: &str = "docs/OPERATING.md#a-tunnel";
/// How a route of a connector reaches a server that a client starts.
pub(super) const STDIO: &str = "docs/OPERATING.md#servers-that-speak-stdio";
/// What a policy and its audit log are for.
pub(super) const GOVERNANCE: &str = "docs/GOVERNANCE.md";
/// What to look at when something is wrong.
pub(super) const WRONG: &str = "docs/OPERATING.md#when-something-is-wrong";

/// The line that follows an error of a role or of a command on its files; empty if no section says more.
pub(super) fn page_of_run_error(error: &RunError) -> String {
    line(match error {
        RunError::Config(_) => CONFIG,
        RunError::DataDir(_) => FILES,
        RunError::Store(_) => STORE,
        RunError::Audit(_) => AUDIT,
        RunError::Start(_) | RunError::Control(_) => WRONG,
        _ => return String::new(),
    })
}

/// The line that names a section.
pub(super) fn line(page: &str) -> String {
    format!("\nmore in {page}")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::config::ConfigErrors;

    #[test]
    fn each_section_is_in_the_documentation() {
        for page in [CONFIG, FILES, STORE, AUDIT, TUNNEL, STDIO, GOVERNANCE, WRONG] {
            let (file, section) = page.split_once('#').unwrap_or((page, ""));
            let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
            let anchors = text
                .lines()
                .filter_map(|line| line.strip_prefix('#'))
                .map(|heading| heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-"));
            assert!(section.is_empty() || anchors.into_iter().any(|anchor| anchor == section), "{page}");
        }
    }

    #[test]
    fn an_error_whose_remedy_needs_more_words_names_its_section() {
        assert_eq!(page_of_run_error(&RunError::Config(ConfigErrors::of("a", "b"))), format!("\nmore in {CONFIG}"));
        assert_eq!(page_of_run_error(&RunError::Other("x".to_owned())), "");
    }
}
