//! Reads the sanitising rules from the policy file.

use std::time::Duration;

use regex::RegexBuilder;
use toml::de::DeTable;

use crate::policy::tools::file_reader::{FileReader, Section};
use crate::policy::tools::list_filter::LIST_LEN_MAX;
use crate::policy::tools::sanitise::{MATCH_LEN_MAX, OwnPattern, SanitiseKind, SanitiseMode, SanitiseRules};

/// The maximum number of patterns in a policy.
const OWN_PATTERNS_MAX: usize = 32;
/// The maximum length of a pattern and of its compiled form, in bytes.
const REGEX_LEN_MAX: usize = 1_024;
const REGEX_SIZE_MAX: usize = 1 << 20;
/// How long the texts of one call may take, if the file does not say, and at most.
const SCAN_TIME: Duration = Duration::from_secs(1);
const SCAN_TIME_MAX_MS: u32 = 60_000;
/// The maximum nesting depth of groups in a pattern.
const REGEX_NESTING_MAX: u32 = 32;

/// Reads `[sanitise]` and `[[pattern]]`; `None` if nothing is sanitised.
pub(super) fn read_sanitise(reader: &mut FileReader, root: &DeTable<'_>) -> Option<Box<SanitiseRules>> {
    let section = reader.section(root, "sanitise");
    let rows = reader.rows(root, "pattern", OWN_PATTERNS_MAX);
    let mut rules =
        SanitiseRules { scan_bytes_max: LIST_LEN_MAX, scan_time_max: SCAN_TIME, ..SanitiseRules::default() };
    if let Some(section) = &section {
        read_modes(reader, section, &mut rules);
    }
    for row in &rows {
        rules.patterns.extend(read_pattern(reader, row));
    }
    if rules.modes.iter().any(|mode| *mode != SanitiseMode::Off) || !rows.is_empty() {
        return Some(Box::new(rules));
    }
    if let Some(section) = section {
        reader.fault(section.line, "[sanitise] has no effect: turn a kind on, such as tags = \"strip\", or remove it");
    }
    None
}

fn read_modes(reader: &mut FileReader, section: &Section<'_>, rules: &mut SanitiseRules) {
    let kinds = SanitiseKind::ALL.into_iter().filter(|kind| is_key(*kind));
    let mut keys: Vec<&str> = kinds.clone().map(SanitiseKind::name).collect();
    keys.extend(["scan_bytes_max", "when_longer", "scan_time_max_ms", "when_slower", "arguments"]);
    reader.only(section, &keys);
    for kind in kinds {
        if let Some(text) = reader.text(section, kind.name()) {
            let change = change_word(kind);
            rules.modes[kind as usize] = match text {
                "off" => SanitiseMode::Off,
                "flag" => SanitiseMode::Flag,
                text if Some(text) == change => SanitiseMode::Change,
                _ => {
                    let line = section.line_of(reader, kind.name());
                    let change = change.map_or(String::new(), |change| format!("\"{change}\", "));
                    reader.fault(line, format!("{} must be {change}\"flag\" or \"off\"", kind.name()));
                    SanitiseMode::Off
                }
            };
        }
    }
    if let Some(max) = reader.count(section, "scan_bytes_max", LIST_LEN_MAX as u32) {
        rules.scan_bytes_max = max as usize;
    }
    match reader.text(section, "arguments") {
        None | Some("off") => {}
        Some("deny") => rules.arguments = SanitiseMode::Change,
        Some("flag") => rules.arguments = SanitiseMode::Flag,
        Some(_) => {
            let line = section.line_of(reader, "arguments");
            reader.fault(
                line,
                "arguments must be \"deny\", \"flag\" or \"off\": what a caller sends is passed on unchanged, or not at all",
            );
        }
    }
    rules.passes_long = passes(reader, section, "when_longer");
    rules.passes_slow = passes(reader, section, "when_slower");
    if let Some(max) = reader.count(section, "scan_time_max_ms", SCAN_TIME_MAX_MS) {
        rules.scan_time_max = Duration::from_millis(max.into());
    }
}

