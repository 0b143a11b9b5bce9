//! What the tunnel adds to a call: edge and connector in one process, against calling the upstream directly, in the same
//! run.
//!
//! ```sh
//! cargo bench --bench tunnel -- [--seconds 2] [--rounds 3] [--idle 1000]
//! ```
//!
//! Agents and upstream run on the first CPU, adit on the last. Latencies are a closed loop's; CPU is that of adit's
//! process alone. Rounds are interleaved, and medians over rounds are printed.

#[path = "process/mod.rs"]
mod process;

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

/// Bytes of the response's body, and about as many of the request's.
const PAYLOAD_LEN: usize = 1024;
/// Calls before those that count.
const WARM_UP: Duration = Duration::from_millis(300);

fn main() -> io::Result<()> {
    let options = Options::from_args();
    // The last CPU is adit's.
    adit::engine::pin_to_cpu(0)?;
    let upstream = serve_upstream()?;
    let variants = [("uring", "spin", "50"), ("uring", "park", "0"), ("epoll", "spin", "50"), ("epoll", "park", "0")];
    let mut tunnels = Vec::new();
    for (driver, wait, spin_us) in variants {
        tunnels.push((format!("{driver} {wait}"), Tunnel::start(driver, spin_us, upstream)?));
    }
    println!("idle: resident memory of edge and connector");
    for (name, tunnel) in &tunnels {
        println!("  {name:<12} {:>8} KiB", tunnel.resident_kib()?);
    }
    for connections in [1, 64] {
        compare(&options, connections, upstream, &tunnels)?;
    }
    idle_streams(&options, &tunnels)
}

struct Options {
    seconds: f64,
    rounds: usize,
    idle: usize,
}

impl Options {
    fn from_args() -> Options {
        let args: Vec<String> = std::env::args().collect();
        let value = |name: &str, default: f64| {
            let at = args.iter().position(|arg| arg == name);
            at.and_then(|at| args.get(at + 1)).and_then(|text| text.parse().ok()).unwrap_or(default)
        };
        Options {
            seconds: value("--seconds", 2.0),
            rounds: value("--rounds", 3.0) as usize,
            idle: value("--idle", 1000.0) as usize,
        }
    }
}

fn compare(
    options: &Options,
    connections: usize,
    upstream: SocketAddr,
    tunnels: &[(String, Tunnel)],
) -> io::Result<()> {
    let mut rows: Vec<Vec<Figures>> = vec![Vec::new(); tunnels.len() + 1];
    for _ in 0..options.rounds {
        let direct = || Client::plain(upstream);
        rows[0].push(measure(options, connections, &direct, None)?);
        for (row, (_, tunnel)) in rows[1..].iter_mut().zip(tunnels) {
            row.push(measure(options, connections, &|| tunnel.client(), Some(tunnel))?);
        }
    }
    let direct = Figures::median(&rows[0]);
    println!("\n{connections} in flight, {PAYLOAD_LEN} bytes each way, TLS to the edge; µs");
    println!(
        "  {:<12} {:>8} {:>8} {:>8} {:>10} {:>10} {:>9} {:>9}",
        "", "p50", "p95", "p99", "added p50", "added p95", "CPU/call", "calls/s"
    );
    let names = std::iter::once("direct").chain(tunnels.iter().map(|(name, _)| name.as_str()));
    for (name, row) in names.zip(&rows) {
        let f = Figures::median(row);
        println!(
            "  {name:<12} {:>8.1} {:>8.1} {:>8.1} {:>10.1} {:>10.1} {:>9.1} {:>9.0}",
            f.p50,
            f.p95,
            f.p99,
            f.p50 - direct.p50,
            f.p95 - direct.p95,
            f.cpu,
            f.per_s
        );
    }
    Ok(())
}

fn idle_streams(options: &Options, tunnels: &[(String, Tunnel)]) -> io::Result<()> {
    println!("\n{} idle streams: resident memory of both sides, KiB each", options.idle);
    for (name, tunnel) in tunnels {
        let before = tunnel.resident_kib()?;
        let mut held = Vec::new();
        for _ in 0..options.idle {
            let mut client = tunnel.client()?;
            client.open_stream()?;
            held.push(client);
        }
        let after = tunnel.resident_kib()?;
        println!("  {name:<12} {:>8.2}", after.saturating_sub(before) as f64 / options.idle as f64);
    }
    Ok(())
}

