//! `docs/ERRORS.md`: every error response of adit, generated from the tables in the code. The test compares the page
//! with them, and writes it if `ADIT_TEST_WRITE_PAGES` is set.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use crate::exchange::{
    BreakerRefusal, CallFailure, CallReport, CallerRefused, FailedCall, HeadReadError, LateCall, LimitSource,
    OverloadRefusal, Refusal, ceiling_answer,
};
use crate::latency::{BreakerOpen, BreakerScope, CallCounts, Overload, OverloadCause, Phase, UsualLatency};
use crate::policy::{ApprovalTicket, CeilingReached};
use crate::wire::http1::{Answer, BodyError, HeadError};

const INTRO: &str = "# Errors

This page is made from the tables in the program, and a test compares the two. It lists every answer that adit itself gives to
agents; all others are those of the MCP server.

- For a call that failed, and whose JSON-RPC id is known, the body is a JSON-RPC error with that id, a `code` from -31999 to -31000
  (outside the ranges that JSON-RPC and MCP keep for themselves), a `message` for people and models, and `data`. Otherwise it is
  `{\"error\":{\"code\":…,\"message\":…}}`, where `code` is the name that `data.reason` has. Match on names and codes; sentences may
  change.
- `data.may_have_acted` says whether the MCP server may have acted on the request. If not, the call can be repeated.
- `data.call` is the number by which `adit explain` shows the call, and `data.trace` the trace that its agent has named. `tunnel`,
  `route`, `method` and `tool` say what was called, as far as that is known.
- `data.phase` is where the call was when it failed: `edge` (it was not handed to a connector, or its body was not all sent),
  `tunnel`, `connector`, `upstream_connect` or `upstream`. Half of the last calls like it took `p50_ms` at the most and 95 % took
  `p95_ms`; both are there once enough calls were seen.
- `data.retry_after_ms`, which is the header `Retry-After` as well, says when to repeat it. `data.terminal` says that the client
  must not repeat it by itself.
- Each answer has `Server-Timing`, which says where the time went, and `Cache-Control: no-store`. Answers to requests that were
  refused, and to malformed ones, close a connection of HTTP/1.1.
- A call that fails after its answer has begun has no such answer: the connection, or the stream of HTTP/2, is reset. If the answer
  is an event stream, it ends with the event `message`, which has the JSON-RPC error, and is closed as it should be; unless it broke
  off within an event, behind the JSON-RPC response, or after an event with an `id`, since its client can then resume it
  (`Last-Event-ID`).
";

/// The example call of the page.
const CALL: FailedCall<'_> = FailedCall {
    tunnel: "tnl_demo",
    route: "demo.example.com",
    method: "tools/call",
    tool: Some("search"),
    number: 0x3d,
    trace: None,
    phase: Phase::Edge,
    usual: Some(UsualLatency { p50: Duration::from_millis(1_900), p95: Duration::from_millis(2_134) }),
};

/// The example, ended by its deadline.
const LATE: LateCall<'_> = LateCall {
    call: FailedCall { phase: Phase::Upstream, ..CALL },
    limit: Duration::from_millis(3_200),
    source: LimitSource::Learned,
};

/// The example, refused by a circuit breaker.
const REFUSAL: BreakerRefusal<'_> = BreakerRefusal {
    call: CALL,
    scope: BreakerScope::Tool,
    refused: BreakerOpen { retry_after: Some(Duration::from_secs(5)) },
    counts: CallCounts { calls: 20, failed: 12, slow: 0 },
};

/// The example, refused by the concurrency limit of its route.
const OVERLOADED: OverloadRefusal<'_> = OverloadRefusal {
    call: CALL,
    overload: Overload {
        cause: OverloadCause::WaitedTooLong,
        is_of_agent: false,
        limit: 13,
        in_flight: 13,
        retry_after: Duration::from_secs(1),
    },
};

