//! Calls that must be written to the audit log, with a log that is slow or hangs, on virtual time.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use adit::engine::{ByteStream, MailSender};
use adit::serve::{AuditEntries, AuditEntry, AuditLog};
use adit::wire::mux;

use crate::bodies::{body, send};
use crate::roles::HOST;
use crate::stalls::{Bed, connect};

const SECOND: Duration = Duration::from_secs(1);
/// Within which something that waits for nobody is there.
const AT_ONCE: Duration = Duration::from_millis(300);
const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"pay","arguments":{"n":1}}}"#;
/// More than is held of an answer.
const LONG: usize = 300_000;

fn bed() -> (Bed, AuditLog, AuditEntries) {
    let (log, entries) = AuditLog::new(true);
    (Bed::start_audited(mux::Settings::default(), Some(log.clone())), log, entries)
}

/// A call to this path, on a connection of its own, and what its agent has got so far.
fn call(bed: &Bed, path: &str) -> Rc<RefCell<Vec<u8>>> {
    let got = Rc::<RefCell<Vec<u8>>>::default();
    let (shared, core, len) = (Rc::clone(&got), bed.agents.clone(), CALL.len());
    let request = format!("POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len}\r\n\r\n{CALL}");
    bed.agents.spawn(async move {
        let socket = connect(&core).await;
        send(&socket, request.as_bytes()).await.expect("the edge is there");
        while let Ok(Some(lease)) = socket.recv().await {
            shared.borrow_mut().extend_from_slice(&lease);
        }
    });
    got
}

fn text(got: &Rc<RefCell<Vec<u8>>>) -> String {
    let got = got.borrow();
    String::from_utf8_lossy(&got[..got.len().min(2_000)]).into_owned()
}

/// The next line, and who waits for it.
#[track_caller]
fn line(entries: &AuditEntries) -> (String, Option<MailSender<()>>) {
    match entries.try_next().expect("there is a line") {
        AuditEntry::Line { body, written } => (String::from_utf8(body).expect("a line is text"), written),
        AuditEntry::Close => panic!("nobody closes it"),
    }
}

#[test]
fn an_answer_leaves_once_its_line_is_written_however_long_it_is() {
    for (len, outcome) in [(60_000, "ok"), (LONG, "begun")] {
        let (mut bed, _log, entries) = bed();
        let got = call(&bed, &format!("/answer/{}/{len}", CALL.len()));
        bed.pass(SECOND);
        assert_eq!(text(&got), "", "nothing leaves before its line is written");
        let (begun, written) = line(&entries);
        assert!(begun.contains(&format!(r#""outcome":"{outcome}""#)) && begun.contains("argument_sha256"), "{begun}");
        assert!(entries.try_next().is_none(), "it has one line so far");
        written.expect("the call waits").send(()).expect("it still does");
        bed.pass(SECOND);
        assert!(got.borrow().ends_with(&body(len)), "{} bytes", got.borrow().len());
        if outcome == "begun" {
            let (end, _) = line(&entries);
            let (kind, bytes) = (r#""kind":"call_end""#, format!(r#""bytes":{len}"#));
            assert!(end.contains(kind) && end.contains(&bytes) && end.contains(r#""outcome":"ok""#), "{end}");
        }
        assert!(entries.try_next().is_none(), "there is nothing more to say");
    }
}

#[test]
fn a_log_that_hangs_withholds_answers_for_a_while_and_then_calls_are_refused_before_they_run() {
    for path in [format!("/answer/{}/2", CALL.len()), format!("/answer/{}/{LONG}", CALL.len())] {
        let (mut bed, log, entries) = bed();
        let got = call(&bed, &path);
        bed.pass(4 * SECOND);
        assert_eq!((text(&got).as_str(), log.is_broken()), ("", false), "it waits for its line");
        bed.pass(2 * SECOND);
        assert!(text(&got).starts_with("HTTP/1.1 503") && text(&got).contains("unrecorded"), "{}", text(&got));
        assert!(log.refuses(), "it counts as broken");
        // Had this one been passed on, its answer would take so long.
        let next = call(&bed, &format!("/busy/{}/60000/8", CALL.len()));
        bed.pass(AT_ONCE);
        assert!(text(&next).starts_with("HTTP/1.1 503"), "{}", text(&next));
        assert!(text(&next).contains("audit_unavailable"), "{}", text(&next));
        let lines = std::iter::from_fn(|| entries.try_next()).count();
        assert!((1..=2).contains(&lines), "the refused call has none: {lines}");
        // A write has succeeded.
        log.set_broken(false);
        let last = call(&bed, &format!("/answer/{}/2", CALL.len()));
        bed.pass(AT_ONCE);
        line(&entries).1.expect("the call waits").send(()).expect("it still does");
        bed.pass(AT_ONCE);
        assert!(text(&last).starts_with("HTTP/1.1 200"), "{}", text(&last));
    }
}
