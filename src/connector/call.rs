//! One call at the connector: the request is sent to an upstream and the response to the edge.

use std::task::Context;
use std::time::Duration;

use memchr::memmem;

use crate::base::{CallFailure, Clock};
use crate::connector::agent_work::AgentWork;
use crate::connector::call_context::{CallContext, Caller, SessionAgent};
use crate::connector::call_end::CallEnd;
use crate::connector::call_error::{CallError, ExchangeError, failed, upstream_fault};
use crate::connector::call_hooks::ConnectorHooks;
use crate::connector::call_request::CallRequest;
use crate::connector::cancel::may_be_cancelled;
use crate::connector::checkout::{Held, checkout};
use crate::connector::shared::Counters;
use crate::connector::upstream_stream::UpstreamStream;
use crate::connector::upstreams::Served;
use crate::exchange::{AnsweringStream, CalledAddress, ExchangeState, TimeoutStream, forwarded, forwarded_peer};
use crate::latency::{NoRetry, Reached, RecordedTime, Retries, SentAgain};
use crate::policy::SafeRequests;
use crate::route::Scheme;
use crate::serve::{AnswerSize, CallerLimits, NextHop, NextHopWork, RelayError, Relayed, Replay, relay};
use crate::upstream::{Checkout, UpstreamConnection};
use crate::wire::MethodScan;
use crate::wire::http1::{Method, PolicyEdit, RequestEdits, RequestHead, TimeLeftEdit};
use crate::wire::jsonrpc::Peek;

/// When the caller's time is over after a response began, the edge ends the response, because it can end an event
/// stream between two events. The connector cuts it if the edge has not done so within this time.
const EDGE_CUTS_WITHIN: Duration = Duration::from_secs(1);

/// The end of the method name in a `tools/list` request, however its slash is escaped.
const LIST: &[u8] = b"list\"";

/// The state of a worker towards upstreams. Reused by the next call, for its memory.
#[derive(Default)]
pub(super) struct UpstreamWork {
    next_hop: NextHopWork,
    replay: Box<Replay>,
    /// Boxed, so that the task does not pay for its size.
    pub(super) agents: Box<AgentWork>,
}

impl UpstreamWork {
    /// Resets the state for another call.
    pub(super) fn clear(&mut self) {
        self.next_hop.clear();
        self.replay.clear();
    }

    /// Carries a call to its end.
    pub(super) async fn call(
        &mut self,
        context: &CallContext<'_>,
        request: &mut impl CallRequest,
        end: &mut CallEnd,
    ) -> Result<(), CallError> {
        let upstreams = &context.core.upstreams;
        if !upstreams.holds(self.agents.decided_by) {
            // Its route may have another upstream, policy or credential by now. The caller may retry and is checked
            // again.
            return Err(CallError::Failed(CallFailure::UpstreamUnsent));
        }
        let served = upstreams.for_request(request.head()).ok_or(CallError::Failed(CallFailure::NoRoute))?;
        if served.traffic() != context.traffic {
            return Err(CallError::Failed(CallFailure::SealMismatch));
        }
        served.on_call();
        (self.agents.retries, self.agents.again, self.agents.sent_failure) = (Retries::default(), None, None);
        self.agents.answer_size = AnswerSize::default();
        let send_by = self.agents.send_by(context);
        let mut needs_fresh = false;
        // The earlier failure of the call, if it may have run.
        let mut before = None;
        let late = |before: Option<CallError>| {
            let sent = before.map(|_| CallError::Failed(CallFailure::CallerTimeout));
            sent.unwrap_or(CallError::Failed(CallFailure::CallerTimeoutUnsent))
        };
        loop {
            if send_by <= context.core.core.turn_time() {
                return Err(late(before));
            }
            let timer = &mut self.agents.timer;
            let upstream = served.way_for(request.head(), context.core.core.turn_time());
            let taken = checkout(&context.core.core, upstream, needs_fresh, send_by, timer).await;
            self.agents.timer = None;
            let Checkout { connection, connect } = taken.ok_or_else(|| late(before))?.map_err(|error| {
                let failure = served.on_failed(&error, context.core.core.turn_time());
                before.unwrap_or(CallError::Failed(failure))
            })?;
            if let Some(took) = connect {
                served.on_connected();
                end.stamps.on_connected(took);
            }
            let was_used = connect.is_none();
            let mut held = Held::new(connection);
            let exchanged = match held.get() {
                UpstreamConnection::Http(connection) => {
                    if self.agents.retries.made() == 0 {
                        // Only a reused connection may have been closed by the upstream in the meantime.
                        let keeps = was_used || served.learns(request.head());
                        let may_cancel = may_be_cancelled(context, request.head(), keeps);
                        self.replay.start(keeps.then_some(&context.core.kept_bodies), may_cancel);
                    }
                    needs_fresh = true;
                    self.exchange(context, &served, request, connection, end).await
                }
                UpstreamConnection::Http2(stream) => {
                    if self.agents.retries.made() == 0 {
                        // The upstream may refuse any request.
                        let may_cancel = may_be_cancelled(context, request.head(), true);
                        self.replay.start(Some(&context.core.kept_bodies), may_cancel);
                    }
                    // An unusable connection takes no more calls.
                    needs_fresh = false;
                    // Boxed, so that calls over HTTP/1.1 do not pay for its size.
                    Box::pin(self.exchange(context, &served, request, &**stream, end)).await
                }
            };
            served.on_answer(end.stamps.status());
            served.on_era(request.head(), end.stamps.status());
            match exchanged {
                Ok(kept) => {
                    if let Some(keep) = kept {
                        held.release(keep, self.next_hop.idle_timeout());
                    }
                    return Ok(());
                }
                // The upstream may have closed an idle connection while the request was on its way. A request that the
                // upstream may have received is sent again only if that does no harm (RFC 9110, section 9.2.2).
                Err(error) => {
                    let reached = error.reached(was_used);
                    let may_have_run = match error {
                        ExchangeError::Silent => true,
                        // The possible effect of an idempotent request matters less than why it failed.
                        ExchangeError::Vanished => !request.head().method().is_idempotent(),
                        ExchangeError::Unsent | ExchangeError::Failed(_) => false,
                    };
                    let again = self.again(context, &served, request.head(), reached);
                    let failed = CallError::from(error);
                    let Some(pause) = again else {
                        let is_unsent = !failed.failure().may_have_acted();
                        return Err(before.filter(|_| is_unsent).unwrap_or(failed));
                    };
                    before = before.or(Some(failed).filter(|_| may_have_run));
                    if !pause.is_zero() {
                        // Boxed, so that calls do not pay for its size.
                        Box::pin(context.core.core.sleep(pause)).await;
                    }
                }
            }
        }
    }

