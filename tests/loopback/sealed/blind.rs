//! What the edge holds in its memory.

use std::fs::File;
use std::os::unix::fs::FileExt;

use adit::base::Traffic;

use super::site::{HOST, OPEN_HOST, Site, call};
use crate::drivers::drivers;

const PAGE_LEN: u64 = 4096;
/// The bit of an entry of `/proc/PID/pagemap` that says that the page is in memory.
const PRESENT: u64 = 1 << 63;

/// Whether a piece of memory that a process may write holds these bytes.
fn memory_holds(pid: u32, needle: &[u8]) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let finder = memchr::memmem::Finder::new(needle);
    let mut read = 0;
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw"))) {
        let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
        for (from, to) in pages_in_memory(pid, from, to) {
            let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
            // Some, such as the system's own pages, cannot be read.
            if memory.read_exact_at(&mut bytes, from).is_ok() {
                read += bytes.len();
                if finder.find(&bytes).is_some() {
                    return true;
                }
            }
        }
    }
    assert!(read > 1 << 20, "only {read} bytes of process {pid} could be read");
    false
}

/// The runs of pages of a mapping that were ever written. An allocator reserves gigabytes, and to read a page that is not there makes
/// it.
fn pages_in_memory(pid: u32, from: u64, to: u64) -> Vec<(u64, u64)> {
    let mut entries = vec![0; usize::try_from((to - from) / PAGE_LEN * 8).unwrap()];
    File::open(format!("/proc/{pid}/pagemap")).unwrap().read_exact_at(&mut entries, from / PAGE_LEN * 8).unwrap();
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for (entry, page) in entries.chunks_exact(8).zip((from..to).step_by(PAGE_LEN as usize)) {
        if u64::from_ne_bytes(entry.try_into().unwrap()) & PRESENT == 0 {
            continue;
        }
        match runs.last_mut().filter(|run| run.1 == page) {
            Some(run) => run.1 = page + PAGE_LEN,
            None => runs.push((page, page + PAGE_LEN)),
        }
    }
    runs
}

#[test]
fn an_edge_with_passthrough_never_holds_plaintext() {
    for driver in drivers() {
        for traffic in [Traffic::Passthrough, Traffic::Resealed] {
            let (site, connector) = Site::linked(driver, traffic, traffic);
            let mut agent = match traffic {
                Traffic::Passthrough => site.agent("state/seal-ca.pem", Some(HOST)),
                _ => site.agent("ca.pem", Some(OPEN_HOST)),
            };
            let marker = format!("what-only-two-may-read-{}", std::process::id());
            for _ in 0..10 {
                // It comes back in the answer too.
                assert!(call(&mut agent, HOST, &marker).body.ends_with(&marker));
            }
            let found = memory_holds(site.edge.pid(), marker.as_bytes());
            // An edge that seals again has read it: that shows that a search of this kind does find it.
            assert_eq!(found, traffic == Traffic::Resealed, "{driver} {traffic}");
            assert!(memory_holds(connector.pid(), marker.as_bytes()));
            assert!(memory_holds(site.edge.pid(), HOST.as_bytes()));
        }
    }
}
