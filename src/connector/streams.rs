//! The streams that the edge opens for calls: plain ones with one call, and those with a TLS session that ends here.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{CallFailure, Traffic};
use crate::connector::agents_http2::{self, Http2Session};
use crate::connector::call::UpstreamWork;
use crate::connector::call_context::{CallContext, Caller, EdgeCertificate, SessionAgent};
use crate::connector::call_end::count;
use crate::connector::connector_core::ConnectorCore;
use crate::connector::kept_calls::number_of;
use crate::connector::shared::Counters;
use crate::connector::stream_calls::{Leave, StreamCalls};
use crate::engine::ByteStream;
use crate::identity::{CallerCertificate, ShownCertificates};
use crate::latency::{CallRecord, CallStage, HostText, OwnAnswer};
use crate::link::{CallStream, CarrierStream};
use crate::route::{Hostname, Scheme};
use crate::serve::{Http2End, Requests, serve};
use crate::tls::{ALPN_HTTP2, HandshakeError, Session, TlsStream};

/// How long the handshake of a session may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a refused peer may take to read the reason.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// The same limit while the link drains.
const DRAIN_LINGER_TIMEOUT: Duration = Duration::from_millis(500);

/// The entry in the call log of a session whose handshake failed.
const TLS_FAILED: OwnAnswer = OwnAnswer::unanswered(
    "tls_failed",
    "the TLS handshake of an agent or of the edge with this connector failed: see the log of the connector",
);

/// The state of a worker. Reused by the next call, for its memory.
#[derive(Default)]
pub(super) struct Work {
    requests: Requests,
    upstream: UpstreamWork,
}

/// The terms of an inner TLS session.
struct SessionTerms {
    host: Hostname,
    traffic: Traffic,
    /// The agent's address, if the session is an agent's.
    agent: Option<String>,
}

impl Work {
    /// Resets the state for another call.
    pub(super) fn clear(&mut self) {
        self.requests.clear();
        self.upstream.clear();
    }

    /// Carries the one call of a plain stream.
    pub(super) async fn serve_plain(&mut self, core: &ConnectorCore, stream: &CallStream) {
        self.requests.read_labels(false);
        self.requests.answer_browsers(None, Scheme::Http);
        let number = number_of(stream.on_link());
        let context = CallContext { core, stream, caller: Caller::Edge(None), traffic: Traffic::Plain, number };
        let mut calls = StreamCalls { context, host: None, work: &mut self.upstream, has_called: false };
        match serve(&core.core, &mut self.requests, stream, &mut calls).await {
            None if !calls.has_called => {
                count(core, Some(Err(CallFailure::RequestRefused)));
                stream.on_link().reset(CallFailure::RequestRefused);
            }
            // If the stream is dropped before its response was sent, it is reset, unless the edge has finished.
            None if self.requests.has_ended(stream).await => {}
            None => {
                let _ = stream.flushed().await;
            }
            Some(Leave::Reset(failure)) => stream.on_link().reset(failure),
            Some(Leave::GivenUp) => {}
        }
    }

    /// Serves the inner TLS session of a stream to its end, and takes the stream.
    pub(super) async fn serve_sealed(&mut self, core: &Rc<ConnectorCore>, stream: &mut Option<CallStream>) {
        let Some(CallStream::Plain(stream)) = stream.take() else { return };
        let terms = stream.opening(|open| {
            let host = open.host.parse().ok()?;
            Some(SessionTerms { host, traffic: open.traffic, agent: open.peer.map(str::to_owned) })
        });
        let Some(terms) = terms.flatten() else { return stream.reset(CallFailure::NoRoute) };
        let Some((session, certificate)) = accept(core, stream, &terms).await else { return };
        let edge = match &certificate {
            CallerCertificate::Asked(Some(shown)) if terms.traffic == Traffic::Resealed => Some(EdgeCertificate {
                shown: Arc::clone(shown),
                at: Duration::from_secs(core.connector.settings.clock.now().as_secs()),
            }),
            _ => None,
        };
        let agent = SessionAgent { address: terms.agent.unwrap_or_default(), certificate };
        let is_agents = terms.traffic == Traffic::Passthrough;
        if is_agents && speaks_http2(&session) {
            return serve_http2(core, session, terms.host, agent).await;
        }
        self.requests.read_labels(is_agents);
        let origins = &core.connector.settings.origins;
        self.requests.answer_browsers(is_agents.then_some(origins), Scheme::Https);
        let caller = match is_agents {
            true => Caller::Agent(&agent),
            false => Caller::Edge(edge.as_ref()),
        };
        let number = number_of(session.on_link());
        let context = CallContext { core, stream: &session, caller, traffic: terms.traffic, number };
        let host = is_agents.then_some(&terms.host);
        let mut calls = StreamCalls { context, host, work: &mut self.upstream, has_called: false };
        match serve(&core.core, &mut self.requests, &session, &mut calls).await {
            None => {
                session.finish();
                linger(core, &session).await;
            }
            Some(Leave::Reset(failure)) => session.on_link().reset(failure),
            Some(Leave::GivenUp) => session.on_link().reset(CallFailure::Cancelled),
        }
    }
}

