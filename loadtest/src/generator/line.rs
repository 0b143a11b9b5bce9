//! One connection of the generator and the calls on it.

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
    /// A connection that was made carries no call.
    #[error(
        "connection {place} of {connections} was made, and the call that was to prove it came to nothing: {reason}; check \
         that all of what is called runs and carries so many connections, or give it longer (--call-timeout)"
    )]
    Unproven {
        /// Which one, from 1.
        place: usize,
        /// The number of connections of the run.
        connections: usize,
        /// What became of the call.
        reason: String,
    },
}

/// When what happened in one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// When the plan has it.
    pub(super) due: Time,
    /// Since when its connection had nothing else to do.
    pub(super) free: Time,
    /// When it went out, its connection included where that had to be made first.
    pub(super) sent: Time,
    /// How long its connection took, where one was made.
    pub(super) connect: Option<Duration>,
}

/// One place for a connection, with what its calls need.
pub(crate) struct Line {
    connection: Option<Connection>,
    reader: Reader,
    request: Rc<Request>,
    /// The server does not know the session any more.
    session_lost: bool,
}

impl Line {
    /// Makes the connection for calls with this request, and a session where one is needed; then proves it by one call.
    ///
    /// A tunnel may take a connection long before it has made its own way to the upstream: without the proof, that way
    /// would be made while measuring. Whatever answers is a proof, also a status that says no: what calls come to is what
    /// is measured.
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

    /// Bytes of one request.
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
            // In a session that is how a server says that it has forgotten it.
            self.session_lost = job.load.call.kind == CallKind::McpSession;
        }
        let answered = answered?;
        if request.closes || !answered.keeps {
            self.let_close(core);
        }
        Ok(answered)
    }

    /// The connection is not used any more.
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

    /// Whether there is a connection on which nothing came since the last answer, not even its end.
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

    /// Lets the server close the connection, so that the wait for late packets is not on a port of ours.
    fn let_close(&mut self, core: &Core) {
        self.reader.reset();
        let Some(connection) = self.connection.take() else { return };
        let patience = core.clone();
        core.spawn(async move {
            let closed = async { while let Ok(Some(_)) = connection.recv().await {} };
            // Closed or not, it is dropped now.
            let _ = patience.timeout(CLOSE_PATIENCE, closed).await;
        });
    }
}
