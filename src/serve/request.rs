use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Clock, Time};
use crate::engine::Core;
use crate::exchange::{CallFailure, CallReport, Refusal, ToolDenied};
use crate::identity::{RouteAuth, TokenRefusal};
use crate::latency::{SERVER_TIMING, own_timing};
use crate::policy::{QuotaTime, ToolPolicy};
use crate::route::Scheme;
use crate::serve::caller_tokens::{CallerConnection, CallerStop, CallerTokens};
use crate::serve::governed::Governing;
use crate::serve::label::CallLabel;
use crate::serve::read_ahead::{LabelError, ReadAheadLimits};
use crate::serve::request_context::RequestContext;
use crate::wire::http1::{Answer, BodyError, Cors, Method, RequestHead, write_metadata};

/// How long the body of a request that cannot be forwarded is read, to learn the id for the response.
const READ_ID_WITHIN: Duration = Duration::from_millis(500);

/// A request whose head was read, of any HTTP version. It is answered here, or forwarded.
pub trait Request {
    /// The context of the request: what it asks for and how it is answered.
    fn context(&self) -> &RequestContext;

    /// Mutable access to [`Request::context`].
    fn context_mut(&mut self) -> &mut RequestContext;

    /// The core that serves it.
    fn core(&self) -> &Core;

    /// When its first byte was received.
    fn began(&self) -> Time;

    /// Whether its body was received to its end.
    fn is_received(&self) -> bool;

    /// Whether the caller's connection can carry another request once this one is answered.
    fn can_be_followed(&self) -> bool;

    /// Drops what was queued for the response, which was sent or given up.
    fn end_response(&mut self);

