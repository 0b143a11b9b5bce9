//! A stdio server that is killed while agents share it, from seeds: every answer belongs to its caller, and agents go on with the
//! next one.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use adit::base::Rng;
use adit::engine::driver::{Address, SocketOptions};
use adit::engine::sim::{Faults, SimNet, Simulation};
use adit::engine::{BUFFER_MEMORY_MIN, ByteStream, Core, Socket, StreamError};
use adit::stdio::{Confinement, RestartTerms, StdioEvent, StdioLimits, StdioSettings, StdioSharing, StdioUpstream};
use serde_json::{Value, json};

use crate::bodies::{read, read_head, send};
use crate::roles::{CONNECTOR, add_core};

/// Where the child is: on the host of its connector, as any child.
const CHILD_AT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9_000);
const AGENTS: u64 = 6;
/// How many calls each agent makes.
const CALLS: u64 = 25;
/// One call of so many kills the child.
const KILLS_ONE_IN: u64 = 20;
/// When all calls must have ended.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// The child: each connection is a process of it.
#[derive(Clone)]
struct ChildServer {
    core: Core,
    rng: Rc<RefCell<Rng>>,
    killed: Rc<Cell<u64>>,
}

impl ChildServer {
    fn start(&self) {
        let listener = self.core.listen(&Address::Tcp(CHILD_AT)).expect("a free address");
        let server = self.clone();
        self.core.spawn(async move {
            loop {
                let Ok((detached, _)) = listener.accept().await else { continue };
                let Ok(socket) = server.core.adopt(detached, SocketOptions::default()).await else { continue };
                let one = server.clone();
                server.core.spawn(async move { one.serve(Rc::new(socket)).await });
            }
        });
    }

    /// One process, until it is killed or its input ends.
    async fn serve(&self, socket: Rc<Socket>) {
        let mut input = Vec::new();
        while let Ok(Some(bytes)) = socket.recv().await {
            input.extend_from_slice(&bytes);
            drop(bytes);
            while let Some(end) = input.iter().position(|byte| *byte == b'\n') {
                let rest = input.split_off(end + 1);
                let line = std::mem::replace(&mut input, rest);
                let message: Value = serde_json::from_slice(&line).expect("a line is a message");
                if !message["id"].is_null() && !self.answer(&socket, &message).await {
                    self.killed.set(self.killed.get() + 1);
                    return socket.abort();
                }
            }
        }
    }

    /// Answers a request now or later. False if the process is killed instead.
    async fn answer(&self, socket: &Rc<Socket>, request: &Value) -> bool {
        let result = match request["method"].as_str() {
            Some("initialize") => {
                json!({"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "s", "version": "1"}})
            }
            _ => json!({"content": [{"type": "text", "text": request["params"]["arguments"]["text"]}]}),
        };
        let mut line = json!({"jsonrpc": "2.0", "id": request["id"], "result": result}).to_string().into_bytes();
        line.push(b'\n');
        let (is_killed, is_torn, wait_us) = {
            let mut rng = self.rng.borrow_mut();
            (rng.below(KILLS_ONE_IN) == 0, rng.below(2) == 0, rng.below(20_000))
        };
        if is_killed {
            if is_torn {
                // Half of an answer has left it.
                let _ = send(socket, &line[..line.len() / 2]).await;
            }
            return false;
        }
        let (socket, core) = (Rc::clone(socket), self.core.clone());
        // Answers come in any order, and those of a process that was killed not at all.
        self.core.spawn(async move {
            core.sleep(Duration::from_micros(wait_us)).await;
            let _ = send(&socket, &line).await;
        });
        true
    }
}

/// An agent that makes its calls, however often the child ends.
struct SharingAgent {
    core: Core,
    upstream: Arc<StdioUpstream>,
    number: u64,
    failed: Rc<Cell<u64>>,
}

impl SharingAgent {
    async fn run(self, done: Rc<Cell<u64>>) {
        let mut call = 0;
        while call < CALLS {
            // A child that has failed is started again after a pause.
            match self.upstream.connect(&self.core).await {
                // Calls in progress end with their child.
                Ok(socket) => match self.session(&socket, &mut call).await {
                    Ok(()) => {}
                    Err(_) => self.failed.set(self.failed.get() + 1),
                },
                Err(_) => self.core.sleep(Duration::from_millis(10)).await,
            }
        }
        done.set(done.get() + 1);
    }

    /// Calls in a session until it ends.
    async fn session(&self, socket: &Socket, call: &mut u64) -> Result<(), StreamError> {
        let mut received = Vec::new();
        let params =
            json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "a", "version": "1"}});
        let opening = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
        let (head, _) = exchange(socket, &mut received, "", &opening).await?;
        let Some(id) = field(&head, "Mcp-Session-Id") else {
            self.failed.set(self.failed.get() + 1);
            self.core.sleep(Duration::from_millis(10)).await;
            return Ok(());
        };
        let session = format!("Mcp-Session-Id: {id}\r\n");
        while *call < CALLS {
            // All agents use the same ids, and no text twice.
            let text = format!("{} asks {call}", self.number);
            let params = json!({"name": "echo", "arguments": {"text": text}});
            let message = json!({"jsonrpc": "2.0", "id": call, "method": "tools/call", "params": params});
            let (head, body) = exchange(socket, &mut received, &session, &message).await?;
            if !head.starts_with("HTTP/1.1 200 ") {
                self.failed.set(self.failed.get() + 1);
                return Ok(());
            }
            assert_eq!((&body["id"], &body["result"]["content"][0]["text"]), (&json!(call), &json!(text)), "{head}");
            *call += 1;
        }
        Ok(())
    }
}

