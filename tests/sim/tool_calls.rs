//! Calls of tools on connections of their own, and what became of them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use adit::engine::ByteStream;

use crate::bodies::send;
use crate::roles::HOST;
use crate::stalls::{Bed, connect};

/// What an agent reads, and when the last of it came, in milliseconds since the call.
pub(crate) type Answer = Rc<RefCell<(String, u128)>>;

pub(crate) fn body_of(tool: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"{tool}"}}}}"#)
}

/// A call of a tool that asks the upstream for `what`, as `status/LENGTH/200`, with these fields in its head. The connection is
/// kept until the edge closes it, or until the agent has waited for `gives_up_after`.
pub(crate) fn call_tool(bed: &Bed, tool: &str, what: &str, fields: &str, gives_up_after: Option<Duration>) -> Answer {
    call_with_body(bed, body_of(tool), what, fields, gives_up_after)
}

/// The same with this message.
pub(crate) fn call_with_body(
    bed: &Bed,
    body: String,
    what: &str,
    fields: &str,
    gives_up_after: Option<Duration>,
) -> Answer {
    let (core, answer) = (bed.agents.clone(), Answer::default());
    let (shared, len) = (Rc::clone(&answer), body.len());
    let path = what.replace("LENGTH", &len.to_string());
    let head = format!("POST /{path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len}\r\n{fields}\r\n{body}");
    bed.agents.spawn(async move {
        let socket = connect(&core).await;
        let began = core.turn_time();
        send(&socket, head.as_bytes()).await.expect("the edge is there");
        let reading = async {
            while let Ok(Some(lease)) = socket.recv().await {
                let mut shared = shared.borrow_mut();
                shared.0.push_str(&String::from_utf8_lossy(&lease));
                shared.1 = (core.turn_time() - began).as_millis();
            }
        };
        match gives_up_after {
            None => reading.await,
            Some(after) => _ = core.timeout(after, reading).await,
        }
    });
    answer
}

pub(crate) fn status_of(answer: &Answer) -> u32 {
    let answer = answer.borrow();
    answer.0.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

pub(crate) fn json_of(answer: &Answer) -> serde_json::Value {
    let answer = answer.borrow();
    let (_, body) = answer.0.split_once("\r\n\r\n").expect("a head");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}
