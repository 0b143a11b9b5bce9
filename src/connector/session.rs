//! A sealed session: TLS that ends here, and one call after the other on it.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::future;

use crate::base::{Clock, Traffic};
use crate::connector::call::{Caller, Passage, Work, count, unless_broken};
use crate::connector::connector_core::ConnectorCore;
use crate::connector::respond::Reply;
use crate::connector::shared::Counters;
use crate::engine::ByteStream;
use crate::exchange::{CallFailure, HeadReadError, Outlet, check_request, read_on};
use crate::latency::{CallPhases, Outcome};
use crate::link::CallStream;
use crate::route::Hostname;
use crate::tls::{HandshakeError, Session, TlsStream};
use crate::wire::http1::{Answer, Method};
use crate::wire::mcp;
use crate::wire::mux::Cause;

/// How long the handshake of a session may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the body of a request that cannot be passed on is read, to learn the id that the answer should have.
const READ_ID_WITHIN: Duration = Duration::from_millis(500);
/// How long the other side may take to read why it was refused.
const FAREWELL: Duration = Duration::from_secs(2);

/// For whom a session is.
struct Terms {
    host: Hostname,
    traffic: Traffic,
    agent: Option<String>,
    /// What an agent's call is about; kept from one to the next for its memory.
    call: mcp::Call,
}

/// What comes after a call.
#[derive(PartialEq, Eq)]
enum Next {
    Keep,
    /// It ends after what was sent.
    Close,
    /// It is broken off, so that the agent sees that the answer is not whole.
    Abort(Cause),
}

/// Serves the session of a stream, which is taken, to its end.
pub(super) async fn serve(work: &mut Work, here: &ConnectorCore, stream: &mut Option<CallStream>) {
    let Some(CallStream::Plain(stream)) = stream.take() else { return };
    let terms = stream.opening(|open| {
        let host = open.host.parse().ok()?;
        Some(Terms { host, traffic: open.traffic, agent: open.peer.map(str::to_owned), call: mcp::Call::default() })
    });
    let Some(mut terms) = terms.flatten() else { return stream.reset(Cause::NoRoute) };
    let config = match here.upstreams.sealing_of(&terms.host, terms.traffic) {
        Ok(config) => config,
        Err(cause) => {
            count(here, Some(Err(cause)));
            return stream.reset(cause);
        }
    };
    let session = match Session::server(config) {
        Ok(session) => session,
        Err(error) => {
            tracing::error!(host = %terms.host, %error, "a sealed session cannot begin");
            return stream.reset(Cause::Internal);
        }
    };
    let timeout = here.core.sleep(HANDSHAKE_TIMEOUT);
    match TlsStream::handshake(stream, session, here.core.pool().clone(), timeout).await {
        Ok(session) => {
            Counters::add(&here.connector.counters.sessions_sealed);
            let session = CallStream::Sealed(Box::new(session));
            if terms.is_agents() {
                work.request.peek.get_or_insert_default();
                work.response.agent.get_or_insert_default();
            }
            terms.serve(work, here, &session).await;
        }
        Err((error, stream)) => {
            Counters::add(&here.connector.counters.seals_failed);
            here.upstreams.on_seal_failed(&terms.host, terms.traffic, &error);
            if matches!(error, HandshakeError::Tls(_)) {
                // The alert says why; a reset at once would take it back.
                let _ = here.core.timeout(FAREWELL, stream.flushed()).await;
            }
            stream.reset(Cause::SealFailed);
        }
    }
}

