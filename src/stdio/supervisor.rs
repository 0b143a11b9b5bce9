//! The tasks that start the children of a route and carry what they read and write, on the core that owns them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;

use crate::base::Clock;
use crate::engine::driver::SocketOptions;
use crate::engine::{ByteStream, MailReceiver, Socket, send_bytes};
use crate::policy::LogRateLimit;
use crate::stdio::child::{self, ChildExit, StartedChild};
use crate::stdio::child_pool::ChildPool;
use crate::stdio::children::{Children, FailedChild, NoChild};
use crate::stdio::running_child::RunningChild;
use crate::stdio::settings::StdioSettings;
use crate::stdio::stats::{StdioEvent, StdioStats};
use crate::wire::stdio::{Line, Lines};

/// The longest line of a child's standard error; longer ones are left out of the log.
const ERROR_LINE_LEN_MAX: usize = 4 * 1024;
/// How many lines of a child are logged in a second.
const LINES_LOGGED_MAX: u32 = 20;
/// How long to wait for how a child has ended that has closed its output.
const END_WAIT: Duration = Duration::from_millis(100);
/// The pause before the next attempt to start a child when there was no place for one.
const FULL_PAUSE: Duration = Duration::from_millis(10);
/// How often sessions and children are looked through for idle ones, at most.
const IDLE_CHECK_MAX: Duration = Duration::from_secs(60);

/// Why no child was started.
enum StartError {
    /// There are as many as allowed, and all are in use.
    Full,
    /// It failed, for this reason.
    Failed(String),
}

/// Starts a child whenever one is wanted; where children start at boot, at once and whenever one has failed.
pub(super) async fn keep_started(pool: Rc<ChildPool>, children: Rc<Children>) {
    let at_boot = pool.starts_at_boot();
    let mut failed = None;
    if !at_boot {
        failed = children.child_wanted().await;
    }
    let mut is_again = false;
    loop {
        if let Some(FailedChild { why, was_good }) = failed.take() {
            if was_good {
                children.restarts.borrow_mut().on_good();
            }
            on_failure(&pool, &children, why);
            is_again = true;
        }
        let pause = children.restarts.borrow().pause(pool.core.now());
        if !pause.is_zero() {
            pool.core.sleep(pause).await;
            pool.stats.set_down(None);
            if !at_boot {
                failed = children.child_wanted().await;
                continue;
            }
        }
        match start(&pool, &children).await {
            Ok(()) => {
                if std::mem::take(&mut is_again) {
                    pool.stats.add(StdioEvent::Restarted);
                }
                failed = children.child_wanted().await;
            }
            Err(StartError::Full) => {
                children.on_failed(NoChild::Full);
                // Those that wait leave first.
                pool.core.sleep(FULL_PAUSE).await;
                failed = children.child_wanted().await;
            }
            Err(StartError::Failed(why)) => {
                pool.stats.add(StdioEvent::StartFailed);
                failed = Some(FailedChild { why, was_good: false });
            }
        }
    }
}

/// Takes note of a failure: no child is started for a while.
fn on_failure(pool: &ChildPool, children: &Children, why: String) {
    let (pause, is_open) = {
        let mut restarts = children.restarts.borrow_mut();
        (restarts.on_failed(pool.core.now()), restarts.is_open())
    };
    let again_in_ms = pause.as_millis();
    match is_open {
        true => tracing::error!(route = pool.settings.route, again_in_ms, "{why}: it has failed too often in a row"),
        false => tracing::warn!(route = pool.settings.route, again_in_ms, "{why}"),
    }
    // Where agents have children of their own, one that fails does not concern the others.
    if pool.is_shared() && children.is_empty() {
        pool.stats.set_down(Some(&why));
    }
    children.on_failed(NoChild::Down);
}

