//! `adit up`.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use serde_json::json;

use crate::base::{hex, shell_word};
use crate::cli::announce::Announcer;
use crate::cli::call_times::{live_json, live_line, once_json, once_table, tool_calls};
use crate::cli::clients::up_text;
use crate::cli::command_line::CommandLine;
use crate::cli::output::print;
use crate::cli::role_args::UpArgs;
use crate::cli::run::{EXIT_FAILURE, on_control_thread, refuse};
use crate::config::Config;
use crate::process::{
    DemoServer, ERASE_LINE, Log, Measured, NODE_CERTS_ENV, RunError, UpHandle, UpProcess, random, set_live_line,
};

/// Tool calls that `--once` makes.
const ONCE_CALLS: u64 = 200;
/// How often the line of figures is rewritten on a terminal.
const LIVE_INTERVAL: Duration = Duration::from_secs(1);
/// How often a line of figures is written if it cannot be rewritten in place.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Runs `adit up`, and returns the exit code.
#[must_use]
pub fn run_up(args: UpArgs, env: &BTreeMap<String, String>) -> u8 {
    match Up::new(args, env) {
        Ok(up) => on_control_thread(up.run()),
        Err(error) => refuse(&error),
    }
}

/// Everything that is decided before anything runs.
struct Up {
    args: UpArgs,
    config: Config,
    /// The built-in server, if it is the upstream.
    demo: Option<DemoServer>,
    /// The path of the agents' URL.
    path: String,
}

impl Up {
    fn new(args: UpArgs, env: &BTreeMap<String, String>) -> Result<Up, RunError> {
        let secret = hex(&random::<32>()?);
        let (upstream, path, demo) = match args.upstream_parts() {
            Some((upstream, path)) => (upstream.to_owned(), path.to_owned(), None),
            None => {
                let demo = DemoServer::bind()?;
                let (upstream, path) = demo.url_parts();
                (upstream, path, Some(demo))
            }
        };
        let config = Config::load(&args.sources(env, &secret, &upstream))?;
        Ok(Up { args, config, demo, path })
    }

    async fn run(self) -> Result<u8, RunError> {
        let Up { args, config, demo, path } = self;
        let _log = Log::start(&config.log);
        let announcer = Announcer::new(args.json && !args.once);
        let process = UpProcess::start(&config, &path, demo, move |notice| announcer.notice(notice)).await?;
        let handle = process.handle();
        let session =
            async { if args.once { once(&handle, args.json).await } else { live(&handle, &args, announcer).await } };
        let code = process.run_beside(session).await?;
        announcer.event("ended", json!({}));
        // There is no code if the session was cut short, and then `--once` has not done its work.
        Ok(code.unwrap_or(if args.once { EXIT_FAILURE } else { 0 }))
    }
}

/// Makes the calls of `--once` and prints how long their phases took.
async fn once(handle: &UpHandle, json: bool) -> Result<u8, RunError> {
    let Measured { calls, tool, report } = handle.measure(ONCE_CALLS, |report| tool_calls(report).calls()).await?;
    let figures = tool_calls(&report);
    if json {
        print(&format!("{}\n", once_json(&calls, &figures, &report)));
    } else {
        print(&once_table(&calls, &tool, &figures, &report));
    }
    Ok(if calls.failed == 0 { 0 } else { EXIT_FAILURE })
}

/// Prints the URLs, and then figures until it is cancelled.
async fn live(handle: &UpHandle, args: &UpArgs, announcer: Announcer) -> Result<u8, RunError> {
    let facts = handle.facts();
    let ca = handle.write_ca_file()?;
    let url = facts.agent_url.as_deref().unwrap_or_default();
    if args.json {
        announcer.event(
            "listening",
            json!({
                "agents": handle.agents(),
                "agent_url": url,
                "plain_agent_url": facts.plain_agent_url,
                "admin": facts.admin_url.as_deref().map(|url| url.trim_start_matches("http://")),
                "admin_url": facts.admin_url,
                "connectors": facts.connectors_listen,
                "ca_file": ca.path(),
                "driver": facts.driver,
                "why": facts.driver_why,
            }),
        );
    } else {
        let ca = shell_word(&ca.path().to_string_lossy());
        let client = CommandLine::new(&format!("{NODE_CERTS_ENV}={ca} npx -y @modelcontextprotocol/inspector --cli"));
        print(&up_text(facts, client, args.qr));
    }
    show_figures(handle, args.json, announcer).await
}

async fn show_figures(handle: &UpHandle, json: bool, announcer: Announcer) -> Result<u8, RunError> {
    let terminal = std::io::stderr().is_terminal() && !json;
    let _line = terminal.then(LiveLine::begin);
    let mut ticks = tokio::time::interval(if terminal { LIVE_INTERVAL } else { LOG_INTERVAL });
    loop {
        ticks.tick().await;
        let report = handle.report().await;
        let Some(figures) = report.latency.as_ref().map(|latency| latency.snapshot.total()) else { continue };
        if json {
            announcer.event("figures", live_json(figures));
        } else if terminal {
            LiveLine::show(&live_line(figures));
        } else {
            tracing::info!("{}", live_line(figures));
        }
    }
}

/// The last line of a terminal, rewritten in place until this is dropped.
struct LiveLine;

impl LiveLine {
    fn begin() -> LiveLine {
        set_live_line(true);
        LiveLine
    }

    fn show(line: &str) {
        let mut stderr = std::io::stderr().lock();
        // If the terminal is gone, this is noticed elsewhere.
        let _ = write!(stderr, "{ERASE_LINE}{line}").and_then(|()| stderr.flush());
    }
}

impl Drop for LiveLine {
    fn drop(&mut self) {
        set_live_line(false);
        eprintln!();
    }
}
