//! Tests of the simulated world through cores: it behaves like TCP, and a seed replays.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use super::{Death, Faults, MemberId, SimNet, SimStop, Simulation};
use crate::base::{Clock, CoreId, Rng, Time};
use crate::engine::driver::{Address, SocketOptions};
use crate::engine::{ByteStream, Class, Core, Listener, Pool, SMALL_LEN, Socket, StreamError};

const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const PORT: u16 = 80;
const MINUTE: Duration = Duration::from_secs(60);

/// Two hosts with a core each.
struct Two {
    net: SimNet,
    sim: Simulation,
    a: Core,
    b: Core,
    b_member: MemberId,
}

impl Two {
    fn new(seed: u64, faults: Faults) -> Two {
        let net = SimNet::new(seed, faults);
        let mut sim = Simulation::new(net.clone());
        let (a, _) = add_core(&mut sim, A);
        let (b, b_member) = add_core(&mut sim, B);
        Two { net, sim, a, b, b_member }
    }

    /// Runs until `done` is set, for a simulated minute at the most.
    fn run(&mut self, done: &Cell<bool>) {
        self.sim.run(self.net.now() + MINUTE, || done.get()).expect("it ends in time");
    }

    fn pass(&mut self, time: Duration) {
        self.sim.run_until(self.net.now() + time).unwrap();
    }
}

fn add_core(sim: &mut Simulation, host: IpAddr) -> (Core, MemberId) {
    let pool = Pool::new(0);
    let driver = sim.net().driver(host, pool.clone());
    let id = driver.id();
    let core = Core::new(CoreId(0), Box::new(driver), pool, Duration::ZERO);
    let member = sim.add(id, core.clone());
    (core, member)
}

fn at(host: IpAddr) -> Address {
    Address::Tcp(SocketAddr::new(host, PORT))
}

async fn accept(listener: &Listener, core: &Core) -> Socket {
    loop {
        if let Ok((detached, _)) = listener.accept().await {
            return core.adopt(detached, SocketOptions::default()).await.unwrap();
        }
    }
}

async fn connect(core: &Core, host: IpAddr) -> io::Result<Socket> {
    core.connect(&at(host), SocketOptions::default()).await
}

async fn send(socket: &Socket, bytes: &[u8]) -> Result<(), StreamError> {
    for piece in bytes.chunks(1000) {
        socket.ready().await?;
        let mut lease = socket.core().pool().lease(Class::Small).await;
        lease.append(piece);
        socket.send(lease)?;
    }
    Ok(())
}

/// All bytes up to the end, and the result at the end.
async fn read_all(socket: &Socket) -> (Vec<u8>, Result<(), StreamError>) {
    let mut all = Vec::new();
    loop {
        match socket.recv().await {
            Ok(Some(lease)) => all.extend_from_slice(&lease),
            Ok(None) => return (all, Ok(())),
            Err(error) => return (all, Err(error)),
        }
    }
}

fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..len).map(|_| rng.next_u64() as u8).collect()
}

fn flag() -> (Rc<Cell<bool>>, Rc<Cell<bool>>) {
    let flag = Rc::new(Cell::new(false));
    (Rc::clone(&flag), flag)
}

/// Spawns a task and sets the flag when it is done.
fn spawn(core: &Core, done: &Rc<Cell<bool>>, future: impl Future<Output = ()> + 'static) {
    let done = Rc::clone(done);
    core.spawn(async move {
        future.await;
        done.set(true);
    });
}

