//! The agent's side of an exchange of the bridge: HTTP/1.1 with the connection pools of the connector.

use std::rc::Rc;

use crate::bridge::{BridgeRefusal, INTERNAL_ERROR, INVALID_REQUEST, accepts_events};
use crate::connector::bridge::reply::Reply;
use crate::connector::bridge::state::BridgeState;
use crate::connector::shared::Counters;
use crate::engine::{Socket, send_bytes};
use crate::exchange::{BodyRefusal, ExchangeBuffers, ExchangeEnd, LAST_CHUNK, event_chunk, event_stream_head};

/// The longest message of an agent that is translated, in bytes.
pub(super) const MESSAGE_LEN_MAX: usize = 16 * 1024 * 1024;

/// One exchange with an agent, whose head was read.
pub(super) struct AgentSide<'a> {
    pub(super) server: &'a Rc<BridgeState>,
    pub(super) socket: &'a Socket,
    pub(super) buffers: &'a mut ExchangeBuffers,
}

impl AgentSide<'_> {
    /// Reads the body, up to its limits.
    pub(super) async fn read_body(&mut self) -> Result<Result<Vec<u8>, Reply>, ExchangeEnd> {
        let mut share = self.server.messages.share();
        let limits = (MESSAGE_LEN_MAX, &mut share);
        let read = self.buffers.read_body(self.socket, &self.server.client.core, limits).await?;
        Ok(read.map_err(|refusal| {
            Counters::add(&self.server.counters().bridge_refused_limits);
            let refusal = match refusal {
                BodyRefusal::TooLong => {
                    let why = format!("the message is longer than {MESSAGE_LEN_MAX} bytes, too long to be translated");
                    BridgeRefusal::new(413, INVALID_REQUEST, &why)
                }
                BodyRefusal::Crowded => {
                    let why = "too many long messages are being translated: try again later";
                    BridgeRefusal::new(503, INTERNAL_ERROR, why)
                }
            };
            Reply::refusal(&refusal, b"null")
        }))
    }

    /// Waits for `what`; none if the agent leaves first.
    pub(super) async fn while_connected<T>(&mut self, what: impl Future<Output = T>) -> Option<T> {
        self.buffers.while_connected(self.socket, what).await
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
        self.write(&event_stream_head("")).await
    }

    /// Sends a message as an event.
    pub(super) async fn event(&self, message: &[u8]) -> Result<(), ExchangeEnd> {
        self.write(&event_chunk("message", None, message)).await
    }

    /// Ends a stream of events.
    pub(super) async fn end_events(&self) -> Result<(), ExchangeEnd> {
        self.write(LAST_CHUNK).await
    }
}
