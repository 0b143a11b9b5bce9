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
use crate::stdio::doorway::Sign;
use crate::stdio::front;
use crate::stdio::hall::Hall;
use crate::stdio::settings::StdioSettings;
use crate::stdio::shop::Shop;
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
    mut entering: MailReceiver<Detached>,
    sign: Arc<Sign>,
) {
    let hall = Rc::new(Hall::new(&core, &settings.route));
    let starting = core.spawn_held(keep_started(Rc::clone(&hall), settings, sign));
    let mut connections = Vec::<Task<()>>::new();
    while let Some(detached) = entering.recv().await {
        connections.retain(|task| !task.is_finished());
        connections.push(core.spawn_held(front::serve(Rc::clone(&hall), detached)));
    }
    // Nobody can start another child from here on. Those that run end as their sockets are closed.
    drop((starting, connections));
    hall.close();
}

/// Starts a child at once, and another one whenever one is wanted.
async fn keep_started(hall: Rc<Hall>, settings: Arc<StdioSettings>, sign: Arc<Sign>) {
    let mut pause = PAUSE_MIN;
    loop {
        let began = hall.core.now();
        let why = match start(&hall, &settings).await {
            Ok(()) => hall.child_wanted().await,
            Err(why) => Some(why),
        };
        // Without a reason there is just need of another one.
        let Some(why) = why else { continue };
        if hall.core.now() - began >= STEADY_AFTER {
            pause = PAUSE_MIN;
        }
        tracing::warn!(route = hall.route, again_in_ms = pause.as_millis(), "{why}");
        sign.set(Some(why.clone()).filter(|_| hall.is_empty()));
        hall.on_failed(why);
        hall.rests.set(true);
        hall.core.sleep(pause).await;
        hall.rests.set(false);
        pause = (pause * 2).min(PAUSE_MAX);
        sign.set(None);
    }
}

/// Starts a child, which is spare until an agent comes.
async fn start(hall: &Rc<Hall>, settings: &Arc<StdioSettings>) -> Result<(), String> {
    let StartedChild { io, errors, end } = child::start(settings).await?;
    let adopt = async |detached| hall.core.adopt(detached, SocketOptions::default()).await;
    let adopted = (adopt(io).await, adopt(errors).await);
    let (Ok(io), Ok(errors)) = adopted else { return Err("the sockets of the child cannot be used".to_owned()) };
    tracing::info!(route = hall.route, "started {}", settings.program());
    let shop = Rc::new(Shop::new(&hall.core, &hall.route));
    hall.add(&shop);
    let hall = Rc::clone(hall);
    hall.core.clone().spawn(async move {
        let why = serve(&hall.core, &shop, &io, &errors, end).await;
        let was_closed = shop.is_over();
        shop.close();
        if !was_closed {
            hall.on_ended(&shop, why);
        }
    });
    Ok(())
}

/// Serves a child until it has ended or its shop is closed; returns why. The child ends when its socket is dropped.
async fn serve(core: &Core, shop: &Rc<Shop>, io: &Socket, errors: &Socket, mut end: MailReceiver<String>) -> String {
    let ended = async { end.recv().await.unwrap_or_else(|| "the child cannot be waited for".to_owned()) };
    let log_errors = async {
        log_lines(core, &shop.route, errors).await;
        future::pending().await
    };
    let tidying = async {
        loop {
            core.sleep(IDLE_CHECK).await;
            shop.end_idle_sessions();
        }
    };
    let talking = async {
        future::or(read_child(shop, io), write_child(shop, io)).await;
        "the child has closed its standard input or output".to_owned()
    };
    let closed = async {
        shop.over().await;
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
async fn read_child(shop: &Shop, io: &Socket) {
    let (mut lines, mut limit, mut strays) = (Lines::new(LINE_LEN_MAX), LogRateLimit::new(1), 0_u64);
    let mut each = |line: Line<'_>| match line {
        Line::Message(message) => shop.on_child(message),
        Line::Text(_) | Line::TooLong => {
            strays += 1;
            let what = if line == Line::TooLong { "is too long" } else { "is no message" };
            if limit.allow(shop.core.now()).is_some() {
                tracing::warn!(
                    route = shop.route,
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
async fn write_child(shop: &Shop, io: &Socket) {
    loop {
        let seen = shop.added.count();
        while let Some(line) = shop.take_line() {
            if send_bytes(io, shop.core.pool(), &line).await.is_err() {
                return;
            }
            shop.on_written(line.len());
        }
        shop.added.after(seen).await;
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