/// Whether an error concerns a request. The others concern responses of servers, and agents see them as
/// `upstream_broken`. A new variant must also be added to [`HeadError::ALL`].
const fn is_of_request(error: HeadError) -> bool {
    match error {
        HeadError::BadStatusLine | HeadError::Http2Answer | HeadError::TlsAnswer => false,
        HeadError::TlsOnPlainPort
        | HeadError::BadMethod
        | HeadError::BadRequestLine
        | HeadError::BadTarget
        | HeadError::UnsupportedMethod
        | HeadError::UnsupportedVersion
        | HeadError::BareCr
        | HeadError::BareLf
        | HeadError::ControlByte
        | HeadError::ObsFold
        | HeadError::EmptyFieldName
        | HeadError::SpaceBeforeColon
        | HeadError::BadFieldName
        | HeadError::NoColon
        | HeadError::TooLong
        | HeadError::Crowded
        | HeadError::TooManyFields
        | HeadError::NoHost
        | HeadError::RepeatedHost
        | HeadError::BadHost
        | HeadError::HostMismatch
        | HeadError::RepeatedContentLength
        | HeadError::BadContentLength
        | HeadError::LengthAndEncoding
        | HeadError::RepeatedTransferEncoding
        | HeadError::UnsupportedTransferEncoding
        | HeadError::TransferEncodingInHttp10
        | HeadError::DisguisedField
        | HeadError::TooManyConnectionOptions
        | HeadError::UnsupportedExpectation => true,
    }
}

/// All errors of bodies. The match below does not compile until a new variant is added to it; add the variant to the
/// list as well.
fn body_errors() -> Vec<BodyError> {
    let all = [
        BodyError::Truncated,
        BodyError::BadChunkSize,
        BodyError::BadLineEnd,
        BodyError::ChunkOverrun,
        BodyError::BadExtension,
        BodyError::ExtensionTooLong,
        BodyError::BadTrailers(HeadError::NoColon),
        BodyError::ForbiddenTrailer,
        BodyError::AmbiguousMessage,
        BodyError::MalformedMessage,
        BodyError::UncertainName,
        BodyError::HeadContradicts,
        BodyError::AmbiguousHead,
        BodyError::ContentCoding,
        BodyError::Charset,
        BodyError::UncertainArguments,
    ];
    for error in all {
        match error {
            BodyError::Truncated
            | BodyError::BadChunkSize
            | BodyError::BadLineEnd
            | BodyError::ChunkOverrun
            | BodyError::BadExtension
            | BodyError::ExtensionTooLong
            | BodyError::BadTrailers(_)
            | BodyError::ForbiddenTrailer
            | BodyError::AmbiguousMessage
            | BodyError::MalformedMessage
            | BodyError::UncertainName
            | BodyError::HeadContradicts
            | BodyError::AmbiguousHead
            | BodyError::ContentCoding
            | BodyError::Charset
            | BodyError::UncertainArguments
            // Only responses have these errors.
            | BodyError::UnreadableList
            | BodyError::CrowdedLists
            | BodyError::AnswerOverCeiling => {}
        }
    }
    all.to_vec()
}

/// The ceilings of policies. A new one belongs into the list, and is then missed here.
fn ceilings() -> Vec<CeilingReached> {
    let after = Duration::from_secs(1);
    let all = [
        CeilingReached::Arguments("amount is missing".into()),
        CeilingReached::Evaluation("types differ".into()),
        CeilingReached::Rate { after },
        CeilingReached::AtOnce,
        CeilingReached::Day { after },
        CeilingReached::Crowded,
        CeilingReached::ApprovalWaits(ticket()),
        CeilingReached::ApprovalDenied(ticket()),
        CeilingReached::ApprovalGiven(ticket()),
        CeilingReached::ApprovalUnknown,
        CeilingReached::ApprovalsFull,
        CeilingReached::ApprovalUnkept,
    ];
    for reached in &all {
        match reached {
            CeilingReached::Arguments(_)
            | CeilingReached::Evaluation(_)
            | CeilingReached::Rate { .. }
            | CeilingReached::AtOnce
            | CeilingReached::Day { .. }
            | CeilingReached::Crowded
            | CeilingReached::ApprovalWaits(_)
            | CeilingReached::ApprovalDenied(_)
            | CeilingReached::ApprovalGiven(_)
            | CeilingReached::ApprovalUnknown
            | CeilingReached::ApprovalsFull
            | CeilingReached::ApprovalUnkept => {}
        }
    }
    all.to_vec()
}

