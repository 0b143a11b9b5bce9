//! What it costs to create a tunnel beside thousands of others: at most 5 ms is asked.
//!
//! ```sh
//! cargo bench --bench create -- [--tunnels 9800] [--creates 100] [--fail-over-ms 5]
//! ```
//!
//! With `--fail-over-ms` it fails if the p95 of a kind of create is longer. A ratio to another figure would say nothing here: what
//! is asked is a time, and it holds for one machine.
//!
//! An edge has at most 10,000 tunnels and 10,000 routes. The 9,800 of the store and the 200 hosts of the 150 creates fill the table,
//! so that the last create is measured in the largest one that there is.
//!
//! The admin API of an edge, a process of its own, is called over loopback, one create after the other; each is on the disk
//! and served when it is answered. The store is filled before the edge starts.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use adit::base::{Secret, SecretHash, Traffic};
use adit::control::WallTime;
use adit::control::store::{NewCredential, NewTunnel, Note, SqliteStore, Store};
use adit::policy::TunnelLists;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().collect();
    let (tunnels, creates) = (value(&args, "--tunnels")?.unwrap_or(9_800), value(&args, "--creates")?.unwrap_or(100));
    let limit: Option<f64> = value(&args, "--fail-over-ms")?;
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    let init = Command::new(env!("CARGO_BIN_EXE_adit")).args(["edge", "init", "--data-dir"]).arg(&data).output()?;
    assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
    fill(&data, tunnels)?;
    let edge = EdgeProcess::start(&data)?;
    let token = std::fs::read_to_string(data.join("admin.token"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let p95 = runtime.block_on(measure(&edge, token.trim(), tunnels, creates))?;
    match limit {
        Some(limit) if p95 > limit => {
            Err(format!("the p95 of a create is {p95:.2} ms, which is over {limit} ms").into())
        }
        _ => Ok(()),
    }
}

/// The value of a flag, if it is given.
fn value<T: FromStr>(args: &[String], name: &str) -> Result<Option<T>, Failure> {
    let Some(at) = args.iter().position(|arg| arg == name) else { return Ok(None) };
    let text = args.get(at + 1).map_or("", String::as_str);
    text.parse().map(Some).map_err(|_| format!("'{text}' is not a valid value of {name}").into())
}

/// Puts so many tunnels with one host each into the store.
fn fill(data: &Path, tunnels: usize) -> Result<(), Failure> {
    let mut store = SqliteStore::open(&data.join("store.sqlite"), &data.join("backups"))?;
    for n in 0..tunnels {
        let new = NewTunnel {
            id: format!("tnl_{n}").parse()?,
            display_name: None,
            hosts: vec![format!("h{n}.example.test").parse()?],
            hosts_made_up: false,
            traffic: Traffic::Plain,
            lists: TunnelLists::default(),
            credential: NewCredential {
                id: format!("crd_{n}").parse()?,
                hash: SecretHash::of(&Secret::from(format!("secret-{n}").as_str())),
            },
            requester: None,
        };
        store.create_tunnel(&new, &Note { at: WallTime::now(), reason: None })?;
    }
    Ok(())
}

/// Creates tunnels of each kind; the longest p95 of them, in ms.
async fn measure(edge: &EdgeProcess, token: &str, tunnels: usize, creates: usize) -> Result<f64, Failure> {
    let client = reqwest::Client::new();
    let url = format!("http://{}/v1/tunnels", edge.admin);
    // At its start the edge makes a back-up, behind which the first request of the store waits.
    let ready = client.get(&url).bearer_auth(token).send().await?;
    assert!(ready.status().is_success(), "{}", ready.status());
    println!("{tunnels} tunnels in the store, {creates} hosts created one after the other, ms for each create");
    let mut longest = 0.0_f64;
    for (what, hosts) in
        [("one host", vec!["n{n}.example.test"]), ("a host and its wildcard", vec!["w{n}.test", "*.w{n}.test"])]
    {
        let (mut times, before) = (Vec::new(), edge.cpu()?);
        for n in 0..creates / hosts.len() {
            let hosts: Vec<String> = hosts.iter().map(|host| host.replace("{n}", &n.to_string())).collect();
            let request = client.post(&url).bearer_auth(token).json(&serde_json::json!({ "hosts": hosts }));
            let began = Instant::now();
            let answer = request.send().await?;
            let status = answer.status();
            let text = answer.text().await?;
            times.push(began.elapsed());
            assert!(status.is_success(), "{text}");
        }
        let cpu = edge.cpu()?.saturating_sub(before);
        times.sort_unstable();
        let at = |percent: usize| ms(times[(times.len() - 1) * percent / 100]);
        let each = ms(cpu) / times.len() as f64;
        longest = longest.max(at(95));
        println!("  {what:<24} p50 {:7.2}  p95 {:7.2}  max {:7.2}  edge's CPU {each:7.2}", at(50), at(95), at(100));
    }
    Ok(longest)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// `adit edge` in a process of its own, killed when dropped.
struct EdgeProcess {
    child: Child,
    admin: String,
}

impl EdgeProcess {
    fn start(data: &Path) -> Result<EdgeProcess, Failure> {
        let any = "127.0.0.1:0";
        let mut child = Command::new(env!("CARGO_BIN_EXE_adit"))
            .args(["edge", "--json", "--log-level", "error", "--cores", "1", "--set", "engine.pin=false"])
            .args(["--listen", any, "--connectors-listen", any, "--admin", any, "--data-dir"])
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("it is piped")?).lines();
        let admin = loop {
            let line = lines.next().ok_or("the edge ended before it listened")??;
            let event: serde_json::Value = serde_json::from_str(&line)?;
            if let Some(address) = event["admin"].as_str() {
                break address.to_owned();
            }
        };
        // So that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(EdgeProcess { child, admin })
    }

    /// CPU time of all its threads.
    fn cpu(&self) -> io::Result<Duration> {
        let mut sum = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
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
