//! The command `adit-loadtest serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::fail;
use super::load_args::DriverArg;
use super::output::print;
use crate::run::Interrupt;
use crate::serve::{AnswerSettings, Certificate, Form, HttpsSettings, ServeSettings, Server, ServiceTime};
use crate::units::{bytes, time};

/// How often the server checks whether it has to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The command-line flags of `serve`.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Address for HTTP; with port 0 the system chooses the port
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// Address for HTTPS, in addition
    #[arg(long, value_name = "IP:PORT")]
    https_listen: Option<SocketAddr>,
    /// File with the certificate chain for HTTPS (PEM) [default: a new certificate, whose authority --ca-out writes]
    #[arg(long, value_name = "FILE", requires_all = ["key_file", "https_listen"])]
    cert_file: Option<PathBuf>,
    /// File with the key of that certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
    /// File for the certificate of the new authority (PEM)
    #[arg(long, value_name = "FILE", conflicts_with = "cert_file", requires = "https_listen")]
    ca_out: Option<PathBuf>,
    /// A host name in the new certificate; may be repeated
    #[arg(long = "name", value_name = "HOST", requires = "https_listen")]
    names: Vec<String>,
    /// Service time of a call: 20ms, exp:20ms or bimodal:1ms,200ms,0.05 (fast, slow, share of slow ones)
    #[arg(long, value_name = "TIME", default_value = "0s")]
    service: ServiceTime,
    /// The seed of random service times
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Bytes of an answer's body; an MCP answer is at least as long as its JSON-RPC envelope
    #[arg(long, value_name = "SIZE", value_parser = bytes, default_value = "1024")]
    answer: u64,
    /// The form of MCP answers
    #[arg(long, value_enum, default_value = "json")]
    form: FormArg,
    /// Number of events in an answer that is an event stream
    #[arg(long, value_name = "N", default_value_t = 1)]
    events: u32,
    /// Time between two events
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "0s")]
    event_gap: Duration,
    /// Assign no session ids at revision 2025-11-25
    #[arg(long)]
    no_sessions: bool,
    /// Count calls that arrive more than once, for GET /stats
    #[arg(long)]
    count_doubled: bool,
    /// Keep the ids of calls in this file, so that calls are also counted across restarts
    #[arg(long, value_name = "FILE", requires = "count_doubled")]
    calls_file: Option<PathBuf>,
    /// The CPU to which the server is pinned
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
    /// The driver, which is the interface to the kernel
    #[arg(long, value_enum, default_value = "auto")]
    driver: DriverArg,
    /// How long to poll for requests before sleeping
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "0s")]
    spin: Duration,
    /// Print the addresses as one JSON object
    #[arg(long)]
    json: bool,
}

/// The forms of an MCP answer, as command-line values.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormArg {
    /// One JSON object as the body
    Json,
    /// An event stream (text/event-stream)
    Sse,
}

impl ServeArgs {
    fn settings(&self) -> ServeSettings {
        let certificate = match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => Certificate::Files { cert: cert.clone(), key: key.clone() },
            _ => Certificate::Made { names: self.names.clone() },
        };
        let form = match self.form {
            FormArg::Json => Form::Json,
            FormArg::Sse => Form::Events { count: self.events, gap: self.event_gap },
        };
        ServeSettings {
            listen: self.listen,
            https: self.https_listen.map(|listen| HttpsSettings { listen, certificate }),
            service: self.service,
            seed: self.seed,
            answer: AnswerSettings { len: self.answer, form },
            sessions: !self.no_sessions,
            count_doubled: self.count_doubled,
            calls_file: self.calls_file.clone(),
            cpu: self.cpu,
            driver: self.driver.into(),
            spin: self.spin,
            ..ServeSettings::default()
        }
    }

    fn announce(&self, server: &Server) {
        let url = format!("http://{}/mcp", server.address());
        let https_url = server.https_address().map(|address| format!("https://{address}/mcp"));
        if self.json {
            let ca_file = self.ca_out.as_ref().map(|path| path.display().to_string());
            print(&json!({
                "event": "listening",
                "url": url,
                "https_url": https_url,
                "ca_file": ca_file,
                "driver": server.driver(),
            }));
        } else {
            print(&format_args!("MCP at {url}{}", https_url.map(|url| format!(" and {url}")).unwrap_or_default()));
            print(&format_args!(
                "also: GET /bytes/N, GET /body/N, POST /body, GET /events, GET /ticks/N/AT_ONCE/GAP_US/BYTES, GET and POST /, GET and DELETE /stats, POST /release"
            ));
            print(&format_args!("driver: {}", server.driver()));
        }
    }
}

pub(super) fn execute(args: &ServeArgs, interrupt: &Interrupt) -> u8 {
    let server = match Server::start(args.settings()) {
        Ok(server) => server,
        Err(error) => return fail(&error),
    };
    if let (Some(path), Some(pem)) = (&args.ca_out, server.ca_pem())
        && let Err(error) = std::fs::write(path, pem)
    {
        return fail(&format_args!("--ca-out {} cannot be written: {error}", path.display()));
    }
    args.announce(&server);
    while !interrupt.is_raised() {
        std::thread::sleep(LOOK_INTERVAL);
    }
    match server.stop() {
        Ok(()) => 0,
        Err(error) => fail(&error),
    }
}
