//! Requests of agents over HTTP/1.1 and HTTP/2.

use std::future::poll_fn;
use std::task::{Context, Poll};

use crate::edge::edge_core::EdgeCore;
use crate::engine::{ByteStream, StreamError};
use crate::exchange::{ExchangeState, PeerProgress, TimeoutStream};
use crate::latency::Outcome;
use crate::serve::{Http1Request, Incoming, Request, RequestBody, Responder};
use crate::tls::Connection;

/// A request of an agent, and its connection or stream.
pub(super) trait AgentRequest<'a>: Request {
    /// The connection that carries it, or a stream of one.
    type Carrier: PeerProgress + 'a;

    /// The stream or connection that carries the request.
    fn carrier(&self) -> &'a Self::Carrier;

    /// Splits the request into head, body and responder. Waits for the agent have the limits of `to_agent`, and it is
    /// noticed if the agent leaves.
    fn incoming<'b, C: Fn(u64, &mut Context<'_>) -> ExchangeState>(
        &'b mut self,
        to_agent: &'b TimeoutStream<'b, Self::Carrier, C>,
    ) -> Incoming<'b, impl RequestBody, impl Responder>;

    /// Waits until the system has accepted the whole response, if the outcome depends on that. `keeps`: the connection
    /// can carry another request.
    fn delivered<C: Fn(u64, &mut Context<'_>) -> ExchangeState>(
        &self,
        to_agent: &TimeoutStream<'_, Self::Carrier, C>,
        keeps: bool,
        core: &EdgeCore,
    ) -> impl Future<Output = Outcome>;
}

impl<'a> AgentRequest<'a> for Http1Request<'a, Connection> {
    type Carrier = Connection;

    fn carrier(&self) -> &'a Connection {
        self.stream()
    }

    fn incoming<'b, C: Fn(u64, &mut Context<'_>) -> ExchangeState>(
        &'b mut self,
        to_agent: &'b TimeoutStream<'b, Connection, C>,
    ) -> Incoming<'b, impl RequestBody, impl Responder> {
        self.incoming_over(to_agent, true)
    }

    async fn delivered<C: Fn(u64, &mut Context<'_>) -> ExchangeState>(
        &self,
        to_agent: &TimeoutStream<'_, Connection, C>,
        keeps: bool,
        core: &EdgeCore,
    ) -> Outcome {
        match sent(to_agent, keeps).await {
            // If the connection ends before the agent's system has all of the answer, the answer was cut.
            Outcome::Ok if !keeps => outcome_of(&self.stream().finish_acknowledged(|| core.write_timeout()).await),
            outcome => outcome,
        }
    }
}

/// Waits until the system has accepted the whole answer if it is the last on its connection or larger than the queue:
/// only then is it known that the answer was not cut.
async fn sent(to_agent: &impl ByteStream, keeps: bool) -> Outcome {
    let mut whole = !keeps;
    let sent = poll_fn(|cx| {
        if !whole {
            match to_agent.poll_ready(cx) {
                Poll::Pending => whole = true,
                ready => return ready,
            }
        }
        to_agent.poll_flushed(cx)
    });
    outcome_of(&sent.await)
}

/// The outcome of an exchange whose response was sent with this result.
pub(super) fn outcome_of(sent: &Result<(), StreamError>) -> Outcome {
    match sent {
        Ok(()) => Outcome::Ok,
        Err(StreamError::TimedOut) => Outcome::AgentStalled,
        Err(_) => Outcome::AgentGone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Lease;

    /// An agent's connection with a fixed state.
    struct Agent {
        ready: Poll<Result<(), StreamError>>,
        flushed: Result<(), StreamError>,
    }

    impl ByteStream for Agent {
        fn poll_recv(&self, _: &mut Context<'_>) -> Poll<Result<Option<Lease>, StreamError>> {
            Poll::Pending
        }

        fn send(&self, _: Lease) -> Result<(), StreamError> {
            Ok(())
        }

        fn poll_ready(&self, _: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
            self.ready.clone()
        }

        fn poll_flushed(&self, _: &mut Context<'_>) -> Poll<Result<(), StreamError>> {
            Poll::Ready(self.flushed.clone())
        }

        fn finish(&self) {}

        fn abort(&self) {}
    }

    #[test]
    fn an_answer_that_was_cut_is_not_a_good_one() {
        let (ok, reset, late) = (Ok(()), Err(StreamError::Reset), Err(StreamError::TimedOut));
        for (keep, ready, flushed, outcome) in [
            (true, Poll::Ready(ok.clone()), late.clone(), Outcome::Ok),
            (true, Poll::Ready(reset.clone()), ok.clone(), Outcome::AgentGone),
            (true, Poll::Pending, ok.clone(), Outcome::Ok),
            (true, Poll::Pending, late.clone(), Outcome::AgentStalled),
            (false, Poll::Ready(ok.clone()), ok.clone(), Outcome::Ok),
            (false, Poll::Ready(ok.clone()), late, Outcome::AgentStalled),
            (false, Poll::Ready(reset.clone()), reset.clone(), Outcome::AgentGone),
            (false, Poll::Pending, reset, Outcome::AgentGone),
        ] {
            let agent = Agent { ready, flushed };
            assert_eq!(futures_lite::future::block_on(sent(&agent, keep)), outcome, "{keep}");
        }
    }
}
