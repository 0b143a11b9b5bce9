//! The hops that there are, and one that runs.

use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use adit::engine::ladder::DriverChoice;

use crate::place::{Place, Secrets};
use crate::{on_adit, on_monoio, on_tokio, on_tokio_uring, process};

/// What the others are compared with: the engine as it runs where it may, parked when idle as the rivals are.
pub(crate) const OURS: &str = "uring";
/// How long ours spins where it does.
const SPIN: Duration = Duration::from_micros(50);

type Serve = fn(Place) -> io::Result<()>;

/// Every hop: ours first, parking and spinning, then the rivals.
pub(crate) const HOPS: [(&str, Serve); 7] = [
    (OURS, |place| on_adit::serve(DriverChoice::Uring, Duration::ZERO, place)),
    ("epoll", |place| on_adit::serve(DriverChoice::Epoll, Duration::ZERO, place)),
    ("uring-spin", |place| on_adit::serve(DriverChoice::Uring, SPIN, place)),
    ("epoll-spin", |place| on_adit::serve(DriverChoice::Epoll, SPIN, place)),
    ("tokio", on_tokio::serve),
    ("monoio", on_monoio::serve),
    ("tokio-uring", on_tokio_uring::serve),
];
/// The rivals begin here.
pub(crate) const RIVALS: [&str; 3] = ["tokio", "monoio", "tokio-uring"];

/// A hop that runs. Dropping it ends it.
pub(crate) struct Hop {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Hop {
    pub(crate) fn start(name: &'static str, upstream: SocketAddr, cpu: usize, secrets: &Secrets) -> io::Result<Hop> {
        let child = Command::new(std::env::current_exe()?)
            .args(["--serve", name, &upstream.to_string(), &cpu.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        // From here on whoever fails drops the hop, and so ends the process.
        let mut hop = Hop { name, address: upstream, child };
        let mut stdin = hop.child.stdin.take().expect("piped above");
        stdin.write_all(secrets.cert_pem.as_bytes())?;
        stdin.write_all(secrets.key_pem.as_bytes())?;
        drop(stdin);
        let mut line = String::new();
        BufReader::new(hop.child.stdout.take().expect("piped above")).read_line(&mut line)?;
        hop.address = line.trim().parse().map_err(|_| io::Error::other("it ended before it listened"))?;
        Ok(hop)
    }

    /// The CPU time that it has taken so far.
    pub(crate) fn cpu_ns(&self) -> io::Result<u64> {
        process::cpu_ns(self.child.id())
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