impl Terms {
    fn caller(&self) -> Caller<'_> {
        match self.traffic {
            Traffic::Passthrough => Caller::Agent(self.agent.as_deref().unwrap_or_default()),
            Traffic::Resealed | Traffic::Plain => Caller::Edge,
        }
    }

    fn is_agents(&self) -> bool {
        self.traffic == Traffic::Passthrough
    }

    async fn serve(&mut self, work: &mut Work, here: &ConnectorCore, session: &CallStream) {
        loop {
            work.request.clear_call();
            work.response.clear();
            let next = match self.next_request(work, here, session).await {
                Ok(true) => self.call(work, here, session).await,
                Ok(false) => Next::Close,
                Err(error) => self.refuse_head(here, session, &error).await,
            };
            match next {
                Next::Keep => {}
                Next::Close => {
                    session.finish();
                    return linger(here, session).await;
                }
                Next::Abort(cause) => return session.on_link().reset(cause),
            }
        }
    }

    /// The head of the next request; false when none will come.
    async fn next_request(
        &self,
        work: &mut Work,
        here: &ConnectorCore,
        session: &CallStream,
    ) -> Result<bool, HeadReadError> {
        let request = &mut work.request;
        let draining = async {
            // The edge sees for itself that the link is to end, and closes what it does not use.
            if !self.is_agents() {
                pending::<()>().await;
            }
            session.on_link().carrier_draining().await;
            None
        };
        let idle = here.figures.count_idle();
        let first = here.core.timeout(here.connector.settings.idle_timeout, request.intake.fill(session));
        let first = future::or(async { first.await.ok() }, draining).await;
        drop(idle);
        if !first.transpose()?.unwrap_or(false) {
            return Ok(false);
        }
        let head = request.intake.request_head(session, &mut request.head, &here.core);
        let head = here
            .core
            .timeout(here.connector.settings.header_timeout, head)
            .await
            .map_err(|_| HeadReadError::Timeout)??;
        request.decoder.restart(request.head.framing());
        Ok(head.is_some())
    }

    async fn call(&mut self, work: &mut Work, here: &ConnectorCore, session: &CallStream) -> Next {
        if self.is_agents() {
            let refusal = match check_request(&work.request.head, &here.connector.settings.allowed_origins) {
                Ok(host) if host == self.host => None,
                Ok(_) => Some(crate::exchange::Refusal::OtherHost),
                Err(refusal) => Some(refusal),
            };
            if let Some(refusal) = refusal {
                Counters::add(&here.connector.counters.requests_refused);
                let to_head = work.request.head.method() == Method::Head;
                say(here, session, &Answer { to_head, ..refusal.answer() }).await;
                return Next::Close;
            }
        }
        let began = session.on_link().received_at();
        let ended = {
            let passage = Passage { here, stream: session, caller: self.caller(), traffic: self.traffic };
            let late = self.late(work, here);
            let calling = pin!(async {
                let mut calling = pin!(work.call(&passage));
                let mut late = pin!(late);
                poll_fn(|cx| match calling.as_mut().poll(cx) {
                    Poll::Pending => late.as_mut().poll(cx).map(|()| Err(Cause::UpstreamTimeout)),
                    done => done,
                })
                .await
            });
            unless_broken(session.on_link(), calling).await
        };
        count(here, ended);
        if self.is_agents() {
            self.record(work, here, ended, here.core.now() - began);
        }
        let close = Reply::to(&work.request.head, self.caller(), here.is_draining()).close;
        match ended {
            Some(Ok(())) if close || !work.request.decoder.is_done() => Next::Close,
            Some(Ok(())) => Next::Keep,
            None => Next::Abort(Cause::Cancelled),
            Some(Err(cause)) if !self.is_agents() || has_begun(work) || cause == Cause::Cancelled => Next::Abort(cause),
            Some(Err(cause)) => self.answer_for(work, here, session, cause, close).await,
        }
    }

    /// Ready when the answer to an agent should have begun and has not.
    fn late(&self, work: &Work, here: &ConnectorCore) -> impl Future<Output = ()> + use<> {
        let begun = work.response.agent.as_ref().map(|agent| Rc::clone(&agent.begun));
        let begun = begun.filter(|_| work.request.head.method() != Method::Get);
        let timeout = here.core.sleep(here.connector.settings.first_byte_timeout);
        async move {
            let Some(begun) = begun else { return pending().await };
            timeout.await;
            if begun.get() {
                pending().await
            }
        }
    }

    /// Puts down how long an agent's call took.
    fn record(&mut self, work: &Work, here: &ConnectorCore, ended: Option<Result<(), Cause>>, took: Duration) {
        self.call.read_head(&work.request.head);
        if let Some(peek) = &work.request.peek {
            self.call.read_body(peek);
        }
        let method = self.call.method().unwrap_or(self.call.kind().name());
        let outcome = match ended {
            Some(Ok(())) => Outcome::Ok,
            Some(Err(Cause::Cancelled)) | None => Outcome::AgentGone,
            Some(Err(cause)) => CallFailure::of_reset(cause).outcome(),
        };
        let phases = CallPhases::of_connector(
            work.response.agent.as_ref().and_then(|agent| agent.times).unwrap_or_default(),
            took,
        );
        let mut recorder = here.figures.recorder.borrow_mut();
        let tool = self.call.tool().unwrap_or_default();
        if let Some(label) = here.upstreams.route_of(&self.host, |route| recorder.label(route, method, tool)) {
            recorder.record(label, &phases, outcome);
        }
    }

    /// Answers an agent whose call got no answer from its upstream, with the id of its message if that can be learnt.
    async fn answer_for(
        &self,
        work: &mut Work,
        here: &ConnectorCore,
        session: &CallStream,
        cause: Cause,
        close: bool,
    ) -> Next {
        let request = &mut work.request;
        if let Some(peek) = request.peek.as_mut().filter(|_| !request.head.expects_continue()) {
            let reading = read_on(session, &mut request.intake, &mut request.decoder, |bytes| {
                peek.feed(bytes);
                !peek.is_done()
            });
            // Without the id the answer says less.
            let _ = here.core.timeout(READ_ID_WITHIN, reading).await;
        }
        let close = close || !request.decoder.is_done();
        let to_head = request.head.method() == Method::Head;
        let answer = CallFailure::of_reset(cause).answer(request.peek.as_ref().and_then(|peek| peek.id()));
        say(here, session, &Answer { close, to_head, ..answer }).await;
        if close { Next::Close } else { Next::Keep }
    }

    async fn refuse_head(&self, here: &ConnectorCore, session: &CallStream, error: &HeadReadError) -> Next {
        Counters::add(&here.connector.counters.requests_refused);
        let mut answer = Vec::new();
        error.write_answer(&mut answer);
        if !self.is_agents() || answer.is_empty() {
            return Next::Abort(Cause::RequestRefused);
        }
        say_bytes(here, session, &answer).await;
        Next::Close
    }
}

/// Whether an agent has been sent the head of its answer.
fn has_begun(work: &Work) -> bool {
    work.response.agent.as_ref().is_some_and(|agent| agent.begun.get())
}

async fn say(here: &ConnectorCore, session: &CallStream, answer: &Answer<'_>) {
    let mut bytes = Vec::new();
    answer.write(&mut bytes);
    say_bytes(here, session, &bytes).await;
}

/// Sends a few bytes that are not part of a call.
async fn say_bytes(here: &ConnectorCore, session: &CallStream, bytes: &[u8]) {
    let mut outlet = Outlet::default();
    // Who has gone cannot be told.
    if outlet.put(session, here.core.pool(), bytes).await.is_ok() {
        let _ = outlet.flush(session);
    }
}

/// Waits, after our own last byte, for the other side's: given up at once, the stream would be reset, and what it says lost.
async fn linger(here: &ConnectorCore, session: &CallStream) {
    let ending = async { while let Ok(Some(_)) = session.on_link().recv().await {} };
    let _ = here.core.timeout(FAREWELL, ending).await;
}
