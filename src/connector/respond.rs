//! The way back of a call.

use std::cell::Cell;
use std::rc::Rc;

use crate::base::Clock;
use crate::connector::call::{Caller, Failure, Passage};
use crate::engine::{ByteStream, StreamError};
use crate::exchange::{Carry, CarryError, HeadReadError, INTERIM_MAX, Intake, Outlet, carry_body, clear_scratch};
use crate::latency::{ConnectorStamps, ConnectorTimes, connector_timing};
use crate::tls::Connection;
use crate::wire::http1::{
    BodyDecoder, BodyEncoder, BodyError, Framing, Method, RequestHead, ResponseEdits, ResponseHead, Version,
    write_response,
};
use crate::wire::mux::{Cause, Phases, Stage};

/// After which no HTTP follows. It is never asked for.
const SWITCHING_PROTOCOLS: u16 = 101;

/// What the way back needs; kept from one call to the next for its memory.
#[derive(Default)]
pub(super) struct ResponseWork {
    head: ResponseHead,
    intake: Intake,
    decoder: BodyDecoder,
    outlet: Outlet,
    scratch: Vec<u8>,
    /// For answers that agents read. Only workers that have served agents have it.
    pub(super) agent: Option<Box<ForAgent>>,
}

/// What is kept of an answer that an agent reads.
#[derive(Default)]
pub(super) struct ForAgent {
    timing: Vec<u8>,
    /// Whether the head of the final response is on its way, so that no other can be.
    pub(super) begun: Rc<Cell<bool>>,
    /// How long the call has taken, as it was last told.
    pub(super) times: Option<ConnectorTimes>,
}

/// How a request is to be answered.
pub(super) struct Reply {
    method: Method,
    /// What the other side speaks: the edge always 1.1.
    version: Version,
    /// Whether an agent reads it, and not the edge.
    to_agent: bool,
    /// Whether an agent's session ends with it.
    pub(super) close: bool,
}

impl Reply {
    pub(super) fn to(head: &RequestHead, caller: Caller<'_>, draining: bool) -> Reply {
        let to_agent = matches!(caller, Caller::Agent(_));
        let version = if to_agent { head.version() } else { Version::Http11 };
        let close = to_agent && (draining || version == Version::Http10 || !head.keep_alive());
        Reply { method: head.method(), version, to_agent, close }
    }
}

impl ResponseWork {
    /// Carries the response to the stream and finishes it; returns whether the upstream's connection can be kept.
    pub(super) async fn receive(
        &mut self,
        passage: &Passage<'_>,
        reply: &Reply,
        connection: &Connection,
        stamps: &mut ConnectorStamps,
    ) -> Result<bool, Failure> {
        self.receive_head(passage, reply, connection, stamps).await?;
        let ResponseWork { head, intake, decoder, outlet, scratch, agent } = self;
        let Passage { here, stream, .. } = passage;
        let pool = here.core.pool();
        // The edge always learns where the body ends.
        let framing = head.framing().toward(reply.version);
        scratch.clear();
        let now = here.core.now();
        stamps.on_handed_to_link(now);
        let times = stamps.times(now);
        if let Some(agent) = agent.as_mut().filter(|_| reply.to_agent) {
            agent.begun.set(true);
            agent.times = Some(times);
            agent.timing.clear();
            connector_timing(&times, &mut agent.timing);
            let append: [(&str, &[u8]); 1] = [("Server-Timing", &agent.timing)];
            write_response(
                head,
                &ResponseEdits { framing, close: reply.close || here.is_draining(), append: &append },
                scratch,
            );
        } else {
            write_response(head, &ResponseEdits { framing, ..ResponseEdits::default() }, scratch);
        }
        // A stream that is gone is found out below.
        let _ = stream.on_link().send_phases(phases(Stage::Head, times));
        outlet.put(*stream, pool, scratch).await.map_err(over)?;
        decoder.restart(head.framing());
        let encoder = &mut BodyEncoder::new(framing);
        let carry = Carry { from: connection, intake, decoder, to: *stream, outlet, encoder, pool, scratch };
        carry_body(carry, |_| {}).await.map_err(broken)?;
        stamps.on_last_received(connection.received_at());
        let times = stamps.times(here.core.now());
        if let Some(agent) = agent {
            agent.times = Some(times);
        }
        let _ = stream.on_link().send_phases(phases(Stage::End, times));
        stream.finish_message();
        Ok(head.keep_alive() && head.framing() != Framing::UntilClose && !intake.has_rest())
    }

    /// Reads the head of the final response, and passes on what comes before it.
    async fn receive_head(
        &mut self,
        passage: &Passage<'_>,
        reply: &Reply,
        connection: &Connection,
        stamps: &mut ConnectorStamps,
    ) -> Result<(), Failure> {
        self.clear();
        let ResponseWork { head, intake, outlet, scratch, .. } = self;
        for nth in 0..=INTERIM_MAX {
            let first = if nth == 0 { intake.begin(connection).await } else { intake.fill(connection).await };
            match first {
                Ok(true) => {}
                Ok(false) | Err(_) if nth == 0 => return Err(Failure::Silent),
                Ok(false) | Err(_) => return Err(Failure::Because(Cause::UpstreamClosed)),
            }
            let received_at = connection.received_at();
            match intake.response_head(connection, head, reply.method).await {
                Ok(true) => {}
                Ok(false) | Err(HeadReadError::Stream(_)) => return Err(Failure::Because(Cause::UpstreamClosed)),
                Err(HeadReadError::Head(_) | HeadReadError::Timeout) => break,
            }
            if head.status() == SWITCHING_PROTOCOLS {
                break;
            }
            if !head.is_interim() {
                stamps.on_received(received_at);
                stamps.on_status(head.status());
                return Ok(());
            }
            if reply.version == Version::Http10 {
                continue;
            }
            scratch.clear();
            write_response(head, &ResponseEdits::default(), scratch);
            outlet.put(passage.stream, passage.here.core.pool(), scratch).await.map_err(over)?;
            passage.stream.ready().await.map_err(over)?;
            outlet.flush(passage.stream).map_err(over)?;
        }
        Err(Failure::Because(Cause::UpstreamProtocol))
    }

    pub(super) fn clear(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.begun.set(false);
            agent.times = None;
        }
        self.head.clear();
        *self.intake.rest() = None;
        self.outlet.clear();
        clear_scratch(&mut self.scratch);
    }
}

/// The stream is gone, whatever the cause: nobody is there to be told another one.
fn over(_: StreamError) -> Failure {
    Failure::Because(Cause::Cancelled)
}

fn broken(error: CarryError) -> Failure {
    match error {
        CarryError::To(error) => over(error),
        CarryError::From(_) | CarryError::Body(BodyError::Truncated) => Failure::Because(Cause::UpstreamClosed),
        CarryError::Body(_) | CarryError::Length(_) => Failure::Because(Cause::UpstreamProtocol),
    }
}

/// Durations as they cross the link.
fn phases(stage: Stage, times: ConnectorTimes) -> Phases {
    let ns = |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    Phases {
        stage,
        connector_ns: ns(times.connector),
        upstream_connect_ns: times.upstream_connect.map_or(0, ns),
        upstream_first_ns: ns(times.upstream),
        upstream_last_ns: times.upstream_last.map_or(0, ns),
    }
}