/// Whether a message that reaches a limit is passed on unchanged.
fn passes(reader: &mut FileReader, section: &Section<'_>, key: &str) -> bool {
    match reader.text(section, key) {
        None | Some("refuse") => false,
        Some("pass") => true,
        Some(_) => {
            let line = section.line_of(reader, key);
            reader.fault(line, format!("{key} must be \"refuse\" or \"pass\""));
            false
        }
    }
}

fn is_key(kind: SanitiseKind) -> bool {
    !matches!(kind, SanitiseKind::Patterns | SanitiseKind::TooLong | SanitiseKind::TooSlow | SanitiseKind::OutputSchema)
}

/// The mode that removes matches of this kind; `None` if they can only be flagged.
fn change_word(kind: SanitiseKind) -> Option<&'static str> {
    match kind {
        SanitiseKind::Tags | SanitiseKind::ZeroWidth | SanitiseKind::Bidi | SanitiseKind::Ansi => Some("strip"),
        SanitiseKind::Secrets | SanitiseKind::Cards | SanitiseKind::Ibans | SanitiseKind::Emails => Some("redact"),
        SanitiseKind::Patterns
        | SanitiseKind::Instructions
        | SanitiseKind::TooLong
        | SanitiseKind::OutputSchema
        | SanitiseKind::TooSlow => None,
    }
}

fn read_pattern(reader: &mut FileReader, section: &Section<'_>) -> Option<OwnPattern> {
    reader.only(section, &["name", "regex", "mode"]);
    let name = reader.text(section, "name").unwrap_or_default();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.is_empty() || name.len() > 32 || !name.bytes().all(is_name) {
        let line = section.line_of(reader, "name");
        reader.fault(line, "a pattern has a name of 1 to 32 letters, digits and the characters - and _");
    }
    let changes = match reader.text(section, "mode") {
        None | Some("redact") => true,
        Some("flag") => false,
        Some(_) => {
            let line = section.line_of(reader, "mode");
            reader.fault(line, "mode must be \"redact\" or \"flag\"");
            false
        }
    };
    let line = section.line_of(reader, "regex");
    let Some(text) = reader.text(section, "regex") else {
        reader.fault(line, "a pattern has a regex: what it looks for");
        return None;
    };
    if text.len() > REGEX_LEN_MAX {
        reader.fault(line, format!("regex has at most {REGEX_LEN_MAX} bytes"));
        return None;
    }
    let built = RegexBuilder::new(text).size_limit(REGEX_SIZE_MAX).nest_limit(REGEX_NESTING_MAX).build();
    let lens =
        regex_syntax::parse(text).map(|regex| (regex.properties().minimum_len(), regex.properties().maximum_len()));
    match built {
        Ok(_) if lens.as_ref().is_ok_and(|(min, _)| *min == Some(0)) => {
            reader.fault(line, "regex matches the empty text, and so everywhere: say what must be there");
            None
        }
        // Bounded matches keep the scan linear in the length of the text.
        Ok(_) if !lens.is_ok_and(|(_, max)| max.is_some_and(|max| max <= MATCH_LEN_MAX)) => {
            reader.fault(
                line,
                format!(
                    "regex may match more than {MATCH_LEN_MAX} bytes: say how many, as in \\S{{1,100}} in place of \\S+"
                ),
            );
            None
        }
        Ok(regex) => Some(OwnPattern { regex, placeholder: format!("[redacted:{name}]"), changes }),
        Err(regex::Error::CompiledTooBig(_)) => {
            reader.fault(line, "regex is too large when it is compiled: use smaller counts of repetitions");
            None
        }
        Err(error) => {
            let why = error.to_string();
            reader.fault(line, format!("regex is not valid: {}", why.lines().last().unwrap_or_default()));
            None
        }
    }
}
