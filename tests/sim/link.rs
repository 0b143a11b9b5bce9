//! Links on a simulated network, from a seed: connections that stall and break, a connector that dies, streams that are
//! long, slow, reset, or forgotten.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use adit::base::{CoreId, LinkId, Rng, Secret, Traffic};
use adit::engine::driver::{Address, SocketOptions};
use adit::engine::sim::{Death, Faults, MemberId, SimNet, Simulation};
use adit::engine::{ByteStream, Class, Core, Pool, StreamError};
use adit::link::{Link, LinkStream};
use adit::wire::mux::{Cause, EdgeIdentity, Fault, Hello, Open, Settings};
use futures_lite::future;

const EDGE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const CONNECTOR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const AT: Address = Address::Tcp(SocketAddr::new(EDGE, 7000));
const CALLERS: usize = 12;
const SECOND: Duration = Duration::from_secs(1);

/// What one run shares.
struct Run {
    seed: u64,
    settings: Settings,
    /// Every link of the edge that there ever was.
    links: RefCell<Vec<Link>>,
    /// Every link of the connector that lives now.
    dialled: RefCell<Vec<Link>>,
    made: Cell<u64>,
    whole: Cell<usize>,
    broken: Cell<usize>,
    ended: Cell<usize>,
}

fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..len).map(|_| rng.next_u64() as u8).collect()
}

fn add_core(sim: &mut Simulation, host: IpAddr) -> (Core, MemberId) {
    let pool = Pool::new(0);
    let driver = sim.net().driver(host, pool.clone());
    let id = driver.id();
    let core = Core::new(CoreId(0), Box::new(driver), pool, Duration::ZERO);
    let member = sim.add(id, core.clone());
    (core, member)
}

impl Run {
    fn new(seed: u64, settings: Settings) -> Rc<Run> {
        Rc::new(Run {
            seed,
            settings,
            links: RefCell::default(),
            dialled: RefCell::default(),
            made: Cell::new(0),
            whole: Cell::new(0),
            broken: Cell::new(0),
            ended: Cell::new(0),
        })
    }

    fn next_link(&self) -> LinkId {
        self.made.set(self.made.get() + 1);
        LinkId(self.made.get())
    }

    /// The edge: lets every connector in.
    fn serve(self: &Rc<Self>, core: &Core) {
        let listener = core.listen(&AT).expect("a free address");
        let (run, core) = (Rc::clone(self), core.clone());
        core.clone().spawn(async move {
            loop {
                let Ok((detached, _)) = listener.accept().await else { continue };
                let Ok(socket) = core.adopt(detached, SocketOptions::default()).await else { continue };
                let link = Link::edge(&core, run.next_link(), run.settings);
                run.links.borrow_mut().push(link.clone());
                let greeted = link.clone();
                core.spawn(async move {
                    if let Ok(hello) = greeted.hello().await {
                        assert_eq!(hello.software, "simulation");
                        greeted.welcome(EdgeIdentity { instance: 7, core: CoreId(0), cores: 1 });
                    }
                });
                core.spawn(async move {
                    link.run(&socket, None).await;
                });
            }
        });
    }

    /// The connector: keeps one link, and echoes on every stream.
    fn dial(self: &Rc<Self>, core: &Core) {
        let (run, core) = (Rc::clone(self), core.clone());
        core.clone().spawn(async move {
            loop {
                let connected = core.timeout(5 * SECOND, core.connect(&AT, SocketOptions::default())).await;
                if let Ok(Ok(socket)) = connected {
                    let link =
                        Link::connector(&core, run.next_link(), run.settings, run.hello()).expect("a secret that fits");
                    run.dialled.borrow_mut().push(link.clone());
                    future::zip(link.run(&socket, None), run.echo_all(&core, &link)).await;
                }
                core.sleep(SECOND / 10).await;
            }
        });
    }

    fn hello(&self) -> Hello {
        let (tunnel, secret) = ("tunnel".parse().expect("an id"), Secret::new(b"secret".to_vec()));
        Hello { tunnel, secret, instance: 1, software: "simulation".to_owned(), link_index: 0 }
    }

