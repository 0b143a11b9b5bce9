//! Workers: the tasks that carry calls.

use std::rc::Rc;

use crate::base::CallFailure;
use crate::connector::connector_core::ConnectorCore;
use crate::connector::shared::Counters;
use crate::connector::streams::Work;
use crate::connector::worker_slots::WorkerSlot;
use crate::link::{CallStream, CarrierStream};

/// Gives a call that the edge opened to a worker, for any protocol of the carrier.
pub(super) fn carry(core: &Rc<ConnectorCore>, stream: CarrierStream) {
    if core.workers.busy() + core.figures.http2_calls() >= core.connector.settings.calls_max {
        Counters::add(&core.connector.counters.calls_overloaded);
        return stream.reset(CallFailure::Overloaded);
    }
    if let Some(call) = core.workers.start(CallStream::Plain(stream)) {
        core.core.spawn(work(Rc::clone(core), call));
    }
}

/// The future of a worker, which begins with a first call. It captures its values, because the parameters of an async
/// function are stored twice in its future.
fn work(core: Rc<ConnectorCore>, first: CallStream) -> impl Future<Output = ()> {
    let slot = Rc::new(WorkerSlot::default());
    let mut next = Some(first);
    async move {
        let mut work = Work::default();
        while let Some(stream) = &next {
            if is_sealed(stream.on_link()) {
                // Boxed, so that the tasks of other calls do not have its size.
                Box::pin(work.serve_sealed(&core, &mut next)).await;
            } else {
                work.serve_plain(&core, stream).await;
            }
            next = None;
            work.clear();
            if core.workers.release(&slot) {
                if core.workers.begin_trim() {
                    let trimmed = Rc::clone(&core);
                    core.core.spawn(async move { trimmed.workers.trim(&trimmed.core).await });
                }
                next = slot.next().await;
            }
        }
    }
}

/// Whether the edge opened a stream for an inner TLS session.
fn is_sealed(stream: &CarrierStream) -> bool {
    stream.call().is_some_and(|(_, traffic)| traffic.is_sealed())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the future of an async function.
    const fn size_of_task<A, B, F>(_: &impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_call_that_waits_takes_little_memory() {
        // The allocator's size class is 3,584 bytes; the next is 4,096.
        assert!(size_of_task(&work) <= 3584, "{}", size_of_task(&work));
    }
}
