//! Agents' HTTP/2 sessions whose TLS ends in the connector: each request is a call in its own task.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

use crate::base::Traffic;
use crate::connector::call::UpstreamWork;
use crate::connector::call_context::{CallContext, Caller, SessionAgent};
use crate::connector::call_request::PatientRequest;
use crate::connector::connector_core::ConnectorCore;
use crate::connector::kept_calls::number_of;
use crate::connector::shared::Counters;
use crate::connector::stream_calls::StreamCalls;
use crate::exchange::{ExchangeState, TimeoutStream};
use crate::latency::Phase;
use crate::link::CallStream;
use crate::route::{Hostname, Scheme};
use crate::serve::{Http2Call, Http2End, Http2Limits, Http2Request, Http2Service, Http2Terms, Next, serve_http2};

/// The window of a session in bytes, while memory for it is left: how much of all bodies is received ahead of the
/// upstreams.
const WINDOW: u32 = 512 * 1024;
/// The smallest window of a session (RFC 9113, section 6.9.2), in bytes.
const WINDOW_MIN: u32 = 64 * 1024 - 1;
/// How long an agent that has received everything may take to close its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A session on which an agent uses HTTP/2.
pub(super) struct Http2Session {
    pub(super) core: Rc<ConnectorCore>,
    pub(super) stream: Rc<CallStream>,
    /// The only host that the agent may call.
    pub(super) host: Hostname,
    pub(super) agent: SessionAgent,
}

/// Serves a session until it has ended or has to be closed.
pub(super) async fn serve(session: Http2Session) -> Http2End {
    let (core, stream) = (Rc::clone(&session.core), Rc::clone(&session.stream));
    // Its calls are counted separately.
    let _idle = core.figures.count_idle();
    let mut windows = core.http2_windows.share();
    let window = if windows.set(WINDOW as usize) { WINDOW } else { WINDOW_MIN };
    let end = serve_http2(&core.core, &stream, None, &mut Calls { session: Rc::new(session), window }).await;
    if !matches!(end, Http2End::Done | Http2End::Failed) {
        Counters::add(&core.connector.counters.requests_refused);
        tracing::debug!(?end, "an agent's HTTP/2 session was ended");
    }
    end
}

/// The calls of a session.
struct Calls {
    session: Rc<Http2Session>,
    window: u32,
}

impl Http2Service for Calls {
    fn limits(&self) -> Http2Limits {
        let settings = &self.session.core.connector.settings;
        Http2Limits {
            first_timeout: settings.idle_timeout,
            idle_timeout: settings.idle_timeout,
            header_timeout: settings.header_timeout,
            close_timeout: CLOSE_TIMEOUT,
            window: self.window,
        }
    }

    fn ends(&self) -> impl Future<Output = ()> {
        self.session.stream.on_link().carrier_draining()
    }

    /// A session has at most one incomplete head, whose length is limited as for HTTP/1.1.
    fn may_keep(&mut self, _len: usize) -> bool {
        true
    }

    fn call(&mut self, call: Http2Call) {
        let core = &self.session.core;
        if core.calls_open() >= core.connector.settings.calls_max {
            Counters::add(&core.connector.counters.calls_overloaded);
            return call.refuse();
        }
        core.core.spawn(serve_call(Rc::clone(&self.session), call));
    }
}

async fn serve_call(session: Rc<Http2Session>, call: Http2Call) {
    let Http2Session { core, stream, host, agent } = &*session;
    let _counted = core.figures.count_http2_call();
    let settings = &core.connector.settings;
    let terms = Http2Terms { browsers: Some(&settings.origins), scheme: Scheme::Https, own_phase: Phase::Connector };
    let on_refused = |_| Counters::add(&core.connector.counters.requests_refused);
    let serve = async |request: &mut Http2Request<'_>| {
        let on_stream = request.stream();
        let state = |_, _: &mut Context<'_>| match stream.on_link().is_carrier_draining() {
            true => ExchangeState::Draining,
            false => ExchangeState::Running,
        };
        let patience = TimeoutStream::new(on_stream, &settings.write_timeout, state);
        let (caller, number) = (Caller::Agent(agent), number_of(stream.on_link()));
        let context = CallContext { core, stream, caller, traffic: Traffic::Passthrough, number };
        let mut work = UpstreamWork::default();
        let mut calls = StreamCalls { context, host: Some(host), work: &mut work, has_called: false };
        match calls.carry(&mut PatientRequest { request, patience: &patience }).await {
            Next::Leave(_) => on_stream.abort(),
            Next::Keep | Next::Close => {
                // The rest of the response has to wait for the agent's windows.
                let sent = poll_fn(|cx| patience.or_give_up(on_stream.poll_flushed(cx), cx)).await;
                if sent.is_err() {
                    on_stream.abort();
                }
            }
        }
    };
    call.serve(terms, on_refused, serve).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size in bytes of the future of a call over HTTP/2, without buffers and the state in `h2`.
    const FUTURE_LEN_MAX: usize = 4500;

    const fn future_len<A, B, F: Future>(_: &impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn the_task_of_a_call_is_small() {
        let len = future_len(&serve_call);
        assert!(len <= FUTURE_LEN_MAX, "{len} bytes");
    }
}