    /// The pause before a failed request is retried; none if it is not.
    fn again(
        &mut self,
        context: &CallContext<'_>,
        served: &Served,
        head: &RequestHead,
        reached: Reached,
    ) -> Option<Duration> {
        let counters = &context.core.connector.counters;
        let is_silent = matches!(reached, Reached::Silent { was_used: true });
        let is_safe = is_silent && !head.method().is_idempotent() && self.is_safe(served, head);
        // A body that was not kept cannot be sent again.
        self.replay.kept()?;
        let random = context.core.retry.random_fraction();
        let may_run_twice = is_safe || head.method().is_idempotent();
        let left = self.agents.left(context.core.core.turn_time());
        let retries_max = context.core.connector.settings.retries_max;
        match served.again(retries_max, &mut self.agents.retries, reached, may_run_twice, left, random) {
            Ok(pause) => {
                self.replay.rewind();
                Counters::add(&counters.requests_resent);
                if is_safe {
                    Counters::add(&counters.resends_safe);
                }
                if reached == Reached::Never {
                    Counters::add(&counters.resends_unread);
                }
                let (was_unread, before) = match self.agents.again {
                    Some(SentAgain::Resent { is_unread, paused }) => (is_unread, paused.get()),
                    _ => (true, Duration::ZERO),
                };
                let (is_unread, paused) = (was_unread && reached == Reached::Never, RecordedTime::of(before + pause));
                self.agents.again = Some(SentAgain::Resent { is_unread, paused });
                return Some(pause);
            }
            Err(NoRetry::Budget) => Counters::add(&counters.resends_denied),
            Err(NoRetry::Spent) => Counters::add(&counters.resends_spent),
            Err(NoRetry::MayHaveRun | NoRetry::Deadline) => {}
        }
        None
    }

    /// Whether a POST request may run twice, by the hints that its route trusts. The body is parsed only now, because
    /// few calls fail.
    fn is_safe(&self, served: &Served, head: &RequestHead) -> bool {
        let (Some(safe), Some(body)) = (served.resend(), self.replay.kept()) else { return false };
        let mut peek = Peek::default();
        peek.feed(body);
        head.method() == Method::Post && safe.may_run_twice(head, &peek)
    }

    /// Passes the request's parsed message to `read`, if it was kept.
    pub(super) fn read_message<T>(&mut self, read: impl FnOnce(&Peek) -> T) -> Option<T> {
        self.replay.read_message(read)
    }

    /// Learns from a complete answer which tools may be called twice, if it lists tools.
    fn learn(&mut self, served: &Served) {
        let (Some(safe), Some(body)) = (served.resend(), self.replay.kept()) else { return };
        if !self.agents.listing.is_kept() {
            return;
        }
        // Parsing a message allocates, and most calls do not need it.
        if memmem::find(body, LIST).is_none() {
            return;
        }
        let mut peek = Peek::default();
        peek.feed(body);
        if SafeRequests::is_listing(&peek) {
            let from_start = SafeRequests::is_first_page(body);
            self.agents.listing.read(|answer, is_events, may_be_all| {
                safe.learn(answer, is_events, from_start && may_be_all);
            });
        }
    }

