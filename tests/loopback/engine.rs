//! Cores on both real drivers: what tasks see of sockets, timers and other cores.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use adit::base::{CoreId, Rng};
use adit::engine::driver::{Address, SocketOptions};
use adit::engine::ladder::{self, DriverChoice};
use adit::engine::{ByteStream, Core, Cores, Detached, EngineSettings, Listener, Pool, Socket, mailbox};
use futures_lite::future::{poll_once, yield_now};

/// Longer than anything here takes; what is still running then hangs.
const PATIENCE: Duration = Duration::from_secs(20);

fn core(choice: DriverChoice) -> Core {
    let pool = Pool::new(8 << 20);
    let started = ladder::start(choice, &pool).expect("this machine has both drivers");
    Core::new(CoreId(0), started.driver, pool, Duration::from_micros(50))
}

/// Runs the same test on both drivers.
fn on_both<R: Future<Output = ()> + 'static>(test: impl Fn(Core) -> R) {
    for choice in [DriverChoice::Epoll, DriverChoice::Uring] {
        let core = core(choice);
        let body = test(core.clone());
        let timed = core.clone();
        core.run(async move { timed.timeout(PATIENCE, body).await.expect("the test ends in time") }).unwrap();
        assert_eq!(core.open_sockets(), 0, "{choice:?}: sockets that nobody holds");
    }
}

fn listen(core: &Core) -> (Listener, Address) {
    let listener = core.listen(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let address = listener.local().clone();
    (listener, address)
}

async fn pair(core: &Core) -> (Socket, Socket) {
    let (listener, address) = listen(core);
    let ours = core.connect(&address, SocketOptions::default()).await.unwrap();
    let (accepted, peer) = listener.accept().await.unwrap();
    assert!(peer.is_some());
    let theirs = core.adopt(accepted, SocketOptions::default()).await.unwrap();
    (ours, theirs)
}

async fn send_all(socket: &Socket, bytes: &[u8]) {
    for piece in bytes.chunks(10_000) {
        let mut lease = socket.core().pool().lease_for(piece.len()).await;
        lease.append(piece);
        socket.send(lease).unwrap();
        socket.ready().await.unwrap();
    }
}

async fn read_to_end(socket: &Socket) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(lease) = socket.recv().await.unwrap() {
        all.extend_from_slice(&lease);
    }
    all
}

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..len).map(|_| rng.next_u64() as u8).collect()
}

/// Waits until the driver has said of every socket that it is gone.
async fn settled(core: &Core) {
    while core.open_sockets() > 0 {
        yield_now().await;
    }
}

#[test]
fn more_than_any_buffer_goes_both_ways_at_once() {
    on_both(|core| async move {
        let (a, b) = pair(&core).await;
        let (up, down) = (noise(5 << 20, 1), noise(3 << 20, 2));
        let (expect_up, expect_down) = (up.clone(), down.clone());
        let far = core.spawn_held(async move {
            let (got, ()) = futures_lite::future::zip(read_to_end(&b), async {
                send_all(&b, &down).await;
                b.finish();
            })
            .await;
            assert!(got == expect_up);
        });
        let (got, ()) = futures_lite::future::zip(read_to_end(&a), async {
            send_all(&a, &up).await;
            a.finish();
        })
        .await;
        assert!(got == expect_down);
        far.await;
        drop(a);
        settled(&core).await;
    });
}

#[test]
fn what_follows_a_send_runs_after_it_has_left_and_before_its_receiver() {
    on_both(|core| async move {
        let (a, b) = pair(&core).await;
        let order: Rc<RefCell<Vec<&str>>> = Rc::default();
        let received = Rc::clone(&order);
        let far = core.spawn_held(async move {
            b.recv().await.unwrap();
            received.borrow_mut().push("received");
        });
        // The far task waits for the bytes by now, and nothing else is ready.
        core.sleep(Duration::from_millis(1)).await;
        let mut lease = core.pool().lease_for(1).await;
        lease.append(b"x");
        a.send(lease).unwrap();
        assert!(poll_once(a.flushed()).await.is_none(), "nothing is sent within a task");
        core.after_sends().await;
        assert!(poll_once(a.flushed()).await.is_some(), "it was sent in the meantime");
        order.borrow_mut().push("sent");
        far.await;
        assert_eq!(*order.borrow(), ["sent", "received"]);
        let busy = [(); 3].map(|()| core.spawn_held(async {}));
        assert!(poll_once(core.after_sends()).await.is_some(), "a busy core does not wait");
        for task in busy {
            task.await;
        }
        drop(a);
        settled(&core).await;
    });
}

