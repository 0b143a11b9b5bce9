//! A server with sessions and tools.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use adit::engine::driver::{Address, SocketOptions};
use adit::engine::{Core, Socket, StreamError};

use super::bed::{SERVERS, server_at};
use super::client::{BODY, TOOL_CALL, field};
use crate::bodies::{read, read_head, send};
use crate::hedges::tools::{LIST, Tools};

/// A server with sessions. It answers a request of a session that it does not have with 404, as the specification says.
pub(crate) struct Server {
    nth: usize,
    core: Core,
    sessions: RefCell<BTreeSet<String>>,
    begun: Cell<usize>,
    pub(crate) tools: Tools,
}

impl Server {
    pub(super) fn start(nth: usize, core: &Core) -> Rc<Server> {
        let (sessions, begun) = (RefCell::default(), Cell::new(0));
        let server = Rc::new(Server { nth, core: core.clone(), sessions, begun, tools: Tools::new(nth) });
        let listener = core.listen(&Address::Tcp(server_at(nth))).expect("a free address");
        let task = Rc::clone(&server);
        core.spawn(async move {
            loop {
                let Ok((detached, _)) = listener.accept().await else { continue };
                let Ok(socket) = task.core.adopt(detached, SocketOptions::default()).await else { continue };
                let server = Rc::clone(&task);
                task.core.spawn(async move {
                    // A connection that fails is the other side's affair.
                    let _ = server.serve(&socket).await;
                });
            }
        });
        server
    }

    /// The sessions that it has.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.borrow().len()
    }

    /// The sessions that were begun with it.
    pub(crate) fn begun(&self) -> usize {
        self.begun.get()
    }

    async fn serve(&self, socket: &Socket) -> Result<(), StreamError> {
        let mut received = Vec::new();
        loop {
            let head = read_head(socket, &mut received).await?;
            let length = field(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            let body = read(socket, &mut received, length, Duration::ZERO).await?;
            if body.windows(TOOL_CALL.len()).any(|part| part == TOOL_CALL.as_bytes()) {
                self.tools.answer(SERVERS[self.nth], &self.core, socket).await?;
                continue;
            }
            // So long that calls overlap.
            self.core.sleep(Duration::from_millis(5)).await;
            let (status, session) = self.handle(&head, &String::from_utf8_lossy(&body));
            let answer = if body == BODY.as_bytes() { LIST } else { "{}" };
            let session = session.map(|id| format!("Mcp-Session-Id: {id}\r\n")).unwrap_or_default();
            let name = SERVERS[self.nth];
            let answer = format!(
                "HTTP/1.1 {status} Told\r\nX-Server: {name}\r\n{session}Content-Length: {}\r\n\r\n{answer}",
                answer.len()
            );
            send(socket, answer.as_bytes()).await?;
        }
    }

    fn handle(&self, head: &str, body: &str) -> (u16, Option<String>) {
        let mut sessions = self.sessions.borrow_mut();
        match field(head, "mcp-session-id") {
            None if body.contains("initialize") => {
                let id = format!("{}-{}", SERVERS[self.nth], self.begun.replace(self.begun.get() + 1));
                sessions.insert(id.clone());
                (200, Some(id))
            }
            None => (200, None),
            Some(id) if !sessions.contains(&id) => (404, None),
            Some(id) if head.starts_with("DELETE") => {
                sessions.remove(&id);
                (200, None)
            }
            Some(_) => (200, None),
        }
    }
}