/// Both sides send, both half-close, both read to the end.
fn exchange(seed: u64, faults: Faults) -> (u64, Time) {
    let mut two = Two::new(seed, faults);
    let (done_a, done_b) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
    let (up, down) = (pattern(seed, 70_000), pattern(seed + 1, 33_000));
    let (a, b) = (two.a.clone(), two.b.clone());
    let listener = b.listen(&at(B)).unwrap();
    let (up_b, down_b) = (up.clone(), down.clone());
    spawn(&two.b.clone(), &done_b, async move {
        let socket = accept(&listener, &b).await;
        assert_eq!(read_all(&socket).await, (up_b, Ok(())));
        send(&socket, &down_b).await.unwrap();
        socket.finish();
        socket.close_gracefully(MINUTE).await;
    });
    spawn(&two.a.clone(), &done_a, async move {
        let socket = connect(&a, B).await.unwrap();
        send(&socket, &up).await.unwrap();
        socket.finish();
        assert_eq!(read_all(&socket).await, (down, Ok(())));
    });
    two.run(&done_a);
    two.run(&done_b);
    two.pass(MINUTE);
    assert_eq!((two.net.open_sockets(A), two.net.open_sockets(B)), (0, 0));
    assert_eq!((two.net.connections(), two.net.bytes_in_flight()), (0, 0));
    assert_eq!(two.a.pool().usage().leased_bytes + two.b.pool().usage().leased_bytes, 0);
    (two.net.trace_hash(), two.net.now())
}

#[test]
fn bytes_arrive_whole_and_in_order_however_they_are_cut() {
    exchange(0, Faults::none());
    for seed in 1..60 {
        let mut faults = Faults::draw(&mut Rng::new(seed));
        faults.reset_chance = 0.0;
        faults.refuse_chance = 0.0;
        faults.lost_connect_chance = 0.0;
        faults.cut_every_ns = 0;
        exchange(seed, faults);
    }
}

#[test]
fn a_seed_replays_exactly_and_another_differs() {
    let mut faults = Faults::draw(&mut Rng::new(7));
    (faults.reset_chance, faults.refuse_chance, faults.lost_connect_chance, faults.cut_every_ns) = (0.0, 0.0, 0.0, 0);
    assert_eq!(exchange(7, faults.clone()), exchange(7, faults.clone()));
    assert_ne!(exchange(7, faults.clone()).0, exchange(8, faults).0);
}

#[test]
fn time_stands_still_while_there_is_work_and_jumps_otherwise() {
    let mut two = Two::new(1, Faults::none());
    let (done, set) = flag();
    let a = two.a.clone();
    let started = two.net.now();
    spawn(&two.a.clone(), &set, async move {
        a.turn_end().await;
        assert_eq!(Clock::now(&a), started);
        a.sleep(Duration::from_secs(5)).await;
        assert_eq!(Clock::now(&a) - started, Duration::from_secs(5));
    });
    two.run(&done);
}

#[test]
fn a_connect_takes_a_round_trip_and_is_refused_without_a_listener() {
    let mut two = Two::new(1, Faults::none());
    let (done, set) = flag();
    let (a, net) = (two.a.clone(), two.net.clone());
    let listener = two.b.listen(&at(B)).unwrap();
    spawn(&two.a.clone(), &set, async move {
        let started = net.now();
        connect(&a, B).await.unwrap();
        assert_eq!(net.now() - started, Duration::from_micros(20));
        drop(listener);
        let refused = connect(&a, B).await.map(drop).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let nowhere = connect(&a, IpAddr::V4(Ipv4Addr::new(10, 9, 9, 9))).await.map(drop).unwrap_err();
        assert_eq!(nowhere.kind(), io::ErrorKind::TimedOut);
    });
    two.run(&done);
}

#[test]
fn loopback_and_unix_sockets_stay_on_their_host() {
    let mut two = Two::new(1, Faults::none());
    let (done, set) = flag();
    let a = two.a.clone();
    let unix = Address::Unix("/run/upstream".into());
    let on_b = two.b.listen(&unix).unwrap();
    let loopback = two.b.listen(&Address::Tcp(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), PORT))).unwrap();
    spawn(&two.a.clone(), &set, async move {
        assert!(a.connect(&unix, SocketOptions::default()).await.is_err());
        assert!(connect(&a, B).await.is_err());
        let on_a = a.listen(&Address::Tcp(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0))).unwrap();
        let socket = a.connect(on_a.local(), SocketOptions::default()).await.unwrap();
        let (_, peer) = on_a.accept().await.unwrap();
        assert!(peer.is_some_and(|peer| peer.ip().is_loopback()));
        drop((socket, on_b, loopback));
    });
    two.run(&done);
}