/// Figures of one round, or medians over rounds; times in microseconds.
#[derive(Clone, Copy, Default)]
struct Figures {
    p50: f64,
    p95: f64,
    p99: f64,
    cpu: f64,
    per_s: f64,
}

impl Figures {
    fn median(rounds: &[Figures]) -> Figures {
        let of = |pick: fn(&Figures) -> f64| {
            let mut all: Vec<f64> = rounds.iter().map(pick).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        Figures {
            p50: of(|f| f.p50),
            p95: of(|f| f.p95),
            p99: of(|f| f.p99),
            cpu: of(|f| f.cpu),
            per_s: of(|f| f.per_s),
        }
    }
}

fn measure(
    options: &Options,
    connections: usize,
    connect: &(dyn Fn() -> io::Result<Client> + Sync),
    tunnel: Option<&Tunnel>,
) -> io::Result<Figures> {
    let clients: Vec<Client> = (0..connections).map(|_| connect()).collect::<io::Result<_>>()?;
    let began = Instant::now();
    let counted_from = began + WARM_UP;
    let until = counted_from + Duration::from_secs_f64(options.seconds);
    let (mut took, cpu_ns, calls) = thread::scope(|scope| {
        let threads: Vec<_> =
            clients.into_iter().map(|client| scope.spawn(move || run(client, counted_from, until))).collect();
        thread::sleep(counted_from.saturating_duration_since(Instant::now()));
        let before = tunnel.map_or(Ok(0), Tunnel::cpu_ns);
        thread::sleep(until.saturating_duration_since(Instant::now()));
        let after = tunnel.map_or(Ok(0), Tunnel::cpu_ns);
        let mut took = Vec::new();
        for thread in threads {
            took.extend(thread.join().expect("a client does not panic")?);
        }
        let calls = took.len();
        io::Result::Ok((took, after? - before?, calls))
    })?;
    took.sort_unstable();
    let at = |q: f64| {
        took.get(((took.len() as f64 * q) as usize).min(took.len().saturating_sub(1)))
            .map_or(0.0, |ns| *ns as f64 / 1e3)
    };
    Ok(Figures {
        p50: at(0.50),
        p95: at(0.95),
        p99: at(0.99),
        cpu: cpu_ns as f64 / 1e3 / calls.max(1) as f64,
        per_s: calls as f64 / options.seconds,
    })
}

/// Calls one after another; returns how long each took that began in the counted time, in nanoseconds.
fn run(mut client: Client, counted_from: Instant, until: Instant) -> io::Result<Vec<u64>> {
    let mut took = Vec::new();
    loop {
        let began = Instant::now();
        if began >= until {
            return Ok(took);
        }
        client.call()?;
        if began >= counted_from {
            took.push(began.elapsed().as_nanos() as u64);
        }
    }
}

/// `adit up` in a process of its own, before the bench's upstream.
struct Tunnel {
    child: Child,
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Tunnel {
    fn start(driver: &str, spin_us: &str, upstream: SocketAddr) -> io::Result<Tunnel> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_adit"))
            .args(["up", "--json", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--upstream", &format!("http://{upstream}")])
            .env("ADIT_DRIVER", driver)
            .env("ADIT_ENGINE_SPIN_US", spin_us)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let stdout = child.stdout.take().expect("piped above");
        let mut lines = BufReader::new(stdout).lines();
        let url = loop {
            let line = lines.next().ok_or_else(|| io::Error::other("adit up ended before it said where it is"))??;
            let event: serde_json::Value = serde_json::from_str(&line)?;
            if let Some(url) = event["agent_url"].as_str() {
                break url.to_owned();
            }
        };
        // So that it never waits for a reader.
        thread::spawn(move || lines.for_each(drop));
        let port = url.rsplit(':').next().and_then(|rest| rest.split('/').next()).and_then(|port| port.parse().ok());
        let port = port.ok_or_else(|| io::Error::other(format!("no port in {url}")))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
            .with_no_client_auth();
        let tunnel = Tunnel { child, address: (Ipv4Addr::LOCALHOST, port).into(), tls: Arc::new(tls) };
        tunnel.client()?.call()?;
        Ok(tunnel)
    }

    fn client(&self) -> io::Result<Client> {
        let socket = TcpStream::connect(self.address)?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::clone(&self.tls), name).map_err(io::Error::other)?;
        Ok(Client::new(Stream::Tls(Box::new(StreamOwned::new(session, socket)))))
    }

    /// CPU time of all its threads.
    fn cpu_ns(&self) -> io::Result<u64> {
        process::cpu_ns(self.child.id())
    }

    fn resident_kib(&self) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        Ok(line.trim().trim_end_matches(" kB").parse().unwrap_or(0))
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes any certificate: what is measured is time.
#[derive(Debug)]
struct AnyServer(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// An agent with one connection.
struct Client {
    stream: Stream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl Client {
    fn plain(address: SocketAddr) -> io::Result<Client> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        Ok(Client::new(Stream::Plain(socket)))
    }

    fn new(stream: Stream) -> Client {
        let filler = "x".repeat(PAYLOAD_LEN - 120);
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo","arguments":{{"text":"{filler}"}}}}}}"#
        );
        let request = format!(
            "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Client { stream, request: request.into_bytes(), buffer: vec![0; 16 * 1024] }
    }

    fn call(&mut self) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => exchange(stream, &self.request, &mut self.buffer),
            Stream::Tls(stream) => exchange(stream.as_mut(), &self.request, &mut self.buffer),
        }
    }

    /// A GET whose response begins and then stays silent.
    fn open_stream(&mut self) -> io::Result<()> {
        let request = b"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
        match &mut self.stream {
            Stream::Plain(stream) => read_head(stream, request, &mut self.buffer),
            Stream::Tls(stream) => read_head(stream.as_mut(), request, &mut self.buffer),
        }
        .map(drop)
    }
}

fn exchange(stream: &mut (impl Read + Write), request: &[u8], buffer: &mut [u8]) -> io::Result<()> {
    let (head_len, mut filled) = read_head(stream, request, buffer)?;
    if !buffer.starts_with(b"HTTP/1.1 200 ") {
        return Err(io::Error::other(String::from_utf8_lossy(&buffer[..filled]).into_owned()));
    }
    while filled < head_len + PAYLOAD_LEN {
        filled += read_some(stream, &mut buffer[filled..])?;
    }
    Ok(())
}

fn read_head(stream: &mut (impl Read + Write), request: &[u8], buffer: &mut [u8]) -> io::Result<(usize, usize)> {
    stream.write_all(request)?;
    stream.flush()?;
    let mut filled = 0;
    loop {
        filled += read_some(stream, &mut buffer[filled..])?;
        if let Some(at) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") {
            return Ok((at + 4, filled));
        }
    }
}

fn read_some(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    match stream.read(buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        n => Ok(n),
    }
}

/// A server that answers at once, a thread for each connection.
fn serve_upstream() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let spawned = thread::Builder::new().stack_size(64 * 1024).spawn(move || {
                // The tunnel or a client has gone.
                let _ = serve_connection(socket);
            });
            drop(spawned);
        }
    });
    Ok(address)
}

fn serve_connection(mut socket: TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {PAYLOAD_LEN}\r\n\r\n");
    let answer = [head.as_bytes(), &[b'y'; PAYLOAD_LEN]].concat();
    let stream = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut buffer = [0; 8 * 1024];
    let mut filled = 0;
    loop {
        let Some(head_len) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") else {
            filled += read_some(&mut socket, &mut buffer[filled..])?;
            continue;
        };
        let head_len = head_len + 4;
        if buffer.starts_with(b"GET ") {
            socket.write_all(stream)?;
            filled = 0;
            continue;
        }
        let head = String::from_utf8_lossy(&buffer[..head_len]).to_ascii_lowercase();
        let body_len = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let body_len: usize = body_len.and_then(|digits| digits.parse().ok()).unwrap_or(0);
        while filled < head_len + body_len {
            filled += read_some(&mut socket, &mut buffer[filled..])?;
        }
        socket.write_all(&answer)?;
        filled = 0;
    }
}
