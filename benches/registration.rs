//! What it costs to let connectors in.
//!
//! ```sh
//! cargo bench --bench registration -- [--handshakes 2000] [--connectors 1000]
//! ```
//!
//! First a full mutual handshake of a link, both sides in turn on one thread, each side's time apart: at most 0.6 ms of CPU a
//! side is asked. Then connectors, all in this process, that lose one edge, a process of its own: how long until all of them
//! have a link again, from the moment when it listens, and what CPU that took; 1,000 within 10 s are asked.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use adit::base::Secret;
use adit::connector::{Connector, ConnectorSettings, ConnectorTables, EdgeTls};
use adit::dial::Resolver;
use adit::engine::{Cores, EngineSettings, Lease, Pool, mailbox};
use adit::private;
use adit::tls::{
    ALPN_LINK, Authority, CertSet, ClientSettings, Clients, CurrentIdentity, KeyRequest, ReloadingCerts, Roots,
    ServerCert, ServerName, ServerSettings, Session, WallClock, client_config, server_config,
};

const EDGE_NAME: &str = "edge.test";
const SECRET: &str = "a-secret-for-benches-only-0123456789";
const DAY: Duration = Duration::from_secs(24 * 3600);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str, default: usize| {
        let at = args.iter().position(|arg| arg == name);
        at.and_then(|at| args.get(at + 1)).and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let site = Site::new()?;
    handshakes(&site, value("--handshakes", 2000))?;
    reconnects(&site, value("--connectors", 1000))
}

/// An authority and what it vouches for, on disk.
struct Site {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Site {
    fn new() -> Result<Site, Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let now = WallClock::default().now();
        let path = |name: &str| dir.path().join(name);
        let made = Authority::make("bench", now)?;
        private::write(&path("ca.pem"), made.cert_pem.as_bytes())?;
        private::write(&path("ca.key"), made.key_pem.expose())?;
        let authority = Authority::load(&path("ca.pem"), &path("ca.key"), now)?;
        let issued = authority.issue_chain(&[EDGE_NAME.to_owned()], now, DAY)?;
        private::write(&path("edge.pem"), issued.cert_pem.as_bytes())?;
        private::write(&path("edge.key"), issued.key_pem.expose())?;
        private::write(&path("secret"), SECRET.as_bytes())?;
        Ok(Site { dir, authority })
    }

    fn roots(&self) -> Result<Roots, Box<dyn std::error::Error>> {
        let mut roots = Roots::new();
        roots.add_der(self.authority.cert_der().clone())?;
        Ok(roots)
    }
}

fn handshakes(site: &Site, count: usize) -> Result<(), Box<dyn std::error::Error>> {
    let path = |name: &str| site.dir.path().join(name);
    let clock = WallClock::default();
    let cert = ServerCert::load(&path("edge.pem"), &path("edge.key"), clock.now())?;
    let settings = ServerSettings {
        alpn: vec![ALPN_LINK.to_vec()],
        clients: Clients::Known(site.roots()?),
        ..ServerSettings::default()
    };
    let server = server_config(ReloadingCerts::new(CertSet::new([cert])?), &settings)?;
    let key = KeyRequest::new()?;
    let chain = site.authority.certify(key.csr(), &"tnl_bench".parse()?, DAY, clock.now())?.chain;
    let identity = Arc::new(CurrentIdentity::default());
    identity.replace(Some(&key.into_identity(chain)?));
    let settings = ClientSettings {
        roots: site.roots()?,
        alpn: vec![ALPN_LINK.to_vec()],
        identity: Some(identity),
        ..ClientSettings::default()
    };
    let client = client_config(settings)?;
    let pool = Pool::new(0);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..count {
        let mut took = [Duration::ZERO; 2];
        let mut sides = [None, None];
        let mut on_its_way: Vec<Lease> = Vec::new();
        let mut turn = 0;
        loop {
            let began = Instant::now();
            let side = match &mut sides[turn] {
                Some(side) => side,
                place if turn == 0 => {
                    place.insert(Session::client(Arc::clone(&client), ServerName::try_from(EDGE_NAME)?)?)
                }
                place => place.insert(Session::server(Arc::clone(&server))?),
            };
            on_its_way.drain(..).for_each(|lease| side.read(lease));
            side.advance_handshake(&pool)?;
            while let Some(lease) = side.take_outgoing(&pool)? {
                on_its_way.push(lease);
            }
            took[turn] += began.elapsed();
            let done = |side: &Option<Session>| side.as_ref().is_some_and(|side| !side.is_handshaking());
            if sides.iter().all(done) {
                break;
            }
            turn = 1 - turn;
        }
        assert!(!sides[1].as_ref().is_none_or(|side| side.peer_certificates().is_empty()), "it was mutual");
        times[0].push(took[0]);
        times[1].push(took[1]);
    }
    println!("{count} full mutual handshakes (X25519MLKEM768, ECDSA P-256 both ways, no resumption), ms a side");
    for (name, times) in ["connector", "edge"].iter().zip(&mut times) {
        times.sort_unstable();
        let ms = |quantile: usize| times[(times.len() - 1) * quantile / 100].as_secs_f64() * 1e3;
        println!("  {name:<10} p50 {:7.3}  p95 {:7.3}  p99 {:7.3}", ms(50), ms(95), ms(99));
    }
    assert_eq!(pool.usage().leased_bytes, 0, "every buffer came back");
    Ok(())
}