#[test]
fn a_reader_that_does_not_read_stops_the_sender() {
    let faults = Faults { send_buffer_bytes: 10_000, receive_buffer_bytes: 20_000, ..Faults::none() };
    let mut two = Two::new(1, faults);
    let (done, set) = flag();
    let (a, b, net) = (two.a.clone(), two.b.clone(), two.net.clone());
    let listener = b.listen(&at(B)).unwrap();
    let go = Rc::new(Cell::new(false));
    let sent = pattern(1, 2_000_000);
    let expected = sent.clone();
    a.clone().spawn(async move {
        let socket = connect(&a, B).await.unwrap();
        send(&socket, &sent).await.unwrap();
        socket.close_gracefully(MINUTE).await;
    });
    let reading = Rc::clone(&go);
    spawn(&two.b.clone(), &set, async move {
        let socket = accept(&listener, &b).await;
        while !reading.get() {
            b.sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(read_all(&socket).await, (expected, Ok(())));
    });
    two.pass(Duration::from_secs(1));
    assert_eq!(net.bytes_in_flight(), 30_000, "both buffers are full, nothing more is under way");
    let core_holds = two.b.pool().usage().leased_bytes;
    assert!((SMALL_LEN..512 * 1024).contains(&core_holds), "the core paused at its mark: {core_holds}");
    go.set(true);
    two.run(&done);
}

#[test]
fn unread_small_pieces_take_few_buffers() {
    let mut two = Two::new(1, Faults { segment_bytes_max: 2, ..Faults::none() });
    let (done, set) = flag();
    let (a, b) = (two.a.clone(), two.b.clone());
    let listener = b.listen(&at(B)).unwrap();
    a.clone().spawn(async move {
        let socket = connect(&a, B).await.unwrap();
        for _ in 0..2000 {
            send(&socket, b"drop").await.unwrap();
            a.sleep(Duration::from_millis(1)).await;
        }
        socket.close_gracefully(MINUTE).await;
    });
    spawn(&two.b.clone(), &set, async move {
        let socket = accept(&listener, &b).await;
        b.sleep(Duration::from_secs(5)).await;
        let held = b.pool().usage().leased_bytes;
        assert!((8_000..=16_384).contains(&held), "{held} bytes of buffers for 8000 received");
        assert_eq!(read_all(&socket).await, (b"drop".repeat(2000), Ok(())));
    });
    two.run(&done);
}

#[test]
fn a_partition_stalls_and_a_short_one_is_survived() {
    let mut two = Two::new(1, Faults::none());
    let (done, set) = flag();
    let (a, b, net) = (two.a.clone(), two.b.clone(), two.net.clone());
    let listener = b.listen(&at(B)).unwrap();
    a.clone().spawn(async move {
        let socket = connect(&a, B).await.unwrap();
        net.partition(A, B);
        send(&socket, b"late").await.unwrap();
        a.sleep(Duration::from_secs(9)).await;
        net.heal(A, B);
        socket.close_gracefully(MINUTE).await;
    });
    let net = two.net.clone();
    spawn(&two.b.clone(), &set, async move {
        let socket = accept(&listener, &b).await;
        assert_eq!(read_all(&socket).await, (b"late".to_vec(), Ok(())));
        assert!(net.now() > Time::from_nanos(9_000_000_000));
    });
    two.run(&done);
}

#[test]
fn a_long_partition_kills_the_end_that_sends_and_the_other_hears_nothing() {
    let mut two = Two::new(1, Faults::none());
    let (done, set) = flag();
    let (a, b, net) = (two.a.clone(), two.b.clone(), two.net.clone());
    let listener = b.listen(&at(B)).unwrap();
    let heard = Rc::new(RefCell::new(None));
    let hears = Rc::clone(&heard);
    b.clone().spawn(async move {
        let socket = accept(&listener, &b).await;
        *hears.borrow_mut() = Some(read_all(&socket).await);
    });
    spawn(&two.a.clone(), &set, async move {
        let socket = connect(&a, B).await.unwrap();
        a.sleep(Duration::from_secs(1)).await;
        net.partition(A, B);
        send(&socket, b"lost").await.unwrap();
        assert_eq!(socket.recv().await.unwrap_err(), StreamError::TimedOut);
    });
    two.run(&done);
    two.net.heal(A, B);
    two.pass(MINUTE);
    assert_eq!(*heard.borrow(), None);
    assert_eq!((two.net.open_sockets(A), two.net.open_sockets(B)), (0, 1));
}

#[test]
fn a_silent_peer_is_given_up_by_the_end_that_probes_it_unless_it_is_back_in_time() {
    for (cut_s, is_given_up) in [(9, false), (11, true)] {
        let mut two = Two::new(1, Faults::none());
        let (done, set) = flag();
        let (a, b, net) = (two.a.clone(), two.b.clone(), two.net.clone());
        let listener = b.listen(&at(B)).unwrap();
        b.clone().spawn(async move {
            let socket = accept(&listener, &b).await;
            b.sleep(Duration::from_secs(40)).await;
            // The peer may be gone by now.
            let _ = send(&socket, b"late").await;
            let _ = socket.flushed().await;
        });
        spawn(&two.a.clone(), &set, async move {
            let probing = SocketOptions { silence_max: Some(Duration::from_secs(10)), ..SocketOptions::default() };
            let socket = a.connect(&at(B), probing).await.unwrap();
            let began = a.now();
            for _ in 0..2 {
                a.sleep(Duration::from_secs(1)).await;
                net.partition(A, B);
                a.sleep(Duration::from_secs(cut_s)).await;
                net.heal(A, B);
            }
            match socket.recv().await {
                Ok(Some(lease)) => assert!(!is_given_up && &*lease == b"late"),
                other => {
                    assert!(
                        is_given_up && matches!(other, Err(StreamError::TimedOut)),
                        "{other:?} after {:?}",
                        a.now() - began
                    )
                }
            }
        });
        two.run(&done);
    }
}

#[test]
fn unread_bytes_turn_a_close_into_a_reset() {
    let mut two = Two::new(1, Faults::none());
    let (done, set) = flag();
    let (a, b) = (two.a.clone(), two.b.clone());
    let listener = b.listen(&at(B)).unwrap();
    b.clone().spawn(async move {
        let (detached, _) = listener.accept().await.unwrap();
        // Nothing is read: the handle is dropped with bytes waiting, as when a process ends.
        b.sleep(Duration::from_secs(1)).await;
        drop(detached);
        b.sleep(Duration::from_secs(1)).await;
    });
    spawn(&two.a.clone(), &set, async move {
        let socket = connect(&a, B).await.unwrap();
        send(&socket, b"never read").await.unwrap();
        assert_eq!(read_all(&socket).await, (Vec::new(), Err(StreamError::Reset)));
    });
    two.run(&done);
}

#[test]
fn bytes_for_a_closed_socket_are_answered_with_a_reset() {
    let mut two = Two::new(1, Faults::none());
    let (done, set) = flag();
    let (a, b) = (two.a.clone(), two.b.clone());
    let listener = b.listen(&at(B)).unwrap();
    b.clone().spawn(async move { drop(accept(&listener, &b).await) });
    spawn(&two.a.clone(), &set, async move {
        let socket = connect(&a, B).await.unwrap();
        assert_eq!(socket.recv().await.unwrap().map(|lease| lease.len()), None);
        send(&socket, b"too late").await.unwrap();
        a.sleep(Duration::from_secs(1)).await;
        let _ = send(&socket, b"far too late").await;
        a.turn_end().await;
        a.sleep(Duration::from_secs(1)).await;
        assert_eq!(send(&socket, b"and later").await.unwrap_err(), StreamError::Reset);
    });
    two.run(&done);
}

#[test]
fn an_abort_is_a_reset_on_the_other_side() {
    let mut two = Two::new(1, Faults::none());
    let (done, set) = flag();
    let (a, b) = (two.a.clone(), two.b.clone());
    let listener = b.listen(&at(B)).unwrap();
    a.clone().spawn(async move {
        let socket = connect(&a, B).await.unwrap();
        send(&socket, b"before").await.unwrap();
        socket.flushed().await.unwrap();
        socket.abort();
    });
    spawn(&two.b.clone(), &set, async move {
        let socket = accept(&listener, &b).await;
        assert_eq!(read_all(&socket).await, (b"before".to_vec(), Err(StreamError::Reset)));
    });
    two.run(&done);
}

#[test]
fn a_host_that_lost_its_power_is_silent_until_it_is_back() {
    let mut two = Two::new(1, Faults::none());
    let (done, set) = flag();
    let (a, b) = (two.a.clone(), two.b.clone());
    let listener = b.listen(&at(B)).unwrap();
    b.clone().spawn(async move {
        let socket = accept(&listener, &b).await;
        let _ = read_all(&socket).await;
    });
    let outcome = Rc::new(RefCell::new(None));
    let seen = Rc::clone(&outcome);
    spawn(&two.a.clone(), &set, async move {
        let socket = connect(&a, B).await.unwrap();
        a.sleep(Duration::from_secs(1)).await;
        send(&socket, b"into the dark").await.unwrap();
        *seen.borrow_mut() = Some((read_all(&socket).await.1, Clock::now(&a)));
    });
    two.pass(Duration::from_millis(500));
    two.net.kill(B, Death::Power);
    two.sim.remove(two.b_member);
    two.pass(Duration::from_secs(5));
    assert!(outcome.borrow().is_none(), "no word from a host without power");
    let back = two.net.now();
    let (b, _) = add_core(&mut two.sim, B);
    two.run(&done);
    let (result, when) = outcome.take().unwrap();
    assert_eq!(result, Err(StreamError::Reset));
    assert!(when - back < Duration::from_millis(1));
    assert!(b.listen(&at(B)).is_ok());
    assert_eq!(two.net.open_sockets(B), 0);
}

#[test]
fn a_killed_process_leaves_its_sockets_to_the_host() {
    let mut two = Two::new(1, Faults::none());
    let (done, set) = flag();
    let (a, b) = (two.a.clone(), two.b.clone());
    let listener = b.listen(&at(B)).unwrap();
    b.clone().spawn(async move {
        let socket = accept(&listener, &b).await;
        let _ = read_all(&socket).await;
    });
    spawn(&two.a.clone(), &set, async move {
        let socket = connect(&a, B).await.unwrap();
        assert_eq!(read_all(&socket).await, (Vec::new(), Ok(())));
        assert_eq!(connect(&a, B).await.map(drop).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    });
    two.pass(Duration::from_millis(1));
    assert_eq!((two.net.listeners(B), two.net.open_sockets(B)), (1, 1));
    two.net.kill(B, Death::Processes);
    two.sim.remove(two.b_member);
    two.run(&done);
    assert_eq!((two.net.listeners(B), two.net.open_sockets(B)), (0, 0));
}

#[test]
fn listeners_at_one_address_share_the_connections() {
    let mut two = Two::new(1, Faults::none());
    let counts: Vec<Rc<Cell<u32>>> = (0..2).map(|_| Rc::default()).collect();
    let (done, set) = flag();
    for count in &counts {
        let (core, _) = add_core(&mut two.sim, B);
        let listener = core.listen(&at(B)).unwrap();
        let count = Rc::clone(count);
        core.clone().spawn(async move {
            loop {
                drop(accept(&listener, &core).await);
                count.set(count.get() + 1);
            }
        });
    }
    let a = two.a.clone();
    spawn(&two.a.clone(), &set, async move {
        for _ in 0..100 {
            let socket = connect(&a, B).await.unwrap();
            let _ = read_all(&socket).await;
        }
    });
    two.run(&done);
    assert_eq!(counts[0].get() + counts[1].get(), 100);
    assert!(counts.iter().all(|count| count.get() > 20), "{counts:?}");
}

#[test]
fn a_deadlock_is_distinguished_from_a_wait() {
    let mut two = Two::new(1, Faults::none());
    let a = two.a.clone();
    two.a.clone().spawn(async move { a.sleep(Duration::from_secs(10)).await });
    let soon = two.net.now() + Duration::from_secs(1);
    assert!(matches!(two.sim.run(soon, || false), Err(SimStop::OutOfTime)));
    assert_eq!(two.net.now(), soon);
    assert!(matches!(two.sim.run(Time::NEVER, || false), Err(SimStop::Deadlock)));
}

/// What the simulation of random traffic counts.
#[derive(Default)]
struct Tally {
    whole: u32,
    broken: u32,
}

/// Clients connect, send, get answers and leave, under every fault. The server dies once.
fn random_traffic(seed: u64) -> (u64, u32, u32) {
    const CLIENTS: u32 = 12;
    let mut rng = Rng::new(seed);
    let mut two = Two::new(seed, Faults::draw(&mut rng));
    let tally = Rc::new(RefCell::new(Tally::default()));
    let killed = Rc::new(Cell::new(false));
    serve(&two.b);
    for client in 0..CLIENTS {
        let (a, tally, killed) = (two.a.clone(), Rc::clone(&tally), Rc::clone(&killed));
        let (wait, len) = (Duration::from_nanos(rng.below(2_000_000_000)), rng.below(40_000) as usize);
        two.a.clone().spawn(async move {
            a.sleep(wait).await;
            let sent = pattern(seed ^ u64::from(client), len);
            let call = async {
                let socket = connect(&a, B).await.map_err(|error| StreamError::from(&error))?;
                send(&socket, &sent).await?;
                socket.finish();
                let (back, end) = read_all(&socket).await;
                assert!(
                    sent.starts_with(&back),
                    "seed {seed}: the echo is a part of what was sent, from its beginning"
                );
                // A killed process ends its connections cleanly, in whatever state they were.
                let whole = back == sent;
                assert!(whole || end.is_err() || killed.get(), "seed {seed}: a clean end after a part of the answer");
                end.and(if whole { Ok(()) } else { Err(StreamError::Truncated) })
            };
            let outcome = a.timeout(Duration::from_secs(50), call).await;
            let mut tally = tally.borrow_mut();
            if matches!(outcome, Ok(Ok(()))) { tally.whole += 1 } else { tally.broken += 1 }
        });
    }
    two.pass(Duration::from_nanos(rng.below(3_000_000_000)));
    if rng.chance(0.5) {
        let how = if rng.chance(0.5) { Death::Power } else { Death::Processes };
        two.net.kill(B, how);
        killed.set(how == Death::Processes);
        two.sim.remove(two.b_member);
        assert_eq!(two.b.pool().usage().leased_bytes, 0, "seed {seed}: buffers of a dead core come back");
        two.pass(Duration::from_nanos(rng.below(1_000_000_000)));
        let (b, member) = add_core(&mut two.sim, B);
        (two.b, two.b_member) = (b, member);
        serve(&two.b);
    }
    two.pass(2 * MINUTE);
    two.net.calm();
    two.pass(MINUTE);
    assert_eq!(two.net.open_sockets(A), 0, "seed {seed}");
    assert_eq!(two.a.pool().usage().leased_bytes, 0, "seed {seed}");
    let tally = tally.borrow();
    assert_eq!(tally.whole + tally.broken, CLIENTS, "seed {seed}: every client has one outcome");
    (two.net.trace_hash(), tally.whole, tally.broken)
}

/// Echoes until the end, and gives up on a silent peer.
fn serve(core: &Core) {
    let listener = core.listen(&at(B)).unwrap();
    let core = core.clone();
    core.clone().spawn(async move {
        loop {
            let socket = accept(&listener, &core).await;
            let patient = core.clone();
            core.spawn(async move {
                let echo = async {
                    while let Ok(Some(lease)) = socket.recv().await {
                        if socket.ready().await.is_err() || socket.send(lease).is_err() {
                            return;
                        }
                    }
                    socket.finish();
                    let _ = socket.flushed().await;
                };
                let _ = patient.timeout(Duration::from_secs(60), echo).await;
            });
        }
    });
}

#[test]
fn random_traffic_under_random_faults_keeps_its_promises_and_replays() {
    let (mut whole, mut broken) = (0, 0);
    for seed in 0..100 {
        let (hash, of_whole, of_broken) = random_traffic(seed);
        if seed % 10 == 0 {
            assert_eq!(random_traffic(seed).0, hash, "seed {seed} replays");
        }
        whole += of_whole;
        broken += of_broken;
    }
    assert!(whole > 100 && broken > 100, "the mixture tries both: {whole} whole, {broken} broken");
}
