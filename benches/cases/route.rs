//! Where a call goes.

use std::hint::black_box;
use std::time::Duration;

use adit::base::LinkId;
use adit::route::{Hostname, LinkChoice, LinkLoad, RouteEntry, RouteTable, choose_link};

use super::Work;

const ROUTES: usize = 1000;
/// So many different hosts are looked up, so that one lucky place in a table does not decide.
const HOSTS: usize = 128;

/// A host out of its header, and its route in a table of a thousand.
pub(crate) fn lookup(wildcard: bool) -> Work {
    let entry = |target: usize| {
        let host = if target.is_multiple_of(2) {
            format!("t{target}.example.com")
        } else {
            format!("*.t{target}.example.com")
        };
        RouteEntry { host, place: "here".to_owned(), target }
    };
    let table = RouteTable::new((0..ROUTES).map(entry)).unwrap_or_else(|_| panic!("good routes"));
    let of =
        |target: usize| if wildcard { format!("any.t{target}.example.com") } else { format!("t{target}.example.com") };
    let hosts: Vec<(usize, String)> =
        (0..HOSTS).map(|nth| 2 * nth + usize::from(wildcard)).map(|target| (target, of(target))).collect();
    let mut at = 0;
    Box::new(move || {
        let (target, host) = &hosts[at % HOSTS];
        let hostname = Hostname::of_authority(black_box(host.as_bytes())).expect("a host");
        assert_eq!(table.lookup(&hostname), Some(target));
        at += 1;
    })
}

/// The link of eight with the fewest streams.
pub(crate) fn choice() -> Work {
    let load = |id: u64| LinkLoad {
        id: LinkId(id),
        open_streams: 9 - id as u32,
        streams_max: 1000,
        draining: id == 8,
        silent: Duration::ZERO,
        owing: Duration::ZERO,
        unproven: 0,
    };
    let links: Vec<LinkLoad> = (1..=8).map(load).collect();
    Box::new(move || {
        let choice = choose_link(black_box(&links).iter().copied(), black_box(LinkId(0)));
        assert_eq!(choice, LinkChoice::Link(LinkId(7)));
    })
}
