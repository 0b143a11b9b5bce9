//! The agent's side of an exchange of the bridge: HTTP/1.1 with the connection pools of the connector.

use std::rc::Rc;

use futures_lite::future;

use crate::bridge::{BridgeRefusal, INTERNAL_ERROR, INVALID_REQUEST, accepts_events};
use crate::connector::bridge::reply::{LAST_CHUNK, Reply, STREAM_HEAD, event};
use crate::connector::bridge::state::BridgeState;
use crate::connector::shared::Counters;
use crate::engine::{Socket, StreamError, send_bytes};
use crate::exchange::{BodySource, Http1Source, Intake, Piece};
use crate::wire::http1::{BodyDecoder, CONTINUE, RequestHead};

/// The longest message of an agent that is translated, in bytes.
pub(super) const MESSAGE_LEN_MAX: usize = 16 * 1024 * 1024;

/// The state of a connection between its exchanges.
#[derive(Default)]
pub(super) struct Buffers {
    pub(super) intake: Intake,
    pub(super) head: RequestHead,
    pub(super) decoder: BodyDecoder,
}

/// Why a connection ends within an exchange.
#[derive(Debug)]
pub(super) enum ExchangeEnd {
    /// The connection has failed, or the agent has left.
    Stream,
    /// There is no answer, which cannot be said in the response that has begun.
    NoAnswer,
}

impl From<StreamError> for ExchangeEnd {
    fn from(_: StreamError) -> ExchangeEnd {
        ExchangeEnd::Stream
    }
}

/// One exchange with an agent, whose head was read.
pub(super) struct AgentSide<'a> {
    pub(super) server: &'a Rc<BridgeState>,
    pub(super) socket: &'a Socket,
    pub(super) buffers: &'a mut Buffers,
}

impl AgentSide<'_> {
    /// Reads the body, up to its limits.
    pub(super) async fn read_body(&mut self) -> Result<Result<Vec<u8>, Reply>, ExchangeEnd> {
        if self.buffers.head.expects_continue() {
            self.write(CONTINUE).await?;
        }
        let (counters, mut refused) = (self.server.counters(), None);
        let mut share = self.server.messages.share();
        let Buffers { intake, decoder, .. } = &mut *self.buffers;
        let (mut source, mut body) = (Http1Source::new(self.socket, intake, decoder), Vec::new());
        loop {
            match source.next().map_err(|_| ExchangeEnd::Stream)? {
                // The rest of a body that is refused is read and dropped, so that the refusal arrives.
                Piece::Data(_) if refused.is_some() => {}
                Piece::Data(data) => {
                    let len = body.len() + data.len();
                    let refusal = if len > MESSAGE_LEN_MAX {
                        let why =
                            format!("the message is longer than {MESSAGE_LEN_MAX} bytes, too long to be translated");
                        Some(BridgeRefusal::new(413, INVALID_REQUEST, &why))
                    } else if !share.set(len) {
                        let why = "too many long messages are being translated: try again later";
                        Some(BridgeRefusal::new(503, INTERNAL_ERROR, why))
                    } else {
                        body.extend_from_slice(&data);
                        None
                    };
                    if let Some(refusal) = refusal {
                        Counters::add(&counters.bridge_refused_limits);
                        body = Vec::new();
                        refused = Some(Reply::refusal(&refusal, b"null"));
                    }
                }
                Piece::Wait => source.more().await?,
                Piece::End => return Ok(refused.map_or(Ok(body), Err)),
            }
        }
    }

    /// Waits for `what`; none if the agent leaves first.
    pub(super) async fn while_connected<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        let (intake, socket) = (&mut self.buffers.intake, self.socket);
        let left = async {
            intake.ended(socket).await;
            None
        };
        future::or(async { Some(what.await) }, left).await
    }

    /// Sends a response that is complete.
    pub(super) async fn send(&self, reply: Reply) -> Result<(), ExchangeEnd> {
        self.write(&reply.bytes()).await
    }

    /// Sends bytes of a response.
    pub(super) async fn write(&self, bytes: &[u8]) -> Result<(), ExchangeEnd> {
        Ok(send_bytes(self.socket, self.server.client.core.pool(), bytes).await?)
    }

    /// Whether the agent takes a stream of events.
    pub(super) fn takes_events(&self) -> bool {
        accepts_events(&self.buffers.head)
    }

    /// Begins a stream of events.
    pub(super) async fn begin_events(&self) -> Result<(), ExchangeEnd> {
        self.write(STREAM_HEAD).await
    }

    /// Sends a message as an event.
    pub(super) async fn event(&self, message: &[u8]) -> Result<(), ExchangeEnd> {
        self.write(&event("message", message)).await
    }

    /// Ends a stream of events.
    pub(super) async fn end_events(&self) -> Result<(), ExchangeEnd> {
        self.write(LAST_CHUNK).await
    }
}
