use crate::base::{Clock, Time};
use crate::engine::{ByteStream, Core};
use crate::exchange::HeadReadError;
use crate::latency::{Phase, SERVER_TIMING, own_timing};
use crate::serve::http1_request::Http1Request;
use crate::serve::requests::{RequestLimits, Requests};

/// Handles the requests of a connection.
pub trait Service {
    /// The connection on which requests are received.
    type Stream: ByteStream;
    /// Why the connection is left instead of closed.
    type Leave;

    /// The phase to which the role's own time is added.
    const OWN_PHASE: Phase;

    /// The time limits of requests.
    fn limits(&self) -> RequestLimits;

    /// Ready when an idle connection has to end. The future exists only while the connection is idle.
    fn idle_ends(&self) -> impl Future<Output = ()>;

    /// Whether an incomplete head of this many bytes may be held; zero when none is held any more.
    fn may_keep(&mut self, _len: usize) -> bool {
        true
    }

    /// Called when a head is refused. Unless the connection is left, the reason is sent to the peer and the connection
    /// is closed.
    fn on_head_refused(&mut self, error: &HeadReadError) -> Option<Self::Leave>;

    /// Serves a request whose head was read.
    fn call(&mut self, request: &mut Http1Request<'_, Self::Stream>) -> impl Future<Output = Next<Self::Leave>>;
}

/// What to do with the connection after a request.
#[derive(Debug)]
pub enum Next<L> {
    /// Another request may follow.
    Keep,
    /// Close the connection after what was sent.
    Close,
    /// Leave the connection without closing it.
    Leave(L),
}

/// Serves one request after another. Returns when the connection has to be closed, after what was sent, or left.
pub async fn serve<S: Service>(
    core: &Core,
    requests: &mut Requests,
    stream: &S::Stream,
    service: &mut S,
) -> Option<S::Leave> {
    requests.context.own_phase = S::OWN_PHASE;
    loop {
        let began = match next_request(core, requests, stream, service).await {
            Ok(Some(began)) => began,
            Ok(None) => return None,
            Err((error, begun)) => {
                let leave = service.on_head_refused(&error);
                if leave.is_none() {
                    let mut timing = Vec::new();
                    own_timing(S::OWN_PHASE, core.now() - begun, &mut timing);
                    let append = [(SERVER_TIMING, &timing[..])];
                    requests.answer(stream, core.pool(), |cors, out| error.write_answer(cors, &append, out)).await;
                }
                return leave;
            }
        };
        let next = service.call(&mut Http1Request::new(stream, core, began, requests)).await;
        requests.context.end_governed();
        match next {
            Next::Keep => {}
            Next::Close => return None,
            Next::Leave(leave) => return Some(leave),
        }
    }
}

/// Reads the head of the next request; returns when its first byte was received. None if no request will follow. An
/// error contains the time when the head began.
async fn next_request<S: Service>(
    core: &Core,
    requests: &mut Requests,
    stream: &S::Stream,
    service: &mut S,
) -> Result<Option<Time>, (HeadReadError, Time)> {
    let limits = service.limits();
    match requests.wait(core, stream, limits, service.idle_ends()).await {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(error) => return Err((error.into(), core.turn_time())),
    }
    let begun = core.turn_time();
    requests.read_head(core, stream, limits, |len| service.may_keep(len)).await.map_err(|error| (error, begun))
}
