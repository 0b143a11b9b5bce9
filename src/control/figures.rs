use std::time::Duration;

use tokio::time::timeout;

use crate::engine::{MailSender, mailbox};
use crate::latency::{CoreFigures, Snapshot};

/// Gathers the times of calls from so many cores, which `ask` asks for one set after the other, until none has more.
pub(super) async fn gather(wait: Duration, cores: usize, ask: impl Fn(usize, &MailSender<CoreFigures>)) -> Snapshot {
    let mut snapshot = Snapshot::new();
    let gathering = async {
        let (mut more, mut index) = (true, 0);
        while more {
            let (reply, mut answers) = mailbox(cores);
            ask(index, &reply);
            drop(reply);
            more = false;
            while let Some(figures) = answers.recv().await {
                more |= figures.labels > index + 1;
                if index == 0 {
                    snapshot.add_over_cap(figures.over_cap);
                }
                if let Some((label, set)) = figures.set {
                    snapshot.add_label(&label, &set, figures.deadline);
                }
            }
            index += 1;
        }
    };
    // Of cores that are late, what came is told: counters that lag are no lie.
    let _ = timeout(wait, gathering).await;
    snapshot
}