#[test]
fn a_dropped_future_loses_no_byte() {
    on_both(|core| async move {
        let (a, b) = pair(&core).await;
        let bytes = noise(200_000, 3);
        let expected = bytes.clone();
        let far = core.spawn_held(async move {
            for piece in bytes.chunks(1_000) {
                send_all(&b, piece).await;
                yield_now().await;
            }
            b.finish();
        });
        let mut got = Vec::new();
        let mut dropped = 0;
        // A receive that is given up each time that nothing is there yet.
        loop {
            match poll_once(a.recv()).await {
                Some(received) => match received.unwrap() {
                    Some(lease) => got.extend_from_slice(&lease),
                    None => break,
                },
                None => {
                    dropped += 1;
                    yield_now().await;
                }
            }
        }
        assert!(dropped > 0);
        assert!(got == expected);
        far.await;
        drop(a);
        settled(&core).await;
    });
}

#[test]
fn the_last_bytes_arrive_although_the_peer_still_sends() {
    on_both(|core| async move {
        let (a, b) = pair(&core).await;
        let far = core.spawn_held(async move {
            // Unread bytes lie at `b`'s side when it closes.
            send_all(&b, b"the last words").await;
            b.close_gracefully(Duration::from_secs(5)).await;
        });
        send_all(&a, &noise(100_000, 4)).await;
        let got = read_to_end(&a).await;
        assert_eq!(got, b"the last words");
        drop(a);
        far.await;
        settled(&core).await;
    });
}

#[test]
fn a_connection_moves_to_another_core_with_its_unread_bytes() {
    on_both(|core| async move {
        let (to_other, mut inbox) = mailbox::<Detached>(4);
        let choice = match core.driver_kind().as_str() {
            "uring" => DriverChoice::Uring,
            _ => DriverChoice::Epoll,
        };
        let other = std::thread::spawn(move || {
            let other = self::core(choice);
            let there = other.clone();
            other
                .run(async move {
                    let detached = inbox.recv().await.unwrap();
                    let socket = there.adopt(detached, SocketOptions::default()).await.unwrap();
                    let got = read_to_end(&socket).await;
                    send_all(&socket, &got).await;
                    socket.finish();
                    socket.flushed().await.unwrap();
                    drop(socket);
                    settled(&there).await;
                })
                .unwrap();
        });
        let (a, b) = pair(&core).await;
        let before = b.received_at();
        send_all(&a, b"before ").await;
        // So that the bytes are this core's when the socket leaves it.
        while b.received_at() == before {
            yield_now().await;
        }
        to_other.send(b.detach().await.unwrap()).unwrap();
        send_all(&a, b"and after").await;
        a.finish();
        assert_eq!(read_to_end(&a).await, b"before and after");
        drop(a);
        settled(&core).await;
        other.join().unwrap();
    });
}

#[test]
fn a_connection_without_a_listener_is_refused() {
    on_both(|core| async move {
        let (listener, address) = listen(&core);
        drop(listener);
        settled(&core).await;
        let refused = core.connect(&address, SocketOptions::default()).await.err().expect("nobody listens");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        settled(&core).await;
    });
}

#[test]
fn thousands_of_connections_come_and_go() {
    on_both(|core| async move {
        let (listener, address) = listen(&core);
        let echo_core = core.clone();
        let echo = core.spawn_held(async move {
            loop {
                let (accepted, _) = listener.accept().await.unwrap();
                let core = echo_core.clone();
                echo_core.spawn(async move {
                    let socket = core.adopt(accepted, SocketOptions::default()).await.unwrap();
                    while let Ok(Some(lease)) = socket.recv().await {
                        if socket.send(lease).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        let worker = |worker: u64| {
            let (here, address) = (core.clone(), address.clone());
            core.spawn_held(async move {
                let mut rng = Rng::new(worker);
                for _ in 0..64 {
                    let socket = here.connect(&address, SocketOptions::default()).await.unwrap();
                    let bytes = noise(rng.between(1, 5_000) as usize, rng.next_u64());
                    send_all(&socket, &bytes).await;
                    let mut got = 0;
                    while got < bytes.len() {
                        let lease = socket.recv().await.unwrap().expect("an echo of everything");
                        assert_eq!(lease[..], bytes[got..got + lease.len()]);
                        got += lease.len();
                    }
                    if rng.chance(0.3) {
                        socket.abort();
                    }
                }
            })
        };
        let workers: Vec<_> = (0..32).map(worker).collect();
        for worker in workers {
            worker.await;
        }
        drop(echo);
        settled(&core).await;
    });
}

/// A pinned thread sees one CPU: asked there, none would ever be to spare.
#[test]
fn a_pinned_core_spins_as_long_as_its_process_may() {
    let settings = EngineSettings { driver: DriverChoice::Epoll, cores: 1, pin: true, ..EngineSettings::default() };
    let may = settings.spin_budget();
    let (tell, shared) = std::sync::mpsc::channel();
    let cores = Cores::start(&settings, move |core| {
        tell.send(core.spin_budget()).unwrap();
        async {}
    });
    assert_eq!(shared.recv().unwrap(), may);
    cores.unwrap().join().unwrap();
}