/// Starts a child, which is spare until an agent comes.
async fn start(pool: &Rc<ChildPool>, children: &Rc<Children>) -> Result<(), StartError> {
    let permit = pool.admit().ok_or(StartError::Full)?;
    let ends = ends_of_new(pool).await.map_err(StartError::Failed)?;
    tracing::info!(route = pool.settings.route, "started {}", pool.settings.program());
    pool.stats.add(StdioEvent::Started);
    let parts = (&pool.stats, permit);
    let child = Rc::new(RunningChild::new(&pool.core, &pool.settings, parts, &pool.events));
    children.add(&child);
    let (pool, children) = (Rc::clone(pool), Rc::clone(children));
    pool.core.clone().spawn(async move {
        let end = serve(&pool, &child, ends).await;
        let (reason, why) = match child.closing() {
            Some(reason) => (reason, None),
            None => (end.reason, Some(end.why)),
        };
        child.close(reason);
        pool.stats.add(reason);
        if !pool.is_per_session() {
            return children.on_ended(&child, why);
        }
        // Its session has ended with it. The task that has started it ends, too.
        children.on_ended(&child, None);
        match why {
            // Once it has answered, its end does not concern others.
            Some(why) if child.has_spoken.get() => tracing::info!(route = pool.settings.route, "{why}"),
            Some(why) => on_failure(&pool, &children, why),
            None => {}
        }
        pool.remove(&children.key, StdioEvent::Closed);
    });
    Ok(())
}

/// The ends of the sockets of a child on its core, and how it will end.
struct ChildEnds {
    io: Socket,
    errors: Option<Socket>,
    end: Option<MailReceiver<ChildExit>>,
}

/// Starts the process of a child.
async fn ends_of_new(pool: &ChildPool) -> Result<ChildEnds, String> {
    #[cfg(feature = "internals")]
    if let Some(address) = &pool.settings.simulated {
        let connected = pool.core.connect(address, SocketOptions::default()).await;
        let io = connected.map_err(|error| format!("cannot start the simulated child: {error}"))?;
        return Ok(ChildEnds { io, errors: None, end: None });
    }
    let StartedChild { io, errors, end } = child::start(&pool.settings).await?;
    let adopt = async |detached| pool.core.adopt(detached, SocketOptions::default()).await;
    match (adopt(io).await, adopt(errors).await) {
        (Ok(io), Ok(errors)) => Ok(ChildEnds { io, errors: Some(errors), end: Some(end) }),
        _ => Err("the sockets of the child cannot be used".to_owned()),
    }
}

/// Serves a child until it has ended or is closed; returns how. The child ends when its socket is dropped.
async fn serve(pool: &ChildPool, child: &Rc<RunningChild>, ChildEnds { io, errors, end }: ChildEnds) -> ChildExit {
    let last_error = RefCell::new(String::new());
    let other = |reason, why: &str| ChildExit { reason, why: why.to_owned() };
    let ended = async {
        let unknown = || other(StdioEvent::Killed, "the child cannot be waited for");
        let Some(mut end) = end else { return future::pending().await };
        let end = end.recv().await.unwrap_or_else(unknown);
        match end.reason {
            // The guard says on standard error why, which arrives at about the same time.
            StdioEvent::StartFailed => {
                pool.core.sleep(END_WAIT).await;
                let last = last_error.borrow();
                ChildExit { why: if last.is_empty() { end.why.clone() } else { last.clone() }, ..end }
            }
            _ => end,
        }
    };
    let log_errors = async {
        if let Some(errors) = &errors {
            log_lines(pool, errors, &last_error).await;
        }
        future::pending().await
    };
    let tidying = async {
        let limits = &pool.settings.limits;
        loop {
            pool.core.sleep((limits.child_idle / 4).min(IDLE_CHECK_MAX)).await;
            child.end_idle_sessions();
            let now = pool.core.now();
            let is_idle = child.unused_since().is_some_and(|since| now - since >= limits.child_idle);
            if is_idle && !pool.starts_at_boot() {
                child.close(StdioEvent::Idled);
            }
        }
    };
    let talking = async {
        future::or(read_child(child, &io, &pool.settings), write_child(child, &io)).await;
        // How a child has ended says more than that it has closed its output just before.
        pool.core.sleep(END_WAIT).await;
        other(StdioEvent::Failed, "the child has closed its standard input or output")
    };
    let closed = async {
        child.over().await;
        other(StdioEvent::Closed, "")
    };
    let silent = async {
        first_message(child, pool.settings.limits.start_timeout).await;
        let after = pool.settings.limits.start_timeout.as_millis();
        ChildExit {
            reason: StdioEvent::StartTimedOut,
            why: format!(
                "{} has sent nothing for {after} ms after its start: see `child_start_timeout_ms`",
                pool.settings.program()
            ),
        }
    };
    let talking = future::or(future::or(talking, log_errors), future::or(tidying, silent));
    future::or(future::or(ended, closed), talking).await
}

