//! Connections of agents over HTTP/2: each request is a call in a task of its own.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::base::Share;
use crate::edge::agent_request::{AgentRequest, outcome_of};
use crate::edge::agents;
use crate::edge::call::AgentCalls;
use crate::edge::call_work::Leave;
use crate::edge::caller::Caller;
use crate::edge::edge_core::{EdgeCore, HTTP2_WINDOW_MIN};
use crate::edge::moves::Moved;
use crate::edge::other_core;
use crate::edge::shared::Counters;
use crate::engine::{ByteStream, Lease};
use crate::exchange::{ExchangeState, TimeoutStream, answer_to_head};
use crate::latency::{CallStage, Outcome, Phase};
use crate::route::Scheme;
use crate::serve::{
    Http2Call, Http2End, Http2Limits, Http2Request, Http2Service, Http2Stream, Http2Terms, Incoming, Next, RequestBody,
    Responder, serve_http2,
};
use crate::tls::Connection;
use crate::wire::http1::HeadError;

/// The window of a connection in bytes, while memory for it is left: how much of all bodies is received ahead of the
/// link.
const WINDOW: u32 = 512 * 1024;

/// Serves an agent's connection, whose first bytes are `first`.
pub(super) async fn serve(caller: Caller, peer: Option<SocketAddr>, connection: Connection, first: Option<Lease>) {
    let core = Rc::clone(&caller.core);
    Counters::add(&core.edge.counters.http2_connections);
    let connection = Rc::new(connection);
    let end = {
        let mut windows = core.http2_windows.share();
        let window = if windows.set(WINDOW as usize) { WINDOW } else { HTTP2_WINDOW_MIN };
        let greeting = core.greetings.share();
        let mut calls = Calls { caller: Rc::new(caller), peer, greeting, window };
        serve_http2(&core.core, &connection, first, &mut calls).await
    };
    count(&core, end);
    let Some(connection) = Rc::into_inner(connection) else { return };
    match end {
        Http2End::Failed => connection.abort(),
        _ => agents::close(&core, connection).await,
    }
}

fn count(core: &EdgeCore, end: Http2End) {
    let counters = &core.edge.counters;
    match end {
        Http2End::Done | Http2End::Failed => return,
        Http2End::Flood => Counters::add(&counters.http2_floods),
        Http2End::Crowded => Counters::add(&counters.greetings_refused),
        Http2End::SlowHead | Http2End::Protocol => Counters::add(&counters.requests_refused),
    }
    tracing::debug!(?end, "an HTTP/2 connection was ended");
}

/// The calls of a connection.
struct Calls {
    caller: Rc<Caller>,
    peer: Option<SocketAddr>,
    /// Memory for incomplete heads of requests.
    greeting: Share,
    window: u32,
}

impl Http2Service for Calls {
    fn limits(&self) -> Http2Limits {
        let settings = &self.caller.core.edge.settings;
        Http2Limits {
            first_timeout: settings.header_timeout,
            idle_timeout: settings.idle_timeout,
            header_timeout: settings.header_timeout,
            close_timeout: agents::CLOSE_TIMEOUT,
            window: self.window,
        }
    }

    fn ends(&self) -> impl Future<Output = ()> {
        self.caller.core.drain.begun()
    }

    fn may_keep(&mut self, len: usize) -> bool {
        self.greeting.set(len)
    }

    fn call(&mut self, call: Http2Call) {
        let caller = Rc::clone(&self.caller);
        self.caller.core.core.spawn(serve_call(caller, self.peer, call));
    }
}

async fn serve_call(caller: Rc<Caller>, peer: Option<SocketAddr>, call: Http2Call) {
    let core = &caller.core;
    let terms = Http2Terms {
        browsers: Some(&core.edge.settings.origins),
        scheme: Scheme::of_connection(caller.is_tls),
        own_phase: Phase::Edge,
    };
    let on_refused = |error: HeadError| {
        Counters::add(&core.edge.counters.requests_refused);
        let (now, address) = (core.core.turn_time(), caller.source.address);
        core.figures.on_turned_away(now, address, CallStage::Request, answer_to_head(&error));
    };
    let serve = async |request: &mut Http2Request<'_>| {
        let mut calls = AgentCalls::new(&caller, Moved::default());
        match calls.answer(request).await {
            Next::Keep | Next::Close => {}
            Next::Leave(Leave::Abort) => request.stream().abort(),
            Next::Leave(Leave::HandOver(core, moved)) => {
                // Boxed, because it is rare.
                Box::pin(other_core::carry(&caller, peer, request, core, moved)).await;
            }
        }
    };
    call.serve(terms, on_refused, serve).await;
}

impl<'a> AgentRequest<'a> for Http2Request<'a> {
    type Carrier = Http2Stream;

    fn carrier(&self) -> &'a Http2Stream {
        self.stream()
    }

    fn incoming<'b, C: Fn(u64, &mut Context<'_>) -> ExchangeState>(
        &'b mut self,
        to_agent: &'b TimeoutStream<'b, Http2Stream, C>,
    ) -> Incoming<'b, impl RequestBody, impl Responder> {
        self.incoming_on(to_agent)
    }

    async fn delivered<C: Fn(u64, &mut Context<'_>) -> ExchangeState>(
        &self,
        to_agent: &TimeoutStream<'_, Http2Stream, C>,
        _keeps: bool,
        _here: &EdgeCore,
    ) -> Outcome {
        let sent =
            poll_fn(|cx: &mut Context<'_>| -> Poll<_> { to_agent.or_give_up(self.stream().poll_flushed(cx), cx) });
        outcome_of(&sent.await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size in bytes of the future of a call over HTTP/2, without buffers and the state in `h2`.
    const FUTURE_LEN_MAX: usize = 4500;

    fn future_len<A, B, C, F: Future>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_task_of_a_call_is_small() {
        let len = future_len(serve_call);
        assert!(len <= FUTURE_LEN_MAX, "{len} bytes");
    }
}
