//! The log, on standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::config::{LogConfig, LogFormat, LogLevels};

/// Whether the last line of the terminal is rewritten in place, so that a log line must erase it first.
static LIVE_LINE: AtomicBool = AtomicBool::new(false);

/// The terminal sequence that erases the line and puts the cursor at its start.
pub const ERASE_LINE: &str = "\r\x1b[2K";

/// The log of this process. Its levels can be changed.
#[derive(Clone)]
pub struct Log {
    filter: reload::Handle<EnvFilter, Registry>,
}

impl Log {
    /// Starts the log of this process. A second start has no effect.
    #[must_use]
    pub fn start(config: &LogConfig) -> Log {
        let (filter, handle) = reload::Layer::new(filter(&config.level));
        let registry = tracing_subscriber::registry().with(filter);
        let lines = fmt::layer().with_writer(LogWriter).with_ansi(io::stderr().is_terminal());
        let started = match config.format {
            LogFormat::Text => registry.with(lines.with_target(false)).try_init(),
            LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        };
        if let Err(error) = started {
            tracing::debug!(%error, "the log had been started before");
        }
        Log { filter: handle }
    }

    /// Replaces the levels of the log while it is in use.
    pub fn set_levels(&self, levels: &LogLevels) {
        if let Err(error) = self.filter.reload(filter(levels)) {
            tracing::warn!(%error, "log levels not changed");
        }
    }
}

/// Sets whether the last line of the terminal is rewritten in place.
pub fn set_live_line(live: bool) {
    LIVE_LINE.store(live, Ordering::Relaxed);
}

/// Converts the levels to directives of the log library. A level without a module applies to adit only. Libraries log
/// warnings, unless they are named. HTTP/2 logs errors only, because peers could fill the log with its warnings.
fn filter(levels: &LogLevels) -> EnvFilter {
    EnvFilter::new(directives(levels.as_str()))
}

pub(super) fn directives(levels: &str) -> String {
    // The last directive for a module wins, so those that name a module come last.
    let (named, general): (Vec<_>, Vec<_>) = levels.split(',').partition(|directive| directive.contains('='));
    let general = general.into_iter().map(|level| match level {
        "off" | "error" => level.to_owned(),
        level => format!("warn,h2=error,adit={level}"),
    });
    general.chain(named.into_iter().map(str::to_owned)).collect::<Vec<_>>().join(",")
}

struct LogWriter;

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = io::Stderr;

    fn make_writer(&'a self) -> io::Stderr {
        let mut stderr = io::stderr();
        if LIVE_LINE.load(Ordering::Relaxed) {
            // If standard error is closed, writing the line itself reports it.
            let _ = stderr.write_all(ERASE_LINE.as_bytes());
        }
        stderr
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_adits_own_and_libraries_are_named() {
        assert_eq!(directives("info"), "warn,h2=error,adit=info");
        assert_eq!(directives("off"), "off");
        assert_eq!(directives("debug,hyper=trace"), "warn,h2=error,adit=debug,hyper=trace");
        assert_eq!(directives("adit::link=debug"), "adit::link=debug");
    }

    #[test]
    fn http_2_frames_of_a_peer_are_not_logged_by_default() {
        let logs = |levels: &str| {
            let filter = EnvFilter::new(directives(levels));
            tracing::subscriber::with_default(
                tracing_subscriber::registry().with(filter),
                || tracing::enabled!(target: "h2::proto::ping_pong", tracing::Level::WARN),
            )
        };
        assert!(!logs("info"));
        assert!(!logs("debug"));
        assert!(logs("info,h2=warn"));
        assert!(logs("h2=debug,info"));
    }
}