    /// Reads the body until [`Request::label`] is known. The bytes read are sent first when the request is forwarded.
    /// From then on a connection of HTTP/1.1 cannot be handed over.
    ///
    /// # Errors
    ///
    /// If the label cannot be determined within the limits. The request must then be answered and not forwarded.
    fn read_label(&mut self, limits: ReadAheadLimits<'_>) -> impl Future<Output = Result<(), LabelError>>;

    /// Reads the rest of the body for this long, to find the id of its message.
    fn read_id(&mut self, within: Duration) -> impl Future<Output = ()>;

    /// Waits until the caller leaves. What it sends in the meantime is kept.
    fn caller_left(&mut self) -> impl Future<Output = ()>;

    /// Sends a response that `write` appends to an empty buffer as HTTP/1.1. `write` gets the CORS fields to add.
    fn respond(&mut self, write: impl FnOnce(Option<Cors<'_>>, &mut Vec<u8>)) -> impl Future<Output = ()>;

    /// The head of the request.
    fn head(&self) -> &RequestHead {
        &self.context().head
    }

    /// Sets the scheme that the caller used, if it is not that of the connection.
    fn set_scheme(&mut self, scheme: Scheme) {
        self.context_mut().scheme = scheme;
    }

    /// The label of the call, if labels are read on this connection.
    fn label(&mut self) -> Option<&mut CallLabel> {
        self.context_mut().label()
    }

    /// Reads the label of this request and of those after it on this connection.
    fn look_at_message(&mut self) {
        if self.label().is_none() {
            let context = self.context_mut();
            context.read_labels(true);
            context.begin_label();
        }
    }

    /// Identifies the caller by the token or certificate that the route requires. `now` is the time since 1970.
    ///
    /// # Errors
    ///
    /// If the request is not forwarded, or not yet.
    fn identify(
        &mut self,
        tokens: &CallerTokens,
        auth: &Arc<RouteAuth>,
        policy: Option<&ToolPolicy>,
        connection: CallerConnection<'_>,
        now: Duration,
    ) -> Result<(), CallerStop> {
        // The answer of a refusal also contains the id of the message.
        self.look_at_message();
        let caller = tokens.identify(self.head(), auth, policy, connection, (now, self.core().turn_time()))?;
        if let Some(label) = self.label() {
            label.set_caller(caller);
        }
        Ok(())
    }

    /// Exchanges the caller's token for one of the server, if its route does that and nothing else stands against the request.
    /// `now` is the time since 1970.
    ///
    /// # Errors
    ///
    /// The route's authentication settings, and why there is no such token, or not yet.
    fn exchange_token(&mut self, now: impl FnOnce() -> Duration) -> Result<(), (Arc<RouteAuth>, TokenRefusal)> {
        let (head, label) = self.context_mut().head_and_label();
        match label.filter(|label| label.exchanges_token()) {
            Some(label) => label.exchange_token(head, now()),
            None => Ok(()),
        }
    }

    /// Answers with the metadata of the route as a protected resource (RFC 9728). Returns whether the connection can
    /// carry another request, which `may_keep` allows.
    fn answer_metadata(&mut self, auth: &RouteAuth, may_keep: bool) -> impl Future<Output = bool> {
        async move {
            let keep = may_keep && self.can_be_followed();
            let to_head = self.head().method() == Method::Head;
            let timing = own_timing_of(self);
            let mut bytes = Vec::new();
            write_metadata(auth.metadata(), (!keep, to_head), self.context().cors(), &timing, &mut bytes);
            self.respond(|_, out| out.extend_from_slice(&bytes)).await;
            keep
        }
    }

    /// Makes [`Request::read_label`] decide the request by a policy before it is forwarded. `address` is the caller's,
    /// `unix` the time since 1970.
    fn govern(&mut self, policy: &Arc<ToolPolicy>, address: Option<IpAddr>, unix: impl FnOnce() -> Duration) {
        self.look_at_message();
        let unix = if policy.needs_wall_time() { unix() } else { Duration::ZERO };
        let time = QuotaTime { now: self.core().turn_time(), unix };
        let core = self.core().clone();
        self.context_mut().govern(&Governing { policy, address, time, core: Some(&core) });
    }

    /// Answers a request that the policy of its route denies. Returns whether the connection can carry another request, which
    /// `may_keep` allows.
    fn deny(&mut self, denied: &ToolDenied, left: Option<Duration>, may_keep: bool) -> impl Future<Output = bool> {
        async move {
            if !denied.is_notification() {
                self.learn_id(left).await;
            }
            self.context_mut().drop_read_ahead();
            let keep = may_keep && self.can_be_followed();
            let timing = own_timing_of(self);
            let context = self.context();
            let closes = (!keep, context.head.method() == Method::Head);
            let mut bytes = Vec::new();
            denied.write(context.rpc_id(), closes, context.cors(), &[(SERVER_TIMING, &timing)], &mut bytes);
            self.respond(|_, out| out.extend_from_slice(&bytes)).await;
            keep
        }
    }

    /// Answers a request that is not forwarded. A connection of HTTP/1.1 must be closed afterwards.
    fn refuse(&mut self, refusal: Refusal) -> impl Future<Output = ()> {
        async move {
            let to_head = self.head().method() == Method::Head;
            let timing = own_timing_of(self);
            let append = &[(SERVER_TIMING, &timing[..])];
            let answer = refusal.answer();
            self.context_mut().drop_read_ahead();
            self.respond(|cors, out| Answer { to_head, cors, append, ..answer }.write(out)).await;
        }
    }

    /// Answers a request whose body is malformed. A connection of HTTP/1.1 must be closed afterwards.
    fn refuse_body(&mut self, error: BodyError) -> impl Future<Output = ()> {
        async move {
            if error.rpc_code().is_some() {
                self.learn_id(None).await;
            }
            let rpc_id = self.context().rpc_id().map(str::to_owned);
            let timing = own_timing_of(self);
            let append = [(SERVER_TIMING, &timing[..])];
            self.context_mut().drop_read_ahead();
            self.respond(|cors, out| error.write_answer(rpc_id.as_deref(), cors, &append, out)).await;
        }
    }

    /// Whether it is a preflight request that is answered here.
    fn is_preflight(&self) -> bool {
        self.context().browsers.is_some() && self.head().is_preflight()
    }

    /// Answers a preflight request of an allowed origin. Returns whether the connection can carry another request,
    /// which `may_keep` allows.
    fn answer_preflight(&mut self, may_keep: bool) -> impl Future<Output = bool> {
        async move {
            let keep = may_keep && self.can_be_followed();
            let mut bytes = Vec::new();
            if let Some(cors) = self.context().cors() {
                cors.write_preflight(self.head(), !keep, &mut bytes);
            }
            self.respond(|_, out| out.extend_from_slice(&bytes)).await;
            keep
        }
    }

    /// Reads the rest of the body for a short time, so that the answer to a failed call can contain the id of its
    /// message. The caller's time ends after `left`, if known.
    fn learn_id(&mut self, left: Option<Duration>) -> impl Future<Output = ()> {
        self.read_id(left.map_or(READ_ID_WITHIN, |left| READ_ID_WITHIN.min(left)))
    }

    /// Answers a call that failed before a response began, with the id of its message if that was
    /// [learnt](Request::learn_id), and with the report of the call. Returns whether the connection can carry another
    /// request, which `may_keep` allows. `timing` is the value of `Server-Timing`.
    fn fail(
        &mut self,
        failure: CallFailure,
        report: Option<&CallReport>,
        timing: &[u8],
        may_keep: bool,
    ) -> impl Future<Output = bool> {
        async move {
            self.context_mut().drop_read_ahead();
            let keep = may_keep && self.can_be_followed();
            let context = self.context();
            let to_head = context.head.method() == Method::Head;
            let append = &[(SERVER_TIMING, timing)];
            let mut bytes = Vec::new();
            let answer = failure.answer(context.rpc_id());
            let answer = report.map_or(answer, |report| report.refine(answer));
            Answer { close: !keep, to_head, cors: context.cors(), append, ..answer }.write(&mut bytes);
            self.respond(|_, out| out.extend_from_slice(&bytes)).await;
            keep
        }
    }
}

/// The value of `Server-Timing` for an answer of this role itself.
fn own_timing_of(request: &(impl Request + ?Sized)) -> Vec<u8> {
    let mut timing = Vec::new();
    own_timing(request.context().own_phase, request.core().now() - request.began(), &mut timing);
    timing
}
