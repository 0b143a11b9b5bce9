//! Reads the ceilings of a rule from the policy file.

use std::sync::Arc;
use std::time::Duration;

use crate::policy::rates::Rate;
use crate::policy::tools::answer_ceiling::{
    AnswerCeiling, BYTES_KEY, BytesMax, JsonPointer, OVER_KEY, Over, ROWS_KEY, RowsMax,
};
use crate::policy::tools::approval_ticket::ApprovalTerms;
use crate::policy::tools::arguments::ArgumentSchema;
use crate::policy::tools::ceilings::{Ceilings, Quota};
use crate::policy::tools::file_reader::{FileReader, Section};
use crate::policy::tools::list_filter::LIST_LEN_MAX;
use crate::policy::tools::rule::Effect;

/// The keys of a rule that set its ceilings.
pub(super) const CEILING_KEYS: [&str; 11] = [
    "arguments",
    "calls_per_minute",
    "calls_burst",
    "calls_at_once_max",
    "calls_per_day",
    "approval_wait_ms",
    "approval_use_within_ms",
    BYTES_KEY,
    ROWS_KEY,
    ROWS_AT,
    OVER_KEY,
];

/// The key that locates the rows of an answer.
const ROWS_AT: &str = "answer_rows_at";
/// The maximum of a row limit.
const ROWS_MAX: u32 = 1_000_000;

/// The maximum rate, burst and number of calls in flight.
const CALLS_MAX: u32 = 1_000_000;
/// The maximum of a daily limit.
const CALLS_PER_DAY_MAX: u32 = 1_000_000_000;

/// The maximum approval timeout, in milliseconds: a week.
const APPROVAL_MS_MAX: u32 = 7 * 86_400_000;
/// How long a call waits for approval by default.
const APPROVAL_WAIT: Duration = Duration::from_secs(3_600);
/// How long an approval is valid by default.
const APPROVAL_USE_WITHIN: Duration = Duration::from_secs(600);

/// Reads the ceilings of a rule; `None` if it has none.
pub(super) fn read_ceilings(reader: &mut FileReader, section: &Section<'_>, effect: &Effect) -> Option<Box<Ceilings>> {
    let first = CEILING_KEYS.into_iter().find(|key| section.has(key));
    let asks = *effect == Effect::Approve;
    if let Some(first) = first.filter(|_| matches!(effect, Effect::Deny(_))) {
        let line = section.line_of(reader, first);
        reader.fault(line, format!("{first} is only for rules that allow: it limits what they allow"));
    }
    let per_minute = reader.count(section, "calls_per_minute", CALLS_MAX);
    let burst = reader.count(section, "calls_burst", CALLS_MAX);
    if section.has("calls_burst") && !section.has("calls_per_minute") {
        let line = section.line_of(reader, "calls_burst");
        reader.fault(line, "calls_burst needs calls_per_minute: it is the number of calls that may come at once");
    }
    let rate = per_minute.and_then(|rate| Rate::new(rate.into(), burst.unwrap_or(rate).into()));
    let quota = Quota {
        rate,
        at_once: reader.count(section, "calls_at_once_max", CALLS_MAX),
        per_day: reader.count(section, "calls_per_day", CALLS_PER_DAY_MAX),
    };
    let approval = read_approval(reader, section, asks);
    let answer = read_answer(reader, section);
    let ceilings = Ceilings { arguments: read_arguments(reader, section), quota, approval, answer };
    (!ceilings.is_empty()).then(|| Box::new(ceilings))
}

fn read_approval(reader: &mut FileReader, section: &Section<'_>, asks: bool) -> Option<ApprovalTerms> {
    let mut within = |key: &str, preset: Duration| {
        if section.has(key) && !asks {
            let line = section.line_of(reader, key);
            reader.fault(line, format!("{key} is only for rules with effect = \"approve\""));
        }
        reader.count(section, key, APPROVAL_MS_MAX).map_or(preset, |ms| Duration::from_millis(ms.into()))
    };
    let decide_within = within("approval_wait_ms", APPROVAL_WAIT);
    let use_within = within("approval_use_within_ms", APPROVAL_USE_WITHIN);
    asks.then_some(ApprovalTerms { decide_within, use_within })
}

fn read_answer(reader: &mut FileReader, section: &Section<'_>) -> Option<Arc<AnswerCeiling>> {
    // A longer answer is not buffered, so it could not be withheld.
    let bytes_max = reader.count(section, BYTES_KEY, LIST_LEN_MAX as u32);
    let max = reader.count(section, ROWS_KEY, ROWS_MAX);
    let at = reader.text(section, ROWS_AT);
    if section.has(ROWS_KEY) != section.has(ROWS_AT) {
        let line = section.line_of(reader, if max.is_some() { ROWS_KEY } else { ROWS_AT });
        reader.fault(line, format!("{ROWS_KEY} and {ROWS_AT} need each other: the number of elements, and the array"));
    }
    if section.has(ROWS_KEY) && !section.has("tools") && !section.has("annotations") {
        let line = section.line_of(reader, ROWS_KEY);
        reader.fault(line, format!("{ROWS_KEY} limits results of tools: name the tools in tools"));
    }
    let pointer = at.and_then(|at| {
        let pointer = JsonPointer::parse(at);
        if pointer.is_none() {
            let line = section.line_of(reader, ROWS_AT);
            let why = "must be a JSON pointer into structuredContent, such as \"/rows\"";
            reader.fault(line, format!("{ROWS_AT} {why}"));
        }
        pointer
    });
    let over = match reader.text(section, OVER_KEY) {
        None | Some("refuse") => Over::Refuse,
        Some("cut") => Over::Cut,
        Some(_) => {
            let line = section.line_of(reader, OVER_KEY);
            reader.fault(line, format!("{OVER_KEY} must be \"refuse\" or \"cut\""));
            Over::Refuse
        }
    };
    if section.has(OVER_KEY) && !section.has(BYTES_KEY) && !section.has(ROWS_KEY) {
        let line = section.line_of(reader, OVER_KEY);
        reader.fault(
            line,
            format!("{OVER_KEY} says what becomes of an answer beyond {BYTES_KEY} or {ROWS_KEY}: set one of them"),
        );
    }
    if over == Over::Cut && !section.has("tools") && !section.has("annotations") {
        let line = section.line_of(reader, OVER_KEY);
        reader.fault(line, format!("only results of tools can be cut: {OVER_KEY} = \"cut\" needs tools"));
    }
    let bytes = bytes_max.map(|max| BytesMax { max, over });
    let rows = max.zip(pointer).map(|(max, at)| RowsMax { max, at, over }).into_iter().collect();
    let ceiling = AnswerCeiling { bytes, rows };
    (!ceiling.is_empty()).then(|| Arc::new(ceiling))
}

fn read_arguments(reader: &mut FileReader, section: &Section<'_>) -> Option<Arc<ArgumentSchema>> {
    let arguments = reader.inner(section, "arguments")?;
    let line = section.line_of(reader, "arguments");
    if !section.has("tools") && !section.has("prompts") {
        reader.fault(line, "arguments need tools or prompts: name them in tools or prompts");
    }
    let schema = arguments.json().map(|(name, value)| (name.to_owned(), value)).collect();
    match ArgumentSchema::parse(&serde_json::Value::Object(schema)) {
        Ok(schema) => Some(Arc::new(schema)),
        Err(faults) => {
            faults.into_iter().for_each(|fault| reader.fault(line, fault));
            None
        }
    }
}