    /// Carries request and response over one connection; returns whether the connection can be kept, if the exchange
    /// was complete.
    async fn exchange<U: UpstreamStream>(
        &mut self,
        context: &CallContext<'_>,
        served: &Served,
        request: &mut impl CallRequest,
        upstream: &U,
        end: &mut CallEnd,
    ) -> Result<Option<bool>, ExchangeError> {
        let state = |taken, _: &mut Context<'_>| {
            context.stream.on_link().reader_took(taken);
            if context.stream.on_link().is_carrier_draining() {
                ExchangeState::Draining
            } else {
                ExchangeState::Running
            }
        };
        let to = TimeoutStream::new(upstream.stream(), &context.core.connector.settings.write_timeout, state);
        let to = AnsweringStream::new(to, upstream.acknowledged_within());
        let of_agents = context.is_agents().then(|| self.agents.guard.deadline.first_byte_timeout());
        let caller = match context.is_agents() {
            true => self.agents.guard.deadline.caller_limits(),
            false => CallerLimits::new(self.agents.until, self.agents.until + EDGE_CUTS_WITHIN),
        };
        self.agents.listing.expect(served.learns(request.head()));
        self.agents.changed.set(served.resend().map(|_| MethodScan::tools_changed()));
        let mut hooks;
        let relayed = {
            let incoming = request.incoming(context.stream);
            let head = incoming.head;
            let left = self.agents.left(context.core.core.turn_time());
            hooks = ConnectorHooks {
                context,
                addresses: &served.addresses,
                request: head,
                upstream,
                stamps: &mut end.stamps,
                work: &mut self.agents,
            };
            let (mut append, number) = (None, incoming.label.as_ref().and_then(|label| label.caller_number()));
            let caller_key = served.caller_key(number);
            let edits = RequestEdits {
                edge_identity: caller_key.as_deref(),
                drop_expect: incoming.label.as_ref().is_some_and(|label| label.has_continued()),
                policy: incoming.label.as_ref().map_or(PolicyEdit::NONE, |label| label.policy_edit()),
                timeout: left.filter(|_| served.sends_timeout()),
                ..addressed(context, served, head, &mut append)
            };
            // A GET waits for events for as long as the agent wants. The edge has its own limit.
            let limit = of_agents.or(served.first_byte_timeout()).filter(|_| head.method() != Method::Get);
            let mut next_hop = NextHop::new(&to, &to, &mut self.next_hop, head, edits);
            next_hop.first_byte_timeout = limit;
            next_hop.caller = caller;
            next_hop.flush = U::QUEUES_APART;
            next_hop.replay = Some(&mut self.replay);
            relay(incoming, next_hop, &context.core.core, &mut hooks)
        }
        .await;
        let Relayed { result, has_begun, is_sent, keeps, is_cut } = relayed;
        (end.has_begun, end.keeps) = (has_begun, keeps);
        if let Err(error) = result {
            if error == RelayError::Late {
                self.agents.guard.deadline.on_cut(context.core.core.now());
            }
            if let Some(why) = upstream_fault(&error) {
                upstream.log_fault(&why);
            }
            let is_of_caller = error == RelayError::Late && self.agents.until <= context.core.core.turn_time();
            let error = match (is_of_caller, end.stamps.is_sent()) {
                (true, true) => ExchangeError::Failed(CallError::Failed(CallFailure::CallerTimeout)),
                (true, false) => ExchangeError::Failed(CallError::Failed(CallFailure::CallerTimeoutUnsent)),
                (false, _) => failed(&error),
            };
            return Err(match error {
                ExchangeError::Silent if upstream.has_sent_nothing(&context.core.core, to.sent_before()).await => {
                    ExchangeError::Unsent
                }
                ExchangeError::Vanished => {
                    // The other connections lead to the same host.
                    served.upstream.close_idle();
                    ExchangeError::Vanished
                }
                error => error,
            });
        }
        if !is_cut {
            self.learn(served);
        }
        end.stamps.on_last_received(upstream.received_at());
        context.stream.on_link().send_times(&end.stamps.times(&context.core.core));
        context.stream.finish_message();
        Ok(is_sent.then(|| !is_cut && self.next_hop.is_reusable()))
    }
}

/// The changes that address a request to its upstream. `append` contains the fields to add.
pub(super) fn addressed<'a>(
    context: &CallContext<'a>,
    served: &'a Served,
    head: &'a RequestHead,
    append: &'a mut Option<[(&'static str, &'a [u8]); 3]>,
) -> RequestEdits<'a> {
    let public = served.addresses.public();
    *append = match context.caller {
        // If the connector knows no address, the edge's fields stay as they are.
        Caller::Edge(_) => public.map(|called| forwarded(forwarded_peer(head), called)),
        Caller::Agent(SessionAgent { address, .. }) => {
            let called = public.unwrap_or_else(|| CalledAddress::of(Scheme::Https, head));
            Some(forwarded(address.as_bytes(), called))
        }
    };
    RequestEdits {
        host: served.addresses.new_host(),
        origin: served.addresses.origin(),
        drop_forwarded: append.is_some(),
        time_left: if context.stream.is_sealed() { TimeLeftEdit::Drop } else { TimeLeftEdit::Keep },
        append: append.as_ref().map_or(&[], |fields| fields),
        ..RequestEdits::default()
    }
}