    async fn echo_all(self: &Rc<Self>, core: &Core, link: &Link) {
        if link.welcomed().await.is_err() {
            return;
        }
        while let Some(stream) = link.accept().await {
            core.spawn(async move {
                while let Ok(Some(lease)) = stream.recv().await {
                    if stream.ready().await.is_err() || stream.send(lease).is_err() {
                        return;
                    }
                }
                stream.finish();
                // The other side reads to the end; dropping now would not take that from it.
                let _ = stream.flushed().await;
            });
        }
    }

    /// One caller: opens a stream, sends, and reads what comes back.
    async fn call(self: Rc<Self>, core: Core, number: u64) {
        let mut rng = Rng::new(self.seed ^ (number << 32));
        core.sleep(Duration::from_nanos(rng.below(3_000_000_000))).await;
        let stream = loop {
            let open = self.links.borrow().iter().rev().find(|link| link.is_open()).cloned();
            let opened = open.map(|link| {
                link.open(&Open { route: "host", call: number, traffic: Traffic::Plain, peer: None, until: None })
            });
            match opened {
                Some(Ok(stream)) => break stream,
                _ => core.sleep(SECOND / 20).await,
            }
        };
        let len = if rng.chance(0.3) { rng.below(150_000) } else { rng.below(5_000) } as usize;
        let (sent, slow, gives_up) = (pattern(number, len), rng.chance(0.2), rng.chance(0.1));
        let mut back = Vec::new();
        let result = {
            let sending = send_all(&core, &stream, &sent);
            let reading = read_all(&core, &stream, &mut back, slow);
            let patience = Duration::from_millis(if gives_up { rng.below(300) } else { 600_000 });
            core.timeout(patience, future::zip(sending, reading)).await
        };
        assert!(sent.starts_with(&back), "seed {}, call {number}: other bytes came back", self.seed);
        match result {
            Ok((_, Ok(()))) => {
                assert!(back == sent, "seed {}, call {number}: a clean end after a part", self.seed);
                self.whole.set(self.whole.get() + 1);
            }
            Ok((_, Err(error))) => {
                assert!(matches!(error, StreamError::ResetWith { .. }), "seed {}: {error}", self.seed);
                self.broken.set(self.broken.get() + 1);
            }
            Err(_) => {
                assert!(gives_up, "seed {}, call {number}: silence", self.seed);
                stream.reset(Cause::Cancelled);
            }
        }
        self.ended.set(self.ended.get() + 1);
    }
}

async fn send_all(core: &Core, stream: &LinkStream, bytes: &[u8]) -> Result<(), StreamError> {
    for piece in bytes.chunks(3000) {
        stream.ready().await?;
        let mut lease = core.pool().lease(Class::Small).await;
        lease.reserve_headroom(stream.headroom());
        lease.append(piece);
        stream.send(lease)?;
    }
    stream.finish();
    Ok(())
}

async fn read_all(core: &Core, stream: &LinkStream, into: &mut Vec<u8>, slow: bool) -> Result<(), StreamError> {
    while let Some(lease) = stream.recv().await? {
        into.extend_from_slice(&lease);
        drop(lease);
        if slow {
            core.sleep(SECOND / 100).await;
        }
    }
    Ok(())
}

/// With its core every task, socket and buffer is gone.
fn assert_all_back(seed: u64, core: Core) {
    let pool = core.pool().clone();
    drop(core);
    assert_eq!(pool.usage().leased_bytes, 0, "seed {seed}: buffers that did not come back");
}

