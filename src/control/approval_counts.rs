//! What is counted of approvals: notifications, links, and writes of the file.

use std::sync::atomic::{AtomicU64, Ordering};

/// What came of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The server has accepted it.
    Delivered,
    /// The server could not be reached, or did not accept it; adit tries again.
    Failed,
    /// The call stopped waiting before the server had accepted it.
    Dropped,
}

/// What came of a request of an approval page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkOutcome {
    /// The page of a call was shown.
    Shown,
    /// The call was approved.
    Approved,
    /// The call was denied.
    Denied,
    /// The link is not one that this process has signed, or the form cannot be read.
    Invalid,
    /// The link or its call has expired, or somebody has decided already.
    Over,
    /// Too many pages were requested.
    Limited,
    /// The decision could not be recorded.
    Failed,
}

/// The counts of a process.
#[derive(Debug, Default)]
pub struct ApprovalCounts {
    deliveries: [AtomicU64; 3],
    links: [AtomicU64; 7],
    unwritten: AtomicU64,
}

/// The counts at one moment, with the names of the outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApprovalReading {
    /// Notifications of calls that wait.
    pub deliveries: [(&'static str, u64); 3],
    /// Requests of approval pages.
    pub links: [(&'static str, u64); 7],
    /// Failed writes of the approvals file.
    pub unwritten: u64,
}

impl DeliveryOutcome {
    const ALL: [(DeliveryOutcome, &'static str); 3] = [
        (DeliveryOutcome::Delivered, "delivered"),
        (DeliveryOutcome::Failed, "failed"),
        (DeliveryOutcome::Dropped, "dropped"),
    ];
}

impl LinkOutcome {
    const ALL: [(LinkOutcome, &'static str); 7] = [
        (LinkOutcome::Shown, "shown"),
        (LinkOutcome::Approved, "approved"),
        (LinkOutcome::Denied, "denied"),
        (LinkOutcome::Invalid, "invalid"),
        (LinkOutcome::Over, "over"),
        (LinkOutcome::Limited, "limited"),
        (LinkOutcome::Failed, "failed"),
    ];
}

impl ApprovalCounts {
    /// Counts what came of a notification.
    pub fn on_delivery(&self, outcome: DeliveryOutcome) {
        self.deliveries[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request of an approval page.
    pub fn on_link(&self, outcome: LinkOutcome) {
        self.links[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a failed write of the approvals file.
    pub fn on_unwritten(&self) {
        self.unwritten.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts so far.
    #[must_use]
    pub fn reading(&self) -> ApprovalReading {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ApprovalReading {
            deliveries: DeliveryOutcome::ALL.map(|(outcome, name)| (name, read(&self.deliveries[outcome as usize]))),
            links: LinkOutcome::ALL.map(|(outcome, name)| (name, read(&self.links[outcome as usize]))),
            unwritten: read(&self.unwritten),
        }
    }
}