fn ticket() -> ApprovalTicket {
    format!("apr_{}", "0".repeat(32)).parse().unwrap()
}

/// Whether and when the call may be repeated, as a table cell.
fn again(answer: &Answer<'_>) -> String {
    match (answer.retry_after_s, answer.may_have_acted) {
        (Some(seconds), _) => format!("after {seconds} s"),
        (None, Some(true)) => "no (`terminal`)".to_owned(),
        (None, _) => String::new(),
    }
}

fn call_row(page: &mut String, rows: &mut BTreeSet<i32>, answer: &Answer<'_>) {
    let Answer { status, rpc_code, code, message, may_have_acted, .. } = *answer;
    if rows.insert(rpc_code) {
        let acted = if may_have_acted == Some(true) { "perhaps" } else { "no" };
        let again = again(answer);
        writeln!(page, "| {status} | {rpc_code} | `{code}` | {acted} | {again} | {message} |").unwrap();
    }
}

fn row(page: &mut String, answer: &Answer<'_>) {
    let Answer { status, code, message, .. } = *answer;
    writeln!(page, "| {status} | `{code}` | {message} |").unwrap();
}

fn page() -> String {
    let mut page = INTRO.to_owned();
    page.push_str(
        "\n## Calls that failed\n\n| status | code | reason | server acted | again | sentence |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    let mut rows = BTreeSet::new();
    for failure in CallFailure::ALL {
        let answer = failure.answer(None);
        call_row(&mut page, &mut rows, &answer);
        if failure == CallFailure::Deadline {
            let report = CallReport::late(&LATE);
            call_row(&mut page, &mut rows, &report.refine(answer));
            let report = CallReport::late(&LateCall { source: LimitSource::Caller, ..LATE });
            call_row(&mut page, &mut rows, &report.refine(answer));
        }
    }
    let report = CallReport::late(&LATE);
    let example = report.refine(CallFailure::Deadline.answer(Some("7"))).body();
    let example: serde_json::Value = serde_json::from_str(&example).unwrap();
    write!(
        page,
        "\nWhere a limit for the time of a call was reached, and its method is known, `data` says more:\n\n```json\n{example:#}\n```\n\n\
         `limit` is `deadline` for one that was learned from earlier calls of the tool; `first_byte_timeout_ms`, the setting; or\n\
         `caller_timeout`, which the caller or `client_timeout_ms` has set.\n"
    )
    .unwrap();
    let report = CallReport::breaker_open(&REFUSAL);
    let example = report.refine(CallFailure::BreakerOpen.answer(Some("7"))).body();
    let example: serde_json::Value = serde_json::from_str(&example).unwrap();
    write!(
        page,
        "\nThe error for a call that a circuit breaker refused says why, and when to retry:\n\n```json\n{example:#}\n```\n\n\
         `breaker` is `tool`, or `upstream` if it refuses all calls of the route. `calls`, `failed` and `late` count the calls for\n\
         which it opened: all of them, those that failed, and those that were answered after their deadline. If an operator opened\n\
         the breaker, `terminal` replaces these counts and `retry_after_ms`.\n"
    )
    .unwrap();
    let report = CallReport::overloaded(&OVERLOADED);
    let example = report.refine(CallFailure::ConcurrencyLimit.answer(Some("7"))).body();
    let example: serde_json::Value = serde_json::from_str(&example).unwrap();
    write!(
        page,
        "\nThe error for a call beyond the concurrency limit of its route says how many calls are in flight:\n\n```json\n{example:#}\n```\n\n\
         `limit` is `concurrency`, or `agent_share` if there were free places and the agent had its share of the limit. `cause` is\n\
         `waited_too_long`, `too_late` for a call that would not have got a place in its time, or `queue_full`. `method` and `tool`\n\
         are there if they are known.\n"
    )
    .unwrap();
    page.push_str(
        "\n## Requests that are refused\n\n| status | reason | again | sentence |\n| --- | --- | --- | --- |\n",
    );
    for refusal in Refusal::ALL {
        let answer = refusal.answer();
        let Answer { status, code, message, .. } = answer;
        writeln!(page, "| {status} | `{code}` | {} | {message} |", again(&answer)).unwrap();
    }
    page.push_str(
        "\n## Callers that are refused\n\nWhere `auth` of a host or route asks callers for a token:\n\n| status | code | reason | again | sentence |\n| --- | --- | --- | --- | --- |\n",
    );
    for refused in CallerRefused::ALL {
        let answer = refused.answer();
        let Answer { status, rpc_code, code, message, .. } = answer;
        writeln!(page, "| {status} | {rpc_code} | `{code}` | {} | {message} |", again(&answer)).unwrap();
    }
    page.push_str(
        "\n## Calls beyond a ceiling\n\nWhere a rule of a policy has a ceiling ([GOVERNANCE.md](GOVERNANCE.md#ceilings)). `data.limit` is the \
         key of the rule; `data.ticket` is there where the call waits for approval, or was denied:\n\n| status | code | reason | `limit` | again | sentence |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for reached in ceilings() {
        let answer = ceiling_answer(&reached);
        let Answer { status, rpc_code, code, message, .. } = answer;
        let again = match reached {
            CeilingReached::Rate { .. } => "when the next call may be made".to_owned(),
            CeilingReached::Day { .. } => "the next day".to_owned(),
            _ => again(&answer),
        };
        writeln!(page, "| {status} | {rpc_code} | `{code}` | `{}` | {again} | {message} |", reached.key()).unwrap();
    }
    page.push_str("\n## Heads that are refused\n\n| status | reason | sentence |\n| --- | --- | --- |\n");
    row(&mut page, &HeadReadError::TIMEOUT_ANSWER);
    for error in HeadError::ALL.into_iter().filter(|error| is_of_request(*error)) {
        row(&mut page, &Answer::new(error.status(), HeadError::CODE, &error.to_string()));
    }
    page.push_str("\n## Bodies that are refused\n\n| status | reason | sentence |\n| --- | --- | --- |\n");
    for error in body_errors() {
        row(&mut page, &Answer::new(error.status(), BodyError::CODE, &error.to_string()));
    }
    page
}

#[test]
fn the_page_of_errors_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ERRORS.md");
    if std::env::var_os("ADIT_TEST_WRITE_PAGES").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let renew = "ADIT_TEST_WRITE_PAGES=1 cargo test --lib the_page_of_errors";
    assert!(written == page(), "docs/ERRORS.md is out of date: {renew}");
}

/// Programs and models distinguish responses by their names and codes.
#[test]
fn each_name_has_one_status_and_each_sentence_one_name() {
    let mut entries: Vec<(u16, String, String)> = Vec::new();
    let mut add = |answer: &Answer<'_>| {
        entries.push((answer.status, answer.code.to_owned(), answer.message.to_owned()));
    };
    CallFailure::ALL.iter().for_each(|failure| add(&failure.answer(None)));
    Refusal::ALL.iter().for_each(|refusal| add(&refusal.answer()));
    CallerRefused::ALL.iter().for_each(|refused| add(&refused.answer()));
    ceilings().iter().for_each(|reached| add(&ceiling_answer(reached)));
    for (nth, (status, code, message)) in entries.iter().enumerate() {
        for (other_status, other_code, other_message) in &entries[..nth] {
            assert!(code != other_code || status == other_status, "{code} has two statuses");
            assert!(message != other_message || code == other_code, "{message:?} has two names");
        }
    }
}