/// One run; gives the hash of its trace, and how many streams came through whole and broken.
fn run(seed: u64) -> (u64, usize, usize) {
    let mut rng = Rng::new(seed);
    let net = SimNet::new(seed, Faults::draw(&mut rng));
    let mut sim = Simulation::new(net.clone());
    let (edge, edge_member) = add_core(&mut sim, EDGE);
    let (mut connector, mut connector_member) = add_core(&mut sim, CONNECTOR);
    let settings = Settings {
        stream_window: [2_000, 16_000, 256_000][rng.below(3) as usize],
        link_window: [20_000, 300_000, 4_000_000][rng.below(3) as usize],
        ping_interval_ms: rng.between(200, 5_000) as u32,
        ..Settings::default()
    };
    let shared = Run::new(seed, settings);
    shared.serve(&edge);
    shared.dial(&connector);
    for number in 0..CALLERS {
        edge.spawn(Rc::clone(&shared).call(edge.clone(), number as u64));
    }
    for _ in 0..rng.below(3) {
        sim.run_until(net.now() + Duration::from_nanos(rng.below(2_000_000_000))).expect("no core fails");
        net.kill(CONNECTOR, if rng.chance(0.5) { Death::Power } else { Death::Processes });
        sim.remove(connector_member);
        shared.dialled.borrow_mut().clear();
        assert_all_back(seed, connector);
        sim.run_until(net.now() + Duration::from_nanos(rng.below(1_000_000_000))).expect("no core fails");
        (connector, connector_member) = add_core(&mut sim, CONNECTOR);
        shared.dial(&connector);
    }
    let counting = Rc::clone(&shared);
    // Faults that never end may keep every call from ending.
    let chaos = sim.run(net.now() + 300 * SECOND, || counting.ended.get() == CALLERS);
    net.calm();
    if chaos.is_err() {
        sim.run(net.now() + 3600 * SECOND, || counting.ended.get() == CALLERS)
            .unwrap_or_else(|why| panic!("seed {seed}: {} of {CALLERS} calls ended: {why}", counting.ended.get()));
    }
    sim.run_until(net.now() + 30 * SECOND).expect("no core fails");
    for link in shared.links.borrow().iter().chain(shared.dialled.borrow().iter()) {
        assert_eq!(link.streams_live(), 0, "seed {seed}: a stream outlived its callers on {:?}", link.id());
        assert_eq!(
            link.streams_held(),
            0,
            "seed {seed}: somebody holds a stream of {:?}, {:?}",
            link.id(),
            link.ended()
        );
    }
    assert!(shared.links.borrow().iter().any(Link::is_open), "seed {seed}: no link in good weather");
    shared.links.borrow().iter().for_each(|link| link.close(Fault::Ended));
    sim.run_until(net.now() + SECOND / 20).expect("no core fails");
    let whole = shared.whole.get();
    sim.remove(edge_member);
    sim.remove(connector_member);
    shared.links.borrow_mut().clear();
    shared.dialled.borrow_mut().clear();
    assert_all_back(seed, edge);
    assert_all_back(seed, connector);
    (net.trace_hash(), whole, shared.broken.get())
}

#[test]
fn streams_end_with_their_link_or_before_it_and_never_wrong() {
    let (mut whole, mut broken) = (0, 0);
    for seed in 0..40 {
        let (hash, of_whole, of_broken) = run(seed);
        if seed % 20 == 0 {
            assert_eq!(run(seed).0, hash, "seed {seed} replays");
        }
        whole += of_whole;
        broken += of_broken;
    }
    assert!(whole > 200 && broken > 20, "the mixture tries both: {whole} whole, {broken} broken");
}

/// It is taken from the time of calls, and a link that stood still has one long round trip.
#[test]
fn the_way_to_the_other_side_counts_as_half_a_second_at_the_most() {
    for (delay, way) in [(SECOND / 50, SECOND / 50), (2 * SECOND, SECOND / 2)] {
        let delay_ns = delay.as_nanos() as u64;
        let net = SimNet::new(1, Faults { delay_ns_min: delay_ns, delay_ns_max: delay_ns, ..Faults::none() });
        let mut sim = Simulation::new(net.clone());
        let [(edge, _), (connector, _)] = [EDGE, CONNECTOR].map(|host| add_core(&mut sim, host));
        let shared = Run::new(1, Settings::default());
        shared.serve(&edge);
        shared.dial(&connector);
        sim.run_until(net.now() + 60 * SECOND).expect("no core fails");
        for links in [&shared.links, &shared.dialled] {
            let links = links.borrow();
            let link = links.last().filter(|link| link.is_open()).expect("a link");
            assert_eq!((link.round_trip(), link.way()), (Some(2 * delay), way));
        }
    }
}
