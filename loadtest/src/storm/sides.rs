//! The resources that edge and connector use, and their own metrics.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use procfs::process::Process;
use serde_json::{Value, json};

/// How long a side may take to return its metrics.
const ADMIN_PATIENCE: Duration = Duration::from_secs(2);
/// The longest metrics that are read, in bytes.
const METRICS_LEN_MAX: u64 = 4 << 20;

/// One process of the tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Side {
    /// The name of the process: `edge` or `connector`.
    pub(crate) name: String,
    /// The id of the process.
    pub(crate) pid: u32,
    /// The port on which it serves metrics.
    pub(crate) admin: Option<u16>,
}

/// The state of a process at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reading {
    /// Resident memory, in KiB.
    pub(crate) rss_kib: u64,
    /// The peak of resident memory, in KiB.
    pub(crate) peak_kib: u64,
    /// The number of open file descriptors.
    pub(crate) descriptors: u64,
    /// Its own metrics, summed over labels; empty if it did not answer.
    pub(crate) metrics: BTreeMap<String, f64>,
}

impl Side {
    /// Its memory as reported by the system; none if it has ended.
    pub(crate) fn memory(&self) -> Option<Reading> {
        let process = Process::new(i32::try_from(self.pid).ok()?).ok()?;
        let status = process.status().ok()?;
        let (rss_kib, peak_kib) = (status.vmrss?, status.vmhwm?);
        Some(Reading { rss_kib, peak_kib, ..Reading::default() })
    }

    /// Like [`Side::memory`], with open descriptors and its own metrics.
    pub(crate) fn read(&self) -> Option<Reading> {
        let process = Process::new(i32::try_from(self.pid).ok()?).ok()?;
        let descriptors = process.fd_count().ok()? as u64;
        let metrics = self.metrics().unwrap_or_default();
        Some(Reading { descriptors, metrics, ..self.memory()? })
    }

    fn metrics(&self) -> io::Result<BTreeMap<String, f64>> {
        let port = self.admin.ok_or(io::ErrorKind::NotFound)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut socket = TcpStream::connect_timeout(&address, ADMIN_PATIENCE)?;
        socket.set_read_timeout(Some(ADMIN_PATIENCE))?;
        write!(socket, "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        socket.take(METRICS_LEN_MAX).read_to_string(&mut text)?;
        Ok(sums(&text))
    }
}

impl Reading {
    /// One of its metrics.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.get(name).copied()
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "rss_kib": self.rss_kib,
            "peak_kib": self.peak_kib,
            "descriptors": self.descriptors,
            "metrics": self.metrics,
        })
    }
}

/// The sum of each metric; buckets and phase times are omitted.
fn sums(text: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("adit_") && !line.contains("_phase_duration_")) {
        let Some((left, value)) = line.rsplit_once(' ') else { continue };
        let name = left.split('{').next().unwrap_or(left);
        if let Ok(value) = value.parse::<f64>() {
            *sums.entry(name.to_owned()).or_insert(0.0) += value;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_their_labels() {
        let text = "HTTP/1.1 200 OK\r\n\r\n# HELP adit_calls_open Calls\nadit_calls_open{core=\"0\"} 2\nadit_calls_open{core=\"1\"} 3\n\
                    adit_call_phase_duration_seconds_sum 9\nadit_links_open 1\n# EOF\n";
        let found = sums(text);
        assert_eq!(found, BTreeMap::from([("adit_calls_open".to_owned(), 5.0), ("adit_links_open".to_owned(), 1.0)]));
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let side = Side { name: "edge".to_owned(), pid: std::process::id(), admin: None };
        let reading = side.read().expect("it runs");
        assert!(reading.rss_kib > 0 && reading.peak_kib >= reading.rss_kib && reading.descriptors > 2);
        assert!(reading.metrics.is_empty());
    }
}
