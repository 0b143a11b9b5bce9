//! The durations of calls, summed over all cores of a role.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use crate::engine::{MailSender, mailbox};
use crate::latency::{CoreFigures, Snapshot};

/// Reads the durations of calls from the cores of one role.
#[derive(Default)]
pub(super) struct CallFigures {
    /// The last complete snapshot.
    last: Mutex<Arc<Snapshot>>,
}

impl CallFigures {
    /// Requests the figures from `cores` cores with `ask`, and waits at most `wait`.
    ///
    /// If a core is late, this returns the last complete snapshot. A partial sum would be lower than the one before,
    /// which readers of counters take for a restart.
    pub(super) async fn read(
        &self,
        wait: Duration,
        cores: usize,
        ask: impl Fn(usize, &MailSender<CoreFigures>),
    ) -> Arc<Snapshot> {
        let gathered = timeout(wait, gather(cores, ask)).await;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(snapshot) = gathered {
            *last = Arc::new(snapshot);
        }
        Arc::clone(&last)
    }
}

/// Collects the figures of the cores. `ask` requests one label after the other from each, until it has no more.
async fn gather(cores: usize, ask: impl Fn(usize, &MailSender<CoreFigures>)) -> Snapshot {
    let mut snapshot = Snapshot::new();
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
    snapshot
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Time;
    use crate::latency::{CallPhases, LatencySettings, Outcome, Recorder};

    #[tokio::test]
    async fn counters_do_not_go_down_when_a_core_is_late() {
        let mut cores = [0, 1].map(|_| Recorder::new(LatencySettings::default()));
        for recorder in &mut cores {
            for method in ["tools/call", "tools/list"] {
                let label = recorder.label("demo", method, "");
                recorder.record(label, &CallPhases::default(), Outcome::Ok);
            }
        }
        let figures = CallFigures::default();
        let of_all = |index, reply: &MailSender<CoreFigures>| {
            cores.iter().for_each(|core| assert!(reply.send(core.figures(index, Time::ZERO)).is_ok()));
        };
        let whole = figures.read(Duration::from_secs(60), 2, of_all).await;
        assert_eq!((whole.total().calls(), whole.labels().count()), (4, 2));

        let kept = Mutex::new(Vec::new());
        let of_one = |index, reply: &MailSender<CoreFigures>| {
            assert!(reply.send(cores[0].figures(index, Time::ZERO)).is_ok());
            kept.lock().unwrap().push(reply.clone());
        };
        let late = figures.read(Duration::ZERO, 2, of_one).await;
        assert_eq!(late.total().calls(), 4, "one core did not answer");
    }
}
