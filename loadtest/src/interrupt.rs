//! Interruption of a run.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Asks runs to end cleanly and report what they have. Clones refer to the same flag.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// A flag that only [`Interrupt::raise`] raises.
    #[must_use]
    pub fn new() -> Interrupt {
        Interrupt::default()
    }

    /// A flag that SIGINT and SIGTERM raise; a second signal ends the process at once, with status 130.
    ///
    /// # Errors
    ///
    /// If signals cannot be received.
    pub fn on_signals() -> io::Result<Interrupt> {
        let interrupt = Interrupt::new();
        let raised = interrupt.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(listen(&raised, &ready)))?;
        is_ready.recv().map_err(|_| io::Error::other("the thread for signals ended"))??;
        Ok(interrupt)
    }

    /// Asks all runs with this flag to end soon.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether the run should end.
    #[must_use]
    pub fn is_raised(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

async fn listen(interrupt: &Interrupt, ready: &std::sync::mpsc::Sender<io::Result<()>>) {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = signal(SignalKind::interrupt()).and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
    let (mut int, mut term) = match signals {
        Ok(signals) => signals,
        Err(error) => {
            // The receiver is still waiting for this.
            let _ = ready.send(Err(error));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    loop {
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
        }
        if interrupt.is_raised() {
            #[allow(clippy::exit, reason = "whoever asks twice does not want to wait")]
            std::process::exit(130);
        }
        interrupt.raise();
    }
}