/// Sends a message, and reads the head and the body of its response.
async fn exchange(
    socket: &Socket,
    received: &mut Vec<u8>,
    fields: &str,
    message: &Value,
) -> Result<(String, Value), StreamError> {
    let body = message.to_string();
    let request = format!(
        "POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n{fields}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    send(socket, request.as_bytes()).await?;
    let head = read_head(socket, received).await?;
    let len = field(&head, "Content-Length").and_then(|len| len.parse().ok()).expect("a response has a length");
    let body = read(socket, received, len, Duration::ZERO).await?;
    Ok((head, serde_json::from_slice(&body).unwrap_or_default()))
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn settings() -> StdioSettings {
    StdioSettings {
        route: "route".to_owned(),
        command: vec!["child".to_owned()],
        env: Vec::new(),
        cwd: None,
        guard: PathBuf::new(),
        sessions: StdioSharing::Shared,
        starts_at_boot: true,
        limits: StdioLimits {
            children_max: 4,
            child_idle: PATIENCE,
            sessions_max: 64,
            calls_max: 64,
            line_len_max: 1 << 20,
            answer_len_max: 1 << 20,
            start_timeout: Duration::from_secs(60),
            restarts: RestartTerms {
                pause_min: Duration::from_millis(1),
                pause_max: Duration::from_millis(50),
                failures_max: u32::MAX,
                open_for: Duration::from_secs(1),
            },
        },
        confinement: Confinement::default(),
        simulated: Some(Address::Tcp(CHILD_AT)),
    }
}

/// Runs one seed; returns how many children were killed, and how many calls have failed for that.
fn run(seed: u64) -> (u64, u64) {
    let mut rng = Rng::new(seed);
    let faults = Faults {
        segment_bytes_max: [97, 1_460, 16 * 1_024][rng.below(3) as usize],
        jitter_ns_max: 50_000 * rng.below(20),
        short_read_chance: 0.3,
        short_write_chance: 0.3,
        shuffle: true,
        ..Faults::none()
    };
    let mut sim = Simulation::new(SimNet::new(seed, faults));
    let (child, _) = add_core(&mut sim, CONNECTOR, 1, BUFFER_MEMORY_MIN);
    let (core, _) = add_core(&mut sim, CONNECTOR, 0, 8 << 20);
    let (killed, failed, done) = <(Rc<Cell<u64>>, Rc<Cell<u64>>, Rc<Cell<u64>>)>::default();
    ChildServer { core: child, rng: Rc::new(RefCell::new(rng)), killed: Rc::clone(&killed) }.start();
    let upstream = StdioUpstream::new(settings());
    upstream.open(&core);
    for number in 0..AGENTS {
        let agent =
            SharingAgent { core: core.clone(), upstream: Arc::clone(&upstream), number, failed: Rc::clone(&failed) };
        core.spawn(agent.run(Rc::clone(&done)));
    }
    let all = Rc::clone(&done);
    let until = sim.net().now() + PATIENCE;
    sim.run(until, || all.get() == AGENTS).unwrap_or_else(|stop| panic!("seed {seed}: {stop:?}"));
    assert_eq!(done.get(), AGENTS, "seed {seed}: an agent waits for ever");
    // The last one may have been killed just now.
    let (started, killed) = (upstream.stats().count(StdioEvent::Started), killed.get());
    assert!(started == killed || started == killed + 1, "seed {seed}: {started} were started, {killed} killed");
    (killed, failed.get())
}

#[test]
fn answers_go_to_their_callers_whenever_the_child_is_killed() {
    let runs: Vec<(u64, u64)> = (1..=12).map(run).collect();
    let killed: u64 = runs.iter().map(|(killed, _)| killed).sum();
    assert!(killed > 60 && runs.iter().all(|(_, failed)| *failed > 0), "{runs:?}");
}
