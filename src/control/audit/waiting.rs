use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use crate::serve::{AUDIT_WAIT_MAX, AuditLog, AuditReceipt};

/// Wakes a thread that waits for a line.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks this thread until a line is written, for at most as long as calls wait.
pub(in crate::control) fn written_in_time(log: &AuditLog, receipt: AuditReceipt) -> bool {
    let until = Instant::now() + AUDIT_WAIT_MAX;
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    let mut written = pin!(receipt.written());
    loop {
        if let Poll::Ready(written) = written.as_mut().poll(&mut cx) {
            return written;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            log.on_late();
            return false;
        }
        thread::park_timeout(left);
    }
}
