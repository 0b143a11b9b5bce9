//! Once warm, the drivers allocate nothing for what is sent and received.

use std::net::Ipv4Addr;
use std::time::Duration;

use adit::engine::driver::{Address, Driver, DriverEvent, SocketOptions, Token, Wait};
use adit::engine::ladder::{self, DriverChoice};
use adit::engine::{Class, Pool};

use crate::counting::allocations;

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
    events: Vec<DriverEvent>,
}

impl Echo {
    fn connect(choice: DriverChoice) -> Echo {
        let pool = Pool::new(0);
        let driver = ladder::start(choice, &pool).expect("a driver").driver;
        let mut echo = Echo { driver, pool, events: Vec::new() };
        let loopback = Address::Tcp((Ipv4Addr::LOCALHOST, 0).into());
        let address = echo.driver.listen(LISTENER, &loopback).expect("a free port");
        echo.driver.accept(LISTENER, true);
        echo.driver
            .connect(CLIENT, &address, SocketOptions { quick_ack: true, ..SocketOptions::default() })
            .expect("a socket");
        let mut ends = 0;
        while ends < 2 {
            echo.turn();
            for event in echo.events.drain(..) {
                match event {
                    DriverEvent::Connected { result, .. } => result.expect("connected"),
                    DriverEvent::Accepted { socket, .. } => {
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
                    DriverEvent::Received { socket: SERVER, lease } => self.driver.send(SERVER, lease),
                    DriverEvent::Received { lease, .. } => back += lease.len(),
                    DriverEvent::Sent { .. } => {}
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
        let before = allocations();
        for _ in 0..1000 {
            echo.round_trip();
        }
        assert_eq!(allocations() - before, 0, "on {}", echo.driver.kind());
    }
}
