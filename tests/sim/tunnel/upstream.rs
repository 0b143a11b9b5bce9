//! The simulated MCP server: answers each call as its plan says, and takes down what it sees.

use std::net::SocketAddr;
use std::time::Duration;

use adit::base::Clock;
use adit::engine::driver::{Address, SocketOptions};
use adit::engine::{ByteStream, Core, Listener, Socket};
use futures_lite::future;

use super::http::{Break, Length, Reader, gone, send, send_chunk};
use super::ledger::Ledger;
use super::plan::{Fate, Framing, Plan, Weather};

/// The server.
#[derive(Clone)]
pub(crate) struct Upstream {
    pub(crate) core: Core,
    pub(crate) ledger: Ledger,
    pub(crate) seed: u64,
    pub(crate) weather: Weather,
    /// How long it works on each call, instead of as long as the plan says.
    pub(crate) service: Option<Duration>,
    /// Whether its owner lets calls of the tool that only reads run twice.
    pub(crate) may_repeat: bool,
}

impl Upstream {
    /// Starts to serve.
    pub(crate) fn start(&self, address: SocketAddr) {
        let listener = self.core.listen(&Address::Tcp(address)).expect("a free address");
        self.core.spawn(self.clone().accept(listener));
    }

    async fn accept(self, listener: Listener) {
        loop {
            let Ok((detached, _)) = listener.accept().await else { continue };
            let Ok(socket) = self.core.adopt(detached, SocketOptions::default()).await else { continue };
            self.core.spawn(self.clone().serve(socket));
        }
    }

    /// Serves one connection.
    async fn serve(self, socket: Socket) {
        let mut rest = Vec::new();
        loop {
            match self.call(&socket, &mut rest).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(Break::Nonsense(what)) => {
                    self.ledger.fault(format!("the upstream was sent nonsense: {what}"));
                    break;
                }
                Err(_) => break,
            }
        }
    }

    /// Serves one call; true when the connection stays.
    async fn call(&self, socket: &Socket, rest: &mut Vec<u8>) -> Result<bool, Break> {
        let mut reader = Reader { socket, rest: std::mem::take(rest) };
        let head = reader.head().await?;
        let Some(id) = head.start.split("call=").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok()) else {
            return Err(Break::Nonsense(format!("a request {:?}", head.start)));
        };
        let plan = Plan::of(self.seed, id, self.weather);
        let length = head.length()?;
        let has_other_length = matches!(length, Some(Length::Bytes(len)) if len != plan.request.len());
        if plan.method() == "POST" && (has_other_length || (plan.request_chunked && length != Some(Length::Chunked))) {
            return self.cancelled(socket, &mut reader, length, rest).await;
        }
        self.ledger.arrival(id, |arrival| {
            arrival.heads += 1;
            arrival.may_come_twice = (self.may_repeat && plan.only_reads()) || plan.method() != "POST";
        });
        if !head.start.starts_with(plan.method()) {
            self.ledger.fault(format!("call {id} came as {:?}", head.start));
        }
        if head.field("expect").is_some() {
            send(socket, b"HTTP/1.1 100 Continue\r\n\r\n").await.map_err(Break::Failed)?;
        }
        let read = self.read_request(&mut reader, &plan, length.unwrap_or(Length::Bytes(0))).await;
        if read.is_err() {
            self.ledger.arrival(id, |arrival| arrival.gone_at = Some(self.core.now()));
        }
        read?;
        if plan.fate == Fate::DiesBeforeTheAnswer {
            socket.abort();
            return Ok(false);
        }
        // The answer, unless the client goes away first. What it sends meanwhile is its next call.
        *rest = reader.rest;
        let answered = future::or(async { self.answer(socket, &plan).await.is_ok().then_some(()) }, async {
            gone(socket, rest).await;
            None
        });
        if answered.await.is_none() {
            self.ledger.arrival(id, |arrival| arrival.gone_at = Some(self.core.now()));
            return Ok(false);
        }
        self.ledger.arrival(id, |arrival| arrival.answered_at = Some(self.core.now()));
        Ok(!plan.closes && plan.framing != Framing::Close && plan.fate == Fate::Answers)
    }

    /// A message at the address of a call that is not the call: that it is cancelled.
    async fn cancelled(
        &self,
        socket: &Socket,
        reader: &mut Reader<'_>,
        length: Option<Length>,
        rest: &mut Vec<u8>,
    ) -> Result<bool, Break> {
        let mut message = Vec::new();
        reader.body(length.unwrap_or(Length::Bytes(0)), |bytes| message.extend_from_slice(bytes)).await?;
        if !String::from_utf8_lossy(&message).contains(r#""method":"notifications/cancelled""#) {
            self.ledger.fault(format!("the upstream was sent {}", String::from_utf8_lossy(&message)));
        }
        *rest = std::mem::take(&mut reader.rest);
        send(socket, b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await.map_err(Break::Failed)?;
        Ok(true)
    }

    /// Reads the body, and compares it with what the agent meant to send.
    async fn read_request(&self, reader: &mut Reader<'_>, plan: &Plan, length: Length) -> Result<(), Break> {
        let mut at = 0;
        let mut wrong = false;
        let read = reader
            .body(length, |bytes| {
                wrong |= plan.request.get(at..at + bytes.len()) != Some(bytes);
                at += bytes.len();
            })
            .await;
        if wrong {
            self.ledger.fault(format!("call {} came with another body", plan.id));
        }
        read?;
        if at != plan.request.len() {
            let (id, whole) = (plan.id, plan.request.len());
            self.ledger.fault(format!("call {id}: {at} bytes of {whole} came as a whole body"));
        }
        self.ledger.arrival(plan.id, |arrival| arrival.whole = true);
        Ok(())
    }

    async fn answer(&self, socket: &Socket, plan: &Plan) -> Result<(), adit::engine::StreamError> {
        self.core.sleep(self.service.unwrap_or(plan.service)).await;
        let whole: usize = plan.answer.iter().map(Vec::len).sum();
        let framing = match plan.framing {
            Framing::Length => format!("content-length: {whole}\r\n"),
            Framing::Chunked => "transfer-encoding: chunked\r\n".to_owned(),
            Framing::Close => "connection: close\r\n".to_owned(),
        };
        let closes = if plan.closes && plan.framing != Framing::Close { "connection: close\r\n" } else { "" };
        let (id, kind) = (plan.id, plan.content_type());
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nx-call: {id}\r\n{framing}{closes}\r\n");
        send(socket, head.as_bytes()).await?;
        for (n, piece) in plan.answer.iter().enumerate() {
            if plan.fate == Fate::DiesAfter(n) {
                let _ = socket.flushed().await;
                socket.abort();
                return Ok(());
            }
            if n > 0 {
                self.core.sleep(plan.gap).await;
            }
            if plan.framing == Framing::Chunked {
                send_chunk(socket, piece).await?;
            } else {
                send(socket, piece).await?;
            }
        }
        if let Fate::DiesAfter(_) = plan.fate {
            socket.abort();
            return Ok(());
        }
        if plan.framing == Framing::Chunked {
            send_chunk(socket, b"").await?;
        }
        socket.flushed().await
    }
}
