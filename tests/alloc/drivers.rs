//! Once warm, the drivers allocate nothing for what is sent and received.
//!
//! Counted on one thread by an allocator of this test's own.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::Ipv4Addr;
use std::time::Duration;

use adit::engine::driver::{Address, Driver, Event, SocketOptions, Token, Wait};
use adit::engine::ladder::{self, DriverChoice};
use adit::engine::{Class, Pool};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator as it came; the counter is a plain thread-local without a
// destructor, so that touching it neither allocates nor fails.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: the caller's promise is the one that `System` asks for.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: the caller's promise is the one that `System` asks for.
    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: `place` came from `System` with this layout, as `alloc` passes everything on.
        unsafe { System.dealloc(place, layout) }
    }

    // SAFETY: the caller's promise is the one that `System` asks for.
    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: `place` came from `System` with this layout, as `alloc` passes everything on.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const LISTENER: Token = Token { index: 0, generation: 0 };
const CLIENT: Token = Token { index: 1, generation: 0 };
const SERVER: Token = Token { index: 2, generation: 0 };
/// Leases of one request, so that sends are gathered.
const PIECES: usize = 3;
const PIECE: usize = 300;

/// A client and an echo on one driver.
struct Echo {
    driver: Box<dyn Driver>,
    pool: Pool,
    events: Vec<Event>,
}

impl Echo {
    fn connect(choice: DriverChoice) -> Echo {
        let pool = Pool::new(0);
        let driver = ladder::start(choice, &pool).expect("a driver").driver;
        let mut echo = Echo { driver, pool, events: Vec::new() };
        let loopback = Address::Tcp((Ipv4Addr::LOCALHOST, 0).into());
        let address = echo.driver.listen(LISTENER, &loopback).expect("a free port");
        echo.driver.accept(LISTENER, true);
        echo.driver.connect(CLIENT, &address, SocketOptions { quick_ack: true }).expect("a socket");
        let mut ends = 0;
        while ends < 2 {
            echo.turn();
            for event in echo.events.drain(..) {
                match event {
                    Event::Connected { result, .. } => result.expect("connected"),
                    Event::Accepted { socket, .. } => {
                        echo.driver.adopt(SERVER, socket, SocketOptions::default()).expect("a socket");
                    }
                    other => panic!("{other:?}"),
                }
                ends += 1;
            }
        }
        echo.driver.receive(CLIENT, true);
        echo.driver.receive(SERVER, true);
        echo
    }

    fn turn(&mut self) {
        let until = self.driver.now() + Duration::from_secs(5);
        self.driver.turn(Wait::Until(until), &mut self.events).expect("the driver works");
        assert!(!self.events.is_empty() || self.driver.now() < until, "nothing happened");
    }

    fn round_trip(&mut self) {
        for _ in 0..PIECES {
            let mut lease = self.pool.take(Class::Small).expect("a buffer");
            lease.filled(PIECE);
            self.driver.send(CLIENT, lease);
        }
        let mut back = 0;
        while back < PIECES * PIECE {
            self.turn();
            for event in self.events.drain(..) {
                match event {
                    Event::Received { socket: SERVER, lease } => self.driver.send(SERVER, lease),
                    Event::Received { lease, .. } => back += lease.len(),
                    Event::Sent { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

#[test]
fn a_round_trip_allocates_nothing() {
    for choice in [DriverChoice::Epoll, DriverChoice::Auto] {
        let mut echo = Echo::connect(choice);
        for _ in 0..200 {
            echo.round_trip();
        }
        let before = ALLOCATIONS.get();
        for _ in 0..1000 {
            echo.round_trip();
        }
        assert_eq!(ALLOCATIONS.get() - before, 0, "on {}", echo.driver.kind());
    }
}
