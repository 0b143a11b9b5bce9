//! Many large calls at once through the real edge and the real connector, whose buffers are far too few for them: agents that
//! read quickly, slowly, or not at all. Those that read get everything, the others end in their time, and the link stays.
//!
//! `ADIT_SIM_SEED=n cargo test --test sim crowd` runs one seed again; `ADIT_SIM_SEEDS=n` tries that many.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use adit::base::Rng;
use adit::connector::Connector;
use adit::dial::Resolver;
use adit::edge::Edge;
use adit::engine::driver::{Address, SocketOptions};
use adit::engine::sim::{Faults, SimNet, Simulation};
use adit::engine::{BUFFER_MEMORY_DEFAULT, BUFFER_MEMORY_MIN, Core, StreamError, mailbox};
use adit::wire::mux;

use crate::bodies::{body, read, read_head, send, serve};
use crate::roles::{self, AGENTS, AGENTS_AT, CONNECTOR, EDGE, HOST, UPSTREAM, add_core};

/// Seeds that every run of the test tries.
const SEEDS: Range<u64> = 1..26;
/// Seeds that have failed: agents that paused were cut, because others that stood still held most of a link's window.
const SEEDS_THAT_FAILED: [u64; 2] = [1075, 1760];
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What an agent does with its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    Quick,
    /// It waits a while after each piece.
    Slow,
    Dead,
}

/// How many agents are still to be served, and what went wrong.
#[derive(Default)]
struct Tally {
    left: Cell<usize>,
    cut: Cell<usize>,
}

fn crowd(seed: u64) {
    let mut rng = Rng::new(seed);
    let (buffer_memory, link_window) =
        [(BUFFER_MEMORY_MIN, 128 << 10), (8 << 20, 512 << 10)][usize::from(rng.chance(0.5))];
    let link = mux::Settings { stream_window: link_window / 4, link_window, ..mux::Settings::default() };
    // The windows that many links ask for are several times what the edge has.
    let connectors = [1, 1, 12][rng.below(3) as usize];
    let faults = Faults { send_buffer_bytes: 30_000, receive_buffer_bytes: 30_000, ..Faults::none() };
    let net = SimNet::new(seed, faults);
    let mut sim = Simulation::new(net);
    let (upstream, _) = add_core(&mut sim, UPSTREAM, 0, BUFFER_MEMORY_DEFAULT);
    let (readers, _) = add_core(&mut sim, AGENTS, 0, BUFFER_MEMORY_DEFAULT);
    // What dead agents do not read may not disappear in their own buffers.
    let (dead, _) = add_core(&mut sim, AGENTS, 1, BUFFER_MEMORY_MIN);
    let (edge_core, _) = add_core(&mut sim, EDGE, 0, buffer_memory);
    let connector_cores: Vec<Core> =
        (0..connectors).map(|n| add_core(&mut sim, CONNECTOR, n, buffer_memory).0).collect();
    serve(&upstream);
    let (edge_events, _edge_told) = mailbox(64);
    let edge = Edge::new(crate::roles::edge_settings(link), crate::roles::edge_tables(), 1, 1, &edge_events);
    edge_core.spawn(Arc::clone(&edge).run(edge_core.clone()));
    let (connector_events, _connector_told) = mailbox(4096);
    for (core, instance) in connector_cores.iter().zip(2..) {
        let (settings, tables) = (roles::connector_settings(link), roles::connector_tables());
        let connector = Connector::new(settings, tables, 1, instance, &connector_events);
        core.spawn(connector.run(core.clone(), Resolver::Table(Rc::new(|_, _| Vec::new()))));
    }
    sim.run_until(sim.net().now() + 2 * SECOND).expect("the link comes up");

    let tally = Rc::new(Tally::default());
    for _ in 0..rng.between(5, 55) {
        let reader = [Reader::Quick, Reader::Quick, Reader::Slow, Reader::Dead][rng.below(4) as usize];
        let (len, upload) = (rng.between(1_000, 600_000) as usize, rng.chance(0.3));
        let (core, tally) = (if reader == Reader::Dead { &dead } else { &readers }, Rc::clone(&tally));
        let (core, after) = (core.clone(), Duration::from_millis(rng.below(500)));
        if reader != Reader::Dead {
            tally.left.set(tally.left.get() + 1);
        }
        core.clone().spawn(async move {
            core.sleep(after).await;
            let answered = call(&core, reader, len, upload).await;
            if reader != Reader::Dead {
                tally.left.set(tally.left.get() - 1);
                tally.cut.set(tally.cut.get() + usize::from(answered.is_err()));
            }
        });
    }
    let until = sim.net().now() + 20 * MINUTE;
    sim.run(until, || tally.left.get() == 0).expect("agents that read are served");
    assert_eq!(tally.cut.get(), 0, "answers to agents that read were cut");
    // Those that do not read have their time, and what one leaves of their buffers another takes first.
    sim.run_until(sim.net().now() + 15 * MINUTE).expect("time passes");
    assert_eq!(edge.counters().links_ended.load(Ordering::Relaxed), 0, "the link fell");
    for core in connector_cores.iter().chain([&edge_core]) {
        assert_eq!(core.pool().usage().leased_bytes, 0, "buffers are kept: {:?}", core.pool().usage());
    }
}

/// One call; an error when its answer is not whole.
async fn call(core: &Core, reader: Reader, len: usize, upload: bool) -> Result<(), StreamError> {
    let socket = core.connect(&Address::Tcp(AGENTS_AT), SocketOptions::default()).await.expect("the edge listens");
    let (method, of_request, of_answer) = if upload { ("POST", len, 2) } else { ("GET", 0, len) };
    send(
        &socket,
        format!("{method} /{len} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {of_request}\r\n\r\n").as_bytes(),
    )
    .await?;
    send(&socket, &body(of_request)).await?;
    if reader == Reader::Dead {
        core.sleep(10 * MINUTE).await;
        return Ok(());
    }
    let pause = if reader == Reader::Slow { SECOND / 5 } else { Duration::ZERO };
    let mut received = Vec::new();
    let head = read_head(&socket, &mut received).await?;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(read(&socket, &mut received, of_answer, pause).await? == body(of_answer), "other bytes arrived");
    Ok(())
}

fn number(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().expect("a number"))
}

#[test]
fn all_readers_are_served_and_the_link_stays_with_few_buffers() {
    let seeds: Vec<u64> = match (number("ADIT_SIM_SEED"), number("ADIT_SIM_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, Some(count)) => (1..count + 1).collect(),
        (None, None) => SEEDS.chain(SEEDS_THAT_FAILED).collect(),
    };
    // A run is one thread, and independent of the others.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for nth in 0..threads {
            let seeds = seeds.iter().copied().skip(nth).step_by(threads);
            scope.spawn(move || {
                for seed in seeds {
                    let ran = std::panic::catch_unwind(|| crowd(seed));
                    assert!(ran.is_ok(), "seed {seed} failed: ADIT_SIM_SEED={seed} cargo test --test sim crowd");
                }
            });
        }
    });
}
