//! How calls at the connector end.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use crate::base::{CallFailure, Time};
use crate::connector::call_request::CallRequest;
use crate::connector::connector_core::ConnectorCore;
use crate::connector::shared::Counters;
use crate::latency::ConnectorStamps;
use crate::link::CarrierStream;

/// How a call ended.
pub(super) struct CallEnd {
    /// The timestamps of its phases.
    pub(super) stamps: ConnectorStamps,
    /// Whether the head of a response was sent, so that no other can be sent.
    pub(super) has_begun: bool,
    /// Whether the caller's connection can carry another request.
    pub(super) keeps: bool,
}

impl CallEnd {
    /// A call that was received at `began`.
    pub(super) fn new(began: Time) -> CallEnd {
        CallEnd { stamps: ConnectorStamps::new(began), has_begun: false, keeps: false }
    }
}

/// Runs a call until it ends, or until the edge gives it up; the error is the reason. The call is then dropped, and the
/// upstream notices that at once. A call on a shared stream is not watched.
pub(super) fn unless_broken<R: CallRequest, T>(
    stream: &CarrierStream,
    mut calling: Pin<&mut impl Future<Output = T>>,
) -> impl Future<Output = Result<T, CallFailure>> {
    poll_fn(move |cx| match calling.as_mut().poll(cx) {
        Poll::Ready(ended) => Poll::Ready(Ok(ended)),
        Poll::Pending if R::OWNS_STREAM => stream.poll_broken(cx).map(Err),
        Poll::Pending => Poll::Pending,
    })
}

/// Counts the end of a call; none if the edge gave it up.
pub(super) fn count(core: &ConnectorCore, ended: Option<Result<(), CallFailure>>) {
    let counters = &core.connector.counters;
    match ended {
        Some(Ok(())) => {}
        Some(Err(CallFailure::NoRoute)) => Counters::add(&counters.calls_unrouted),
        Some(Err(CallFailure::Overloaded)) => Counters::add(&counters.calls_overloaded),
        Some(Err(CallFailure::SlowReader)) => Counters::add(&counters.calls_cut_unread),
        Some(Err(CallFailure::CallerTimeout | CallFailure::CallerTimeoutUnsent)) => {
            Counters::add(&counters.calls_out_of_time);
        }
        Some(Err(CallFailure::Cancelled)) | None => Counters::add(&counters.calls_cancelled),
        Some(Err(_)) => Counters::add(&counters.calls_failed),
    }
}
