//! The tools of a simulated server: which of them it declares as read-only, and how it answers calls of them.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use adit::base::{Clock, Rng, Time};
use adit::engine::{ByteStream, Core, Socket, StreamError};
use futures_lite::future;

use crate::bodies::send;

/// The answer to `tools/list`.
pub(crate) const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[
{"name":"look","annotations":{"readOnlyHint":true}},{"name":"set","annotations":{"idempotentHint":true}},{"name":"pay"}]}}"#;
/// What a call of a tool is answered.
pub(crate) const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;

/// How calls of tools are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answers {
    /// With this status, after so long.
    With(u16, Duration),
    /// With an event stream that begins at once, and an event with the result after so long.
    Events(Duration),
    /// The same with an empty event at its beginning, and a notification of this method before the result, each after so long.
    Notifies(&'static str, Duration),
    /// With 200 and this body, after so long; 202 if it is empty.
    Returns(&'static str, Duration),
    /// With an event stream that begins at once, and an event with these data after so long; none if they are empty.
    Tells(&'static str, Duration),
    /// Not at all: the connection is closed after so long.
    Closes(Duration),
    /// With 200, after 20 ms to 40 ms; so many of a thousand calls after a second.
    SlowAtTimes(u64),
}

/// A call of a tool that has come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) came: Time,
    /// When it ended.
    pub(crate) ended: Option<Time>,
    /// Whether its answer was sent whole.
    pub(crate) is_answered: bool,
}

/// The tools of a server.
pub(crate) struct Tools {
    pub(crate) answers: Cell<Answers>,
    seen: RefCell<Vec<Seen>>,
    rng: RefCell<Rng>,
}

impl Tools {
    pub(crate) fn new(nth: usize) -> Tools {
        let answers = Cell::new(Answers::With(200, Duration::from_millis(5)));
        Tools { answers, seen: RefCell::default(), rng: RefCell::new(Rng::new(nth as u64)) }
    }

    /// The calls that have come.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// Answers a call of a tool on a connection of the server with this name.
    pub(crate) async fn answer(&self, name: &str, core: &Core, socket: &Socket) -> Result<(), StreamError> {
        let nth = self.seen.borrow().len();
        self.seen.borrow_mut().push(Seen { came: core.now(), ended: None, is_answered: false });
        let answered = self.send(name, core, socket).await;
        let seen = &mut self.seen.borrow_mut()[nth];
        (seen.ended, seen.is_answered) = (Some(core.now()), answered.is_ok());
        answered
    }

    async fn send(&self, name: &str, core: &Core, socket: &Socket) -> Result<(), StreamError> {
        let head = |rest: &str| format!("HTTP/1.1 200 OK\r\nX-Server: {name}\r\n{rest}\r\n\r\n");
        let event = |data: &str| {
            let event = format!("event: message\ndata: {data}\n\n");
            format!("{:x}\r\n{event}\r\n", event.len())
        };
        let begin = head("Content-Type: text/event-stream\r\nTransfer-Encoding: chunked");
        match self.answers.get() {
            Answers::With(status, after) => answer(name, core, socket, (status, RESULT, after)).await,
            Answers::Returns("", after) => answer(name, core, socket, (202, "", after)).await,
            Answers::Returns(body, after) => answer(name, core, socket, (200, body, after)).await,
            Answers::Tells(data, after) => {
                send(socket, begin.as_bytes()).await?;
                wait(core, socket, after).await?;
                let events = if data.is_empty() { String::new() } else { event(data) };
                send(socket, format!("{events}0\r\n\r\n").as_bytes()).await
            }
            Answers::SlowAtTimes(of_thousand) => {
                let time_us = {
                    let mut rng = self.rng.borrow_mut();
                    if rng.below(1_000) < of_thousand { 1_000_000 } else { 20_000 + rng.below(20_000) }
                };
                answer(name, core, socket, (200, RESULT, Duration::from_micros(time_us))).await
            }
            Answers::Events(after) => {
                send(socket, begin.as_bytes()).await?;
                wait(core, socket, after).await?;
                send(socket, format!("{}0\r\n\r\n", event(RESULT)).as_bytes()).await
            }
            Answers::Notifies(method, after) => {
                send(socket, format!("{begin}{}", event("")).as_bytes()).await?;
                let notification = format!(r#"{{"jsonrpc":"2.0","method":"notifications/{method}","params":{{}}}}"#);
                for data in [&*notification, RESULT] {
                    wait(core, socket, after).await?;
                    send(socket, event(data).as_bytes()).await?;
                }
                send(socket, b"0\r\n\r\n").await
            }
            Answers::Closes(after) => {
                wait(core, socket, after).await?;
                Err(StreamError::Closed)
            }
        }
    }
}

/// Answers with this status and body after so long.
async fn answer(
    name: &str,
    core: &Core,
    socket: &Socket,
    (status, body, after): (u16, &str, Duration),
) -> Result<(), StreamError> {
    wait(core, socket, after).await?;
    let len = body.len();
    let head = format!("HTTP/1.1 {status} Told\r\nX-Server: {name}\r\nContent-Length: {len}\r\n\r\n");
    send(socket, format!("{head}{body}").as_bytes()).await
}

/// Works for so long, unless the caller gives the call up.
async fn wait(core: &Core, socket: &Socket, time: Duration) -> Result<(), StreamError> {
    let worked = async {
        core.sleep(time).await;
        Ok(())
    };
    let given_up = async {
        while let Ok(Some(_)) = socket.recv().await {}
        Err(StreamError::Closed)
    };
    future::or(worked, given_up).await
}
