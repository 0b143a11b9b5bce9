//! Event streams that answer calls and break off, through the real edge and the real connector on virtual time.

use std::time::Duration;

use adit::latency::Outcome;

use crate::stalls::Bed;
use crate::tool_calls::{Answer, call_tool};

const SECOND: Duration = Duration::from_secs(1);

/// A call that is answered by so many notifications, two seconds apart.
fn call(bed: &Bed, method: &str) -> Answer {
    call_tool(bed, "search", &format!("sse/LENGTH/2000/100/{method}"), "", None)
}

/// The error in the last event of an answer that ended as it should.
#[track_caller]
fn error_of(answer: &Answer) -> serde_json::Value {
    let answer = answer.borrow().0.clone();
    assert!(answer.ends_with("0\r\n\r\n"), "the stream ends as it should: {answer}");
    assert_eq!(answer.matches("notifications/message").count(), 2, "{answer}");
    let event = answer.split("event: message\n").nth(1).unwrap_or_else(|| panic!("no last event: {answer}"));
    let data = event.lines().next().and_then(|line| line.strip_prefix("data: ")).expect("data");
    let message: serde_json::Value = serde_json::from_str(data).expect("a message");
    assert_eq!(message["id"], 7);
    message["error"].clone()
}

#[test]
fn a_broken_server_or_link_is_reported_by_an_event() {
    let mut bed = Bed::start();
    let call_of_server = call(&bed, "message");
    bed.pass(5 * SECOND);
    bed.kill_upstream();
    bed.pass(SECOND);
    let error = error_of(&call_of_server);
    assert_eq!((&error["code"], &error["data"]["reason"]), (&(-31_003).into(), &"upstream_broken".into()));
    assert_eq!((&error["data"]["phase"], &error["data"]["tool"]), (&"upstream".into(), &"search".into()));
    assert_eq!(bed.outcomes(), [(Outcome::UpstreamFailed, 1)]);

    bed.start_upstream();
    let call_of_link = call(&bed, "message");
    bed.pass(5 * SECOND);
    bed.kill_connector();
    bed.pass(SECOND);
    let error = error_of(&call_of_link);
    assert_eq!((&error["code"], &error["data"]["reason"]), (&(-31_006).into(), &"link_lost".into()));
    assert_eq!(error["data"]["phase"], "tunnel");
    assert_eq!(bed.outcomes(), [(Outcome::UpstreamFailed, 1), (Outcome::LinkLost, 1)]);
}

/// Its client comes back for the rest, which an error in the place of the answer would keep it from.
#[test]
fn a_stream_that_can_be_resumed_breaks_off_and_is_not_answered() {
    let mut bed = Bed::start();
    let answer = call(&bed, "resumable");
    bed.pass(5 * SECOND);
    bed.kill_connector();
    bed.pass(SECOND);
    let answer = answer.borrow().0.clone();
    assert_eq!(answer.matches("id: 1").count(), 2, "{answer}");
    assert!(!answer.contains("error") && !answer.ends_with("0\r\n\r\n"), "{answer}");
    assert_eq!(bed.outcomes(), [(Outcome::LinkLost, 1)]);
}
