//! The tasks that keep the children of a route running, on the core that owns them.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;

use crate::base::Clock;
use crate::engine::driver::SocketOptions;
use crate::engine::{ByteStream, Core, Detached, MailReceiver, Socket, Task, send_bytes};
use crate::policy::LogRateLimit;
use crate::stdio::child::{self, StartedChild};
use crate::stdio::children::Children;
use crate::stdio::http_server;
use crate::stdio::running_child::RunningChild;
use crate::stdio::settings::StdioSettings;
use crate::stdio::stdio_upstream::ChildStatus;
use crate::wire::stdio::{Line, Lines};

/// The longest line of a child's standard output, in bytes.
const LINE_LEN_MAX: usize = 16 * 1024 * 1024;
/// The longest line of its standard error; longer ones are left out of the log.
const ERROR_LINE_LEN_MAX: usize = 4 * 1024;
/// How many lines of a child are logged in a second.
const LINES_LOGGED_MAX: u32 = 20;
/// The pause before a child is started again, and the longest one; each pause is twice as long as the one before.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// After a child has run for this long, the next pause is the shortest again.
const STEADY_AFTER: Duration = Duration::from_secs(30);
/// How often sessions are looked through for idle ones.
const IDLE_CHECK: Duration = Duration::from_secs(60);

/// Keeps children running until nobody can enter any more.
pub(super) async fn run(
    core: Core,
    settings: Arc<StdioSettings>,
    mut waiting: MailReceiver<Detached>,
    status: Arc<ChildStatus>,
) {
    let children = Rc::new(Children::new(&core, &settings.route));
    let starting = core.spawn_held(keep_started(Rc::clone(&children), settings, status));
    let mut connections = Vec::<Task<()>>::new();
    while let Some(detached) = waiting.recv().await {
        connections.retain(|task| !task.is_finished());
        connections.push(core.spawn_held(http_server::serve(Rc::clone(&children), detached)));
    }
    // Nobody can start another child from here on. Those that run end as their sockets are closed.
    drop((starting, connections));
    children.close();
}

/// Starts a child at once, and another one whenever one is wanted.
async fn keep_started(children: Rc<Children>, settings: Arc<StdioSettings>, status: Arc<ChildStatus>) {
    let mut pause = PAUSE_MIN;
    loop {
        let began = children.core.now();
        let why = match start(&children, &settings).await {
            Ok(()) => children.child_wanted().await,
            Err(why) => Some(why),
        };
        // Without a reason there is just need of another one.
        let Some(why) = why else { continue };
        if children.core.now() - began >= STEADY_AFTER {
            pause = PAUSE_MIN;
        }
        tracing::warn!(route = children.route, again_in_ms = pause.as_millis(), "{why}");
        status.set(Some(why.clone()).filter(|_| children.is_empty()));
        children.on_failed(why);
        children.is_paused.set(true);
        children.core.sleep(pause).await;
        children.is_paused.set(false);
        pause = (pause * 2).min(PAUSE_MAX);
        status.set(None);
    }
}

/// Starts a child, which is spare until an agent comes.
async fn start(children: &Rc<Children>, settings: &Arc<StdioSettings>) -> Result<(), String> {
    let StartedChild { io, errors, end } = child::start(settings).await?;
    let adopt = async |detached| children.core.adopt(detached, SocketOptions::default()).await;
    let adopted = (adopt(io).await, adopt(errors).await);
    let (Ok(io), Ok(errors)) = adopted else { return Err("the sockets of the child cannot be used".to_owned()) };
    tracing::info!(route = children.route, "started {}", settings.program());
    let child = Rc::new(RunningChild::new(&children.core, &children.route));
    children.add(&child);
    let children = Rc::clone(children);
    children.core.clone().spawn(async move {
        let why = serve(&children.core, &child, &io, &errors, end).await;
        let was_closed = child.is_over();
        child.close();
        if !was_closed {
            children.on_ended(&child, why);
        }
    });
    Ok(())
}

/// Serves a child until it has ended or its child is closed; returns why. The child ends when its socket is dropped.
async fn serve(
    core: &Core,
    child: &Rc<RunningChild>,
    io: &Socket,
    errors: &Socket,
    mut end: MailReceiver<String>,
) -> String {
    let ended = async { end.recv().await.unwrap_or_else(|| "the child cannot be waited for".to_owned()) };
    let log_errors = async {
        log_lines(core, &child.route, errors).await;
        future::pending().await
    };
    let tidying = async {
        loop {
            core.sleep(IDLE_CHECK).await;
            child.end_idle_sessions();
        }
    };
    let talking = async {
        future::or(read_child(child, io), write_child(child, io)).await;
        "the child has closed its standard input or output".to_owned()
    };
    let closed = async {
        child.over().await;
        String::new()
    };
    // How a child has ended says more than that it has closed its output just before.
    let talking = async {
        let why = talking.await;
        core.sleep(PAUSE_MIN).await;
        why
    };
    future::or(future::or(ended, closed), future::or(future::or(talking, log_errors), tidying)).await
}

/// Reads the child's messages until it closes its output.
async fn read_child(child: &RunningChild, io: &Socket) {
    let (mut lines, mut limit, mut strays) = (Lines::new(LINE_LEN_MAX), LogRateLimit::new(1), 0_u64);
    let mut each = |line: Line<'_>| match line {
        Line::Message(message) => child.on_child(message),
        Line::Text(_) | Line::TooLong => {
            strays += 1;
            let what = if line == Line::TooLong { "is too long" } else { "is no message" };
            if limit.allow(child.core.now()).is_some() {
                tracing::warn!(
                    route = child.route,
                    total = strays,
                    "a line of the child's standard output {what}: it should log to standard error"
                );
            }
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
            if send_bytes(io, child.core.pool(), &line).await.is_err() {
                return;
            }
            child.on_written(line.len());
        }
        child.added.after(seen).await;
    }
}

/// Logs the lines of the child's standard error.
async fn log_lines(core: &Core, route: &str, errors: &Socket) {
    let (mut lines, mut limit) = (Lines::new(ERROR_LINE_LEN_MAX), LogRateLimit::new(LINES_LOGGED_MAX));
    let mut each = |line: Line<'_>| {
        let text = match line {
            Line::Message(text) | Line::Text(text) => String::from_utf8_lossy(text),
            Line::TooLong => "(a line that is too long for the log)".into(),
        };
        // A child must not write to a terminal what moves its cursor.
        let text = text.replace(char::is_control, "\u{fffd}");
        match limit.allow(core.now()) {
            Some(0) => tracing::info!(route, "{text}"),
            Some(left_out) => tracing::info!(route, left_out, "{text}"),
            None => {}
        }
    };
    while let Ok(Some(bytes)) = errors.recv().await {
        lines.feed(&bytes, &mut each);
    }
    lines.finish(each);
}