fn reconnects(site: &Site, count: usize) -> Result<(), Box<dyn std::error::Error>> {
    let mut edge = EdgeProcess::start(site.dir.path(), "127.0.0.1:0")?;
    let port: u16 = edge.connectors.rsplit_once(':').ok_or("no port")?.1.parse()?;
    let mut connectors = Vec::new();
    let (events, _) = mailbox(1);
    for instance in 0..count {
        let settings = ConnectorSettings {
            edge_tls: Some(Arc::new(EdgeTls::new(site.roots()?, WallClock::default(), 1)?)),
            edge_name: Some(EDGE_NAME.into()),
            links: 1,
            backoff_max: Duration::from_secs(2),
            drain_timeout: Duration::ZERO,
            ..ConnectorSettings::for_tests(
                (Ipv4Addr::LOCALHOST, port).into(),
                "tnl_bench".parse()?,
                Secret::from(SECRET),
            )
        };
        let seed = (instance as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        connectors.push(Connector::new(settings, ConnectorTables::default(), 1, seed, &events));
    }
    let running = connectors.clone();
    let engine = EngineSettings { cores: 1, pin: false, ..EngineSettings::default() };
    let _cores = Cores::start(&engine, move |core| {
        let running = running.clone();
        async move {
            for connector in running {
                core.spawn(connector.run(core.clone(), Resolver::Table(Rc::new(|_, _| Vec::new()))));
            }
            std::future::pending::<()>().await;
        }
    })?;
    let links = |of: &[Arc<Connector>]| -> u64 {
        of.iter().map(|connector| connector.counters().links_made.load(Ordering::Relaxed)).sum()
    };
    let until = |wanted: u64| {
        while links(&connectors) < wanted {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let (began, mut wanted) = (Instant::now(), count as u64);
    until(wanted);
    println!("\n{count} connectors, one core on each side");
    let first = (began.elapsed(), edge.cpu()?);
    println!(
        "  enrolled and linked       {:7.2} s  edge's CPU for each {:7.3} ms",
        first.0.as_secs_f64(),
        ms_each(first.1, count)
    );
    for away in [Duration::from_millis(500), Duration::from_secs(5)] {
        drop(edge);
        std::thread::sleep(away);
        edge = EdgeProcess::start(site.dir.path(), &format!("127.0.0.1:{port}"))?;
        let (began, before) = (Instant::now(), edge.cpu()?);
        wanted += count as u64;
        until(wanted);
        let (took, cpu) = (began.elapsed(), edge.cpu()?.saturating_sub(before));
        println!(
            "  linked again after {:>4} ms {:7.2} s  edge's CPU for each {:7.3} ms",
            away.as_millis(),
            took.as_secs_f64(),
            ms_each(cpu, count)
        );
    }
    let enrolments: u64 =
        connectors.iter().map(|connector| connector.counters().enrolments.load(Ordering::Relaxed)).sum();
    println!("  certificates asked for    {enrolments}");
    // The connectors' core goes with the process.
    Ok(())
}

fn ms_each(cpu: Duration, count: usize) -> f64 {
    cpu.as_secs_f64() * 1e3 / count.max(1) as f64
}

/// `adit edge` in a process of its own, killed when dropped.
struct EdgeProcess {
    child: Child,
    connectors: String,
}

impl EdgeProcess {
    fn start(dir: &Path, connectors: &str) -> io::Result<EdgeProcess> {
        let settings = format!(
            "[engine]\ncores = 1\npin = false\n\
             [edge]\nagents_listen = '127.0.0.1:0'\nconnectors_listen = '{connectors}'\nadmin_listen = 'off'\n\
             connectors_cert_file = 'edge.pem'\nconnectors_key_file = 'edge.key'\n\
             connectors_ca_file = 'ca.pem'\nconnectors_ca_key_file = 'ca.key'\n\
             [[tunnel]]\nid = 'tnl_bench'\nsecret_file = 'secret'\nhosts = ['mcp.test']\n"
        );
        let file = dir.join("edge.toml");
        fs::write(&file, settings)?;
        let mut child = Command::new(env!("CARGO_BIN_EXE_adit"))
            .args(["edge", "--json", "--log-level", "warn", "--config"])
            .arg(&file)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or_else(|| io::Error::other("it is piped"))?).lines();
        let connectors = loop {
            let line = lines.next().ok_or_else(|| io::Error::other("the edge ended before it listened"))??;
            let event: HashMap<String, serde_json::Value> = serde_json::from_str(&line)?;
            if let Some(address) = event.get("connectors").and_then(serde_json::Value::as_str) {
                break address.to_owned();
            }
        };
        // So that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(EdgeProcess { child, connectors })
    }

    /// CPU time of all its threads.
    fn cpu(&self) -> io::Result<Duration> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            sum += text.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(sum))
    }
}

impl Drop for EdgeProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
