use crate::base::Time;

/// Receives trace lines, for investigating a failing seed.
pub(super) type Sink = Box<dyn FnMut(&str)>;

/// A running hash over all events and their times. It is equal for two runs only if they were the same.
pub(super) struct Trace {
    hash: u64,
    sink: Option<Sink>,
}

/// FNV-1a, 64 bits: the offset basis and the prime.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

impl Trace {
    pub(super) fn new() -> Trace {
        Trace { hash: BASIS, sink: None }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn show_to(&mut self, sink: Sink) {
        self.sink = Some(sink);
    }

    /// Records the event `what` at `now`, about `subject` (a connection or a driver), with `detail` (a size in bytes).
    pub(super) fn note(&mut self, now: Time, what: &str, subject: u64, detail: u64) {
        self.fold(&now.as_nanos().to_le_bytes());
        self.fold(what.as_bytes());
        self.fold(&subject.to_le_bytes());
        self.fold(&detail.to_le_bytes());
        if let Some(sink) = &mut self.sink {
            sink(&format!("{:>15} {what} {subject} {detail}", now.as_nanos()));
        }
    }

    fn fold(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    }
}
