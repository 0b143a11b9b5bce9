//! Texts that take more time than they may, on a clock that moves each time it is read.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::base::{Clock, Rng, Time};
use crate::policy::tools::answer_filter::AnswerFilter;
use crate::policy::tools::answer_note::{AnswerNote, AnswerWithheld};
use crate::policy::tools::decision::Asked;
use crate::policy::tools::roles::RoleSet;
use crate::policy::tools::sanitise::found::{SanitiseFound, SanitiseKind};
use crate::policy::tools::sanitise::rules::OwnPattern;
use crate::policy::tools::sanitise::scan_timer::{CHECK_LEN, ScanTimer};
use crate::policy::tools::tool_policy::ToolPolicy;

const STEP: Duration = Duration::from_millis(100);
/// A second is ten steps.
const POLICY: &str = "[sanitise]\nsecrets = 'redact'\nscan_time_max_ms = 1000\n";

struct SteppingClock(Cell<Time>);

impl Clock for SteppingClock {
    fn now(&self) -> Time {
        self.0.set(self.0.get() + STEP);
        self.0.get()
    }
}

/// A filter whose clock moves, and the note of its findings.
fn stepping(policy: &str, is_standing: bool) -> (AnswerFilter, AnswerNote) {
    let policy = ToolPolicy::parse(policy).unwrap_or_else(|faults| panic!("{faults:?}"));
    let note = AnswerNote::default();
    let filter = AnswerFilter::new(&Arc::new(policy), (RoleSet::default(), None), false, Some(&note)).unwrap();
    (filter.timed(|| Rc::new(SteppingClock(Cell::new(Time::ZERO))), is_standing), note)
}

/// A result with a secret, in texts that are so long together.
fn message(parts: usize) -> String {
    let texts: Vec<String> = (0..parts).map(|_| "plain words ".repeat(CHECK_LEN / 24)).collect();
    json!({"result": {"content": [{"text": "key AKIAIOSFODNN7EXAMPLE"}, {"text": texts}]}}).to_string()
}

#[test]
fn a_message_that_takes_too_long_is_refused_or_passed_on_as_it_is() {
    let (filter, note) = stepping(POLICY, false);
    assert!(filter.apply(message(4).as_bytes()).unwrap().is_some(), "there is time for this one");
    let found = note.found();
    assert_eq!((found.changed(SanitiseKind::Secrets), found.changed(SanitiseKind::TooSlow)), (1, 0));
    let (filter, note) = stepping(POLICY, false);
    assert_eq!(filter.apply(message(40).as_bytes()), Err(AnswerWithheld::Unreadable));
    assert_eq!(note.found().to_string(), "too_slow changed 1");
    let (filter, note) = stepping(&format!("{POLICY}when_slower = 'pass'\n"), false);
    assert_eq!(filter.apply(message(40).as_bytes()), Ok(None));
    assert_eq!(note.found().to_string(), "too_slow flagged 1", "the secret was not removed");
}

#[test]
fn all_messages_of_a_call_share_its_time_and_those_of_a_standing_stream_do_not() {
    let event = "data: {\"result\":{\"content\":[{\"text\":\"key AKIAIOSFODNN7EXAMPLE\"}]}}\n\n";
    let passed = |is_standing: bool| {
        let (filter, note) = stepping(&format!("{POLICY}when_slower = 'pass'\n"), is_standing);
        let same = (0..30).filter(|_| filter.apply_to_event(event.as_bytes()).unwrap().is_none()).count();
        (same, note.found().flagged(SanitiseKind::TooSlow) as usize)
    };
    let (late, flagged) = passed(false);
    assert!(late == flagged && (15..25).contains(&late), "{late} events came when the second was over");
    assert_eq!(passed(true), (0, 0));
    let (filter, note) = stepping(POLICY, false);
    let refused = (0..30).find(|_| filter.apply_to_event(event.as_bytes()).is_err());
    assert!(refused.is_some_and(|nth| nth < 15) && note.found().changed(SanitiseKind::TooSlow) == 1, "{refused:?}");
}

#[test]
fn a_long_text_is_searched_in_parts_with_the_matches_of_the_whole() {
    let mut rng = Rng::new(19);
    let words = ["ab", "é", "TCK-123456", "x", " ", "\n", "aaaa", "\u{1f600}", "TCK-", "bcd"];
    let mut matches = 0;
    for pattern in [r"TCK-[0-9]{6}", r"\bab\b", r"a{1,900}", r"(?m)^x", r"x\b|ab$", r"[^ ]{1,1000}x", r"é\B"] {
        let own = OwnPattern { regex: regex::Regex::new(pattern).unwrap(), placeholder: String::new(), changes: true };
        for _ in 0..4 {
            let text: String = (0..30_000).map(|_| words[rng.below(words.len() as u64) as usize]).collect();
            assert!(text.len() > 3 * CHECK_LEN);
            let mut found = Vec::new();
            own.find_each(&text, &mut ScanTimer::unlimited(), |part| found.push(part)).unwrap();
            let whole: Vec<_> = own.regex.find_iter(&text).map(|part| part.range()).collect();
            assert_eq!(found, whole, "{pattern}");
            matches += found.len();
        }
    }
    assert!(matches > 1_000, "{matches}");
}

#[test]
fn a_call_whose_arguments_take_too_long_is_denied_or_passed_on_as_it_is() {
    for (more, parts, is_allowed, found) in [
        ("", 4, false, "secrets flagged 1"),
        ("", 40, false, "too_slow flagged 1"),
        ("when_slower = 'pass'\n", 40, true, "too_slow flagged 1"),
    ] {
        let text = format!("{POLICY}arguments = 'deny'\n{more}");
        let policy = ToolPolicy::parse(&text).unwrap_or_else(|faults| panic!("{faults:?}"));
        let asked = Asked::tool("t");
        let arguments = message(parts).replace("\"result\"", "\"arguments\"");
        let (message, mut all) = (format!("{{\"params\":{arguments}}}"), SanitiseFound::default());
        let clock = || Some(Rc::new(SteppingClock(Cell::new(Time::ZERO))) as Rc<dyn Clock>);
        let decision = policy.decide(RoleSet::default(), &asked);
        let decided = policy.check_arguments_finding(decision, &asked, message.as_bytes(), (&mut all, clock));
        assert_eq!((decided.unwrap().is_allowed(), &*all.to_string()), (is_allowed, found), "{more} {parts}");
    }
}