/// Whether the agent has chosen HTTP/2.
fn speaks_http2(session: &CallStream) -> bool {
    match session {
        CallStream::Sealed(session) => session.session().alpn() == Some(ALPN_HTTP2),
        CallStream::Plain(_) => false,
    }
}

/// Serves an agent's session over HTTP/2 to its end.
async fn serve_http2(core: &Rc<ConnectorCore>, session: CallStream, host: Hostname, agent: SessionAgent) {
    let stream = Rc::new(session);
    let session = Http2Session { core: Rc::clone(core), stream: Rc::clone(&stream), host, agent };
    match agents_http2::serve(session).await {
        Http2End::Failed => stream.on_link().reset(CallFailure::Cancelled),
        _ => {
            stream.finish();
            linger(core, &stream).await;
        }
    }
}

/// Makes the handshake of a session. Returns it with what is known of the certificate of its agent or edge. None if it failed; the
/// stream is then reset.
async fn accept(
    core: &ConnectorCore,
    stream: CarrierStream,
    terms: &SessionTerms,
) -> Option<(CallStream, CallerCertificate)> {
    let SessionTerms { host, traffic, .. } = terms;
    let (config, asks) = match core.upstreams.sealing_of(host, *traffic) {
        Ok(config) => config,
        Err(failure) => {
            count(core, Some(Err(failure)));
            keep_unsealed(core, &stream, terms, failure.own_answer(None));
            stream.reset(failure);
            return None;
        }
    };
    let session = match Session::server(config) {
        Ok(session) => session,
        Err(error) => {
            tracing::error!(%host, %error, "cannot begin an inner TLS session");
            stream.reset(CallFailure::Internal);
            return None;
        }
    };
    let timeout = core.core.sleep(HANDSHAKE_TIMEOUT);
    match TlsStream::handshake(stream, session, core.core.pool().clone(), timeout).await {
        Ok(session) => {
            Counters::add(&core.connector.counters.sessions_sealed);
            let certificate = match (traffic, asks) {
                (Traffic::Passthrough, true) | (Traffic::Resealed, _) => {
                    CallerCertificate::Asked(ShownCertificates::of(session.session().peer_certificates()))
                }
                (Traffic::Passthrough, false) => CallerCertificate::NotAsked,
                (Traffic::Plain, _) => CallerCertificate::Unknown,
            };
            Some((CallStream::Sealed(Box::new(session)), certificate))
        }
        Err((error, stream)) => {
            Counters::add(&core.connector.counters.seals_failed);
            core.upstreams.on_seal_failed(host, *traffic, &error);
            keep_unsealed(core, &stream, terms, TLS_FAILED);
            if matches!(error, HandshakeError::Tls(_)) {
                // The alert contains the reason; a reset at once would discard it.
                let _ = core.core.timeout(LINGER_TIMEOUT, stream.flushed()).await;
            }
            stream.reset(CallFailure::SealRefused);
            None
        }
    }
}

/// Adds a stream that got no TLS session to the call log.
fn keep_unsealed(core: &ConnectorCore, stream: &CarrierStream, terms: &SessionTerms, own: OwnAnswer) {
    let record = CallRecord {
        number: stream.opening(|open| open.call).unwrap_or_default(),
        peer: terms.agent.as_ref().and_then(|agent| agent.parse().ok()),
        host: HostText::of(terms.host.as_str()),
        stage: CallStage::Tls,
        ..CallRecord::new(core.core.turn_time())
    };
    core.figures.keep(&record.with_own(Some(own)));
}

/// Waits for the peer's last byte after our own. If the stream were dropped at once, it would be reset and the last
/// bytes lost.
async fn linger(core: &ConnectorCore, session: &CallStream) {
    let ending = async { while let Ok(Some(_)) = session.on_link().recv().await {} };
    let is_draining = session.on_link().is_carrier_draining();
    let timeout = if is_draining { DRAIN_LINGER_TIMEOUT } else { LINGER_TIMEOUT };
    let _ = core.core.timeout(timeout, ending).await;
}
