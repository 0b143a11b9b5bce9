//! The ceilings of a rule, as the file of a policy has them.

use std::sync::Arc;

use crate::policy::rates::Rate;
use crate::policy::tools::arguments::ArgumentSchema;
use crate::policy::tools::ceilings::{Ceilings, Quota};
use crate::policy::tools::file_reader::{FileReader, Section};

/// The keys of a rule that set its ceilings.
pub(super) const CEILING_KEYS: [&str; 5] =
    ["arguments", "calls_per_minute", "calls_burst", "calls_at_once_max", "calls_per_day"];

/// The highest rate, burst and number of calls at once.
const CALLS_MAX: u32 = 1_000_000;
/// The most calls of a day.
const CALLS_PER_DAY_MAX: u32 = 1_000_000_000;

/// The ceilings of a rule; none if it has none.
pub(super) fn read_ceilings(reader: &mut FileReader, section: &Section<'_>, is_allow: bool) -> Option<Box<Ceilings>> {
    let first = CEILING_KEYS.into_iter().find(|key| section.has(key))?;
    if !is_allow {
        let line = section.line_of(reader, first);
        reader.fault(line, format!("{first} is for rules that allow: it says how much they do"));
    }
    let per_minute = reader.count(section, "calls_per_minute", CALLS_MAX);
    let burst = reader.count(section, "calls_burst", CALLS_MAX);
    if section.has("calls_burst") && !section.has("calls_per_minute") {
        let line = section.line_of(reader, "calls_burst");
        reader.fault(line, "calls_burst says how many calls may come at one time: set calls_per_minute with it");
    }
    let rate = per_minute.and_then(|rate| Rate::new(rate.into(), burst.unwrap_or(rate).into()));
    let quota = Quota {
        rate,
        at_once: reader.count(section, "calls_at_once_max", CALLS_MAX),
        per_day: reader.count(section, "calls_per_day", CALLS_PER_DAY_MAX),
    };
    let ceilings = Ceilings { arguments: read_arguments(reader, section), quota };
    (!ceilings.is_empty()).then(|| Box::new(ceilings))
}

fn read_arguments(reader: &mut FileReader, section: &Section<'_>) -> Option<Arc<ArgumentSchema>> {
    let arguments = reader.inner(section, "arguments")?;
    let line = section.line_of(reader, "arguments");
    if !section.has("tools") && !section.has("prompts") {
        reader.fault(line, "arguments are those of tools and prompts: name some in tools or prompts");
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
