//! One connection of the generator, and its calls.

use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use adit::base::{Clock, Time};
use adit::engine::{ByteStream, Core};
use adit::tls::Connection;
use adit::wire::http1::ResponseHead;

use super::Job;
use crate::answer::{Answered, CallError, Reader};
use crate::load::CallKind;
use crate::request::{Request, id_of, proof_of};

/// How long a server may take to close a connection that it was asked to close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(1);

/// Why calls cannot begin.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SessionError {
    /// No connection could be made.
    #[error("no connection: {0}")]
    Connect(String),
    /// The server opened no session.
    #[error("no MCP session of revision 2025-11-25: {0}; check that an MCP server answers at this URL")]
    Initialize(String),
    /// A connection was made, but its test call failed.
    #[error(
        "connection {place} of {connections} was made, but its test call failed: {reason}; check \
         that the target is running and accepts this many connections, or allow more time (--call-timeout)"
    )]
    Unproven {
        /// The number of the connection, from 1.
        place: usize,
        /// The number of connections of the run.
        connections: usize,
        /// The error of the call.
        reason: String,
    },
}

/// The timestamps of one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// The planned time of the call.
    pub(super) due: Time,
    /// The time since which its connection was free.
    pub(super) free: Time,
    /// When it was sent; after connecting, if a connection had to be made first.
    pub(super) sent: Time,
    /// How long connecting took, if a connection was made.
    pub(super) connect: Option<Duration>,
}

/// A connection of the generator, with the state of its calls.
pub(crate) struct Line {
    connection: Option<Connection>,
    reader: Reader,
    request: Rc<Request>,
    /// The server no longer knows the session.
    session_lost: bool,
}

impl Line {
    /// Makes the connection for calls with this request, and a session if one is needed; then tests it with a call.
    ///
    /// A tunnel may accept a connection long before it is connected to the upstream. Without the test, that would
    /// happen during the measurement. Any answer passes the test, even an error status, because the results of calls
    /// are measured later.
    pub(super) async fn open(core: &Core, job: &Job, request: Rc<Request>, place: usize) -> Result<Line, SessionError> {
        let call = &job.load.call;
        let mut line = Line { connection: None, reader: Reader::default(), request, session_lost: false };
        let connected = line.connect(core, job).await;
        connected.map_err(|error| SessionError::Connect(error.to_string()))?;
        if call.kind == CallKind::McpSession {
            line.open_session(core, job).await.map_err(|error| SessionError::Initialize(error.to_string()))?;
        }
        line.prove(core, job, place).await?;
        Ok(line)
    }

    async fn prove(&mut self, core: &Core, job: &Job, place: usize) -> Result<(), SessionError> {
        let mut times = Times { due: core.now(), free: core.now(), sent: Time::NEVER, connect: None };
        let proof = self.call(core, job, proof_of(place), &mut times);
        let error = match core.timeout(job.load.limits.call_timeout, proof).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error,
            Err(_) => CallError::TimedOut,
        };
        self.give_up();
        if error.is_answer() {
            return Ok(());
        }
        let (connections, reason) = (job.load.connections, error.to_string());
        Err(SessionError::Unproven { place: place + 1, connections, reason })
    }

    /// The length of a request in bytes.
    pub(super) fn request_len(&self) -> u64 {
        self.request.len()
    }

    /// Makes one call and checks its answer.
    pub(super) async fn call(
        &mut self,
        core: &Core,
        job: &Job,
        i: u64,
        times: &mut Times,
    ) -> Result<Answered, CallError> {
        times.sent = core.now();
        if !self.is_ready() {
            self.connect(core, job).await?;
            times.connect = Some(core.now() - times.sent);
        }
        if self.session_lost {
            self.open_session(core, job).await?;
        }
        let request = Rc::clone(&self.request);
        let answered = self.exchange(core, &request, id_of(i)).await;
        if let Err(CallError::Status { status: 404, .. }) = answered {
            // In a session, this status means that the server no longer knows the session.
            self.session_lost = job.load.call.kind == CallKind::McpSession;
        }
        let answered = answered?;
        if request.closes || !answered.keeps {
            self.let_close(core);
        }
        Ok(answered)
    }

    /// Drops the connection.
    pub(super) fn give_up(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.abort();
        }
        self.reader.reset();
    }

    /// The head of the last answer.
    pub(super) fn last_head(&self) -> &ResponseHead {
        self.reader.head()
    }

    /// Whether there is a connection that has received nothing since the last answer, not even its end.
    fn is_ready(&mut self) -> bool {
        let quiet =
            |connection: &Connection| connection.poll_recv(&mut Context::from_waker(Waker::noop())).is_pending();
        let is_ready = self.connection.as_ref().is_some_and(quiet);
        if !is_ready {
            self.give_up();
        }
        is_ready
    }

    async fn connect(&mut self, core: &Core, job: &Job) -> Result<(), CallError> {
        self.connection = Some(job.dialer.dial(core).await?);
        Ok(())
    }

    async fn open_session(&mut self, core: &Core, job: &Job) -> Result<(), CallError> {
        let (target, call) = (&job.load.target, &job.load.call);
        self.exchange(core, &Request::initialize(target, call), id_of(0)).await?;
        let session = self.reader.head().get("Mcp-Session-Id").map(|id| String::from_utf8_lossy(id).into_owned());
        self.exchange(core, &Request::initialized(target, call, session.as_deref()), id_of(0)).await?;
        self.request = Rc::new(Request::of_call(target, call, job.load.reuse, session.as_deref()));
        self.session_lost = false;
        Ok(())
    }

    async fn exchange(&mut self, core: &Core, request: &Request, id: u64) -> Result<Answered, CallError> {
        let Line { connection, reader, .. } = self;
        let connection = connection.as_ref().ok_or(CallError::Closed)?;
        request.send(id, connection, core.pool()).await?;
        reader.read(core, connection, request, id).await
    }

    /// Lets the server close the connection first, so that no local port is in TIME_WAIT.
    fn let_close(&mut self, core: &Core) {
        self.reader.reset();
        let Some(connection) = self.connection.take() else { return };
        let patience = core.clone();
        core.spawn(async move {
            let closed = async { while let Ok(Some(_)) = connection.recv().await {} };
            // The connection is dropped now in any case.
            let _ = patience.timeout(CLOSE_PATIENCE, closed).await;
        });
    }
}
