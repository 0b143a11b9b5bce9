//! Where the messages for an agent with sessions go: into the response to its request, or onto the stream of its session.

use std::rc::Rc;

use futures_lite::future;

use crate::bridge::{CANCELLED, INTERNAL_ERROR, error_message};
use crate::connector::bridge::agent_session::AgentSession;
use crate::connector::bridge::agent_side::AgentSide;
use crate::connector::bridge::mail::Mail;
use crate::connector::bridge::reply::Reply;
use crate::exchange::ExchangeEnd;

/// Where messages for the agent go.
pub(super) enum Output<'a, 'b> {
    /// In the response to its request.
    Response { agent: &'b mut AgentSide<'a>, may_stream: bool, streams: bool, is_batch: bool },
    /// On the stream of its session.
    Session(Rc<AgentSession>),
}

impl Output<'_, '_> {
    /// Whether the agent can be asked.
    pub(super) fn can_ask(&self) -> bool {
        matches!(self, Output::Session(_) | Output::Response { may_stream: true, .. })
    }

    /// Sends a message that others follow. It is left out if the agent takes no stream.
    pub(super) async fn message(&mut self, message: Vec<u8>) -> Result<(), ExchangeEnd> {
        match self {
            Output::Session(session) => session.outbox.send(Mail::Message(message)).await,
            Output::Response { agent, may_stream: true, streams, .. } => {
                if !*streams {
                    agent.begin_events().await?;
                    *streams = true;
                }
                agent.event(&message).await?;
            }
            Output::Response { .. } => {}
        }
        Ok(())
    }

    /// Sends the answer to a request.
    pub(super) async fn answer(&mut self, message: Vec<u8>) -> Result<(), ExchangeEnd> {
        match self {
            Output::Session(session) => session.outbox.send(Mail::Message(message)).await,
            Output::Response { agent, streams: true, is_batch, .. } => {
                agent.event(&message).await?;
                if !*is_batch {
                    agent.end_events().await?;
                }
            }
            Output::Response { agent, .. } => agent.send(Reply::new(200, message)).await?,
        }
        Ok(())
    }

    /// Ends a request that was cancelled, which is not answered if it need not be.
    pub(super) async fn cancelled(&mut self, id: &[u8]) -> Result<(), ExchangeEnd> {
        match self {
            Output::Session(_) | Output::Response { is_batch: true, .. } => Ok(()),
            Output::Response { agent, may_stream: true, streams, .. } => {
                if !*streams {
                    agent.begin_events().await?;
                }
                agent.end_events().await
            }
            Output::Response { .. } => self.answer(error_message(id, CANCELLED, "the request was cancelled")).await,
        }
    }

    /// Sends a response that is no answer to a request.
    pub(super) async fn reply(&mut self, reply: Reply) -> Result<(), ExchangeEnd> {
        match self {
            Output::Response { agent, streams: false, .. } => agent.send(reply).await,
            _ => Ok(()),
        }
    }

    /// Sends the refusal of the server, as far as the agent can still be told of it.
    pub(super) async fn refuse(&mut self, reply: Reply, id: &[u8]) -> Result<(), ExchangeEnd> {
        match self {
            Output::Response { streams: false, .. } => self.reply(reply).await,
            _ => {
                let why = format!("the server has refused the request with status {}", reply.status);
                self.answer(error_message(id, INTERNAL_ERROR, &why)).await
            }
        }
    }

    /// Begins the answers to a batch, each as an event.
    pub(super) async fn begin_batch(&mut self) -> Result<(), ExchangeEnd> {
        if let Output::Response { agent, streams, is_batch, .. } = self {
            agent.begin_events().await?;
            (*streams, *is_batch) = (true, true);
        }
        Ok(())
    }

    /// Ends the answers to a batch.
    pub(super) async fn end_batch(&mut self) -> Result<(), ExchangeEnd> {
        match self {
            Output::Response { agent, .. } => agent.end_events().await,
            Output::Session(_) => Ok(()),
        }
    }

    /// Waits for `what`, unless the agent leaves or its session ends.
    pub(super) async fn while_connected<T>(&mut self, what: impl Future<Output = T>) -> Result<T, ExchangeEnd> {
        let done = match self {
            Output::Response { agent, .. } => agent.while_connected(what).await,
            Output::Session(session) => {
                let ended = async {
                    session.ended().await;
                    None
                };
                future::or(async { Some(what.await) }, ended).await
            }
        };
        done.ok_or(ExchangeEnd::Stream)
    }
}