/// Returns if the child was asked something and has sent no message for so long.
async fn first_message(child: &RunningChild, limit: Duration) {
    loop {
        let seen = child.added.count();
        if child.has_spoken.get() {
            return future::pending().await;
        }
        if child.was_asked.get() {
            child.core.sleep(limit).await;
            if !child.has_spoken.get() {
                return;
            }
            continue;
        }
        child.added.after(seen).await;
    }
}

/// Reads the child's messages until it closes its output.
async fn read_child(child: &RunningChild, io: &Socket, settings: &StdioSettings) {
    let (mut lines, mut limit) = (Lines::new(settings.limits.line_len_max), LogRateLimit::new(1));
    let mut each = |line: Line<'_>| {
        let (event, what) = match line {
            Line::Message(message) => return child.on_child(message),
            Line::Text(_) => (StdioEvent::TextLine, "is no message"),
            Line::TooLong { start, end } => {
                child.on_long_line(start, end);
                (StdioEvent::LongLine, "is too long")
            }
        };
        child.stats.add(event);
        if limit.allow(child.core.now()).is_some() {
            tracing::warn!(
                route = child.route,
                total = child.stats.count(event),
                "a line of the child's standard output {what}: it should log to standard error"
            );
        }
    };
    while let Ok(Some(bytes)) = io.recv().await {
        lines.feed(&bytes, &mut each);
    }
    lines.finish(each);
}

/// Writes to the child what waits for it, until it does not read any more.
async fn write_child(child: &RunningChild, io: &Socket) {
    loop {
        let seen = child.added.count();
        while let Some(line) = child.take_line() {
            child.was_asked.set(true);
            if send_bytes(io, child.core.pool(), &line).await.is_err() {
                return;
            }
            child.on_written(line.len());
        }
        child.added.after(seen).await;
    }
}

/// Logs the lines of the child's standard error.
async fn log_lines(pool: &ChildPool, errors: &Socket, last: &RefCell<String>) {
    let (route, stats): (&str, &StdioStats) = (&pool.settings.route, &pool.stats);
    let (mut lines, mut limit) = (Lines::new(ERROR_LINE_LEN_MAX), LogRateLimit::new(LINES_LOGGED_MAX));
    let mut each = |line: Line<'_>| {
        let text = match line {
            Line::Message(text) | Line::Text(text) => String::from_utf8_lossy(text),
            Line::TooLong { .. } => "(a line that is too long for the log)".into(),
        };
        // A child must not write to a terminal what moves its cursor.
        let text = text.replace(char::is_control, "\u{fffd}");
        match limit.allow(pool.core.now()) {
            Some(0) => tracing::info!(route, "{text}"),
            Some(left_out) => tracing::info!(route, left_out, "{text}"),
            None => stats.add(StdioEvent::ErrorLineDropped),
        }
        *last.borrow_mut() = text;
    };
    while let Ok(Some(bytes)) = errors.recv().await {
        lines.feed(&bytes, &mut each);
    }
    lines.finish(each);
}
