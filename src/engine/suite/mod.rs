//! What every driver must do: one suite, run on each driver.
//!
//! A [`Network`] creates drivers that can reach each other. The tests turn them by hand, in one thread, and never
//! measure time.

mod churn;
mod classes;
mod closing;
mod datagrams;
mod descriptors;
mod listening;
mod node;
mod scarcity;
mod streaming;

use crate::base::Rng;
use crate::engine::driver::{Address, Driver, Token};
use crate::engine::pool::Pool;
use crate::engine::suite::node::Node;
use crate::engine::sys::epoll::EpollDriver;
use crate::engine::sys::uring::UringDriver;

/// After this many rounds of turns, something that has not happened counts as never happening.
const ROUNDS_MAX: usize = 40_000;

/// After how many turns drivers are asked to free memory.
const TRIM_EVERY_TURNS: usize = 3;

/// Drivers of one kind that can reach each other.
pub(in crate::engine) trait Network: Sized {
    /// A network whose randomness, if any, follows from `seed`; `None` if this machine does not support it.
    fn new(seed: u64) -> Option<Self>;

    /// Another driver on it, which receives into buffers of `pool`.
    fn driver(&mut self, pool: &Pool) -> Box<dyn Driver>;

    /// An address to listen on. The driver returns the actual one.
    fn address(&mut self) -> Address;

    /// An address for Unix sockets, if they are supported.
    fn unix_address(&mut self) -> Option<Address>;
}

/// Two drivers and what they reported.
struct World<N> {
    network: N,
    /// The first connects, the second listens.
    nodes: [Node; 2],
    rng: Rng,
    turns: usize,
}

/// Sides of a [`World`].
const NEAR: usize = 0;
const FAR: usize = 1;

impl<N: Network> World<N> {
    fn new(seed: u64) -> Option<World<N>> {
        World::with_buffers(seed, 16 * 1024 * 1024)
    }

    fn with_buffers(seed: u64, bytes_max: usize) -> Option<World<N>> {
        let mut network = N::new(seed)?;
        let nodes = [(); 2].map(|()| {
            let pool = Pool::new(bytes_max);
            Node::new(network.driver(&pool), pool)
        });
        Some(World { network, nodes, rng: Rng::new(seed), turns: 0 })
    }

    fn turn(&mut self) {
        self.turns += 1;
        for node in &mut self.nodes {
            node.turn_briefly();
            // Twice in a row, with nothing received in between. No byte may be lost, whatever is in progress.
            if self.turns.is_multiple_of(TRIM_EVERY_TURNS) {
                node.driver.trim();
                node.driver.trim();
            }
        }
    }

    /// Turns all nodes until `done` returns true; fails after `ROUNDS_MAX` rounds.
    #[track_caller]
    fn until(&mut self, what: &str, mut done: impl FnMut(&mut World<N>) -> bool) {
        for _ in 0..ROUNDS_MAX {
            if done(self) {
                return;
            }
            self.turn();
        }
        panic!("never happened: {what}");
    }

    /// Turns for a while without expecting anything in particular.
    fn a_while(&mut self) {
        for _ in 0..20 {
            self.turn();
        }
    }

    /// An armed listener on the far side.
    fn listen(&mut self) -> (Token, Address) {
        let address = self.network.address();
        let (listener, bound) = self.nodes[FAR].listen(&address);
        self.nodes[FAR].driver.accept(listener, true);
        (listener, bound)
    }

    /// A connection through `address`, whose ends do not receive yet.
    fn connect(&mut self, address: &Address) -> (Token, Token) {
        let near = self.nodes[NEAR].connect(address);
        self.until("a connection is accepted", |world| {
            let connected = world.nodes[NEAR].log(near).connected.is_some();
            connected && !world.nodes[FAR].accepted.is_empty()
        });
        self.nodes[NEAR].log(near).connected.take().expect("checked above").expect("connected");
        let accepted = self.nodes[FAR].accepted.pop_front().expect("checked above");
        let far = self.nodes[FAR].adopt(accepted.raw);
        (near, far)
    }

    /// A connection whose ends both receive.
    fn pair(&mut self) -> (Token, Token) {
        let (listener, address) = self.listen();
        let (near, far) = self.connect(&address);
        self.nodes[FAR].close(listener);
        self.nodes[NEAR].driver.receive(near, true);
        self.nodes[FAR].driver.receive(far, true);
        (near, far)
    }

    /// Ends both drivers, and checks that every buffer was returned.
    fn finish(self) {
        for node in self.nodes {
            node.finish();
        }
    }
}

/// The payload of a numbered stream.
fn payload(stream: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(stream);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.next_u64().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Defines the tests of the whole suite for one kind of network.
macro_rules! conformance {
    ($network:ty) => {
        conformance! { $network:
            churn::connections_come_and_go_at_random,
            churn::verbs_race_with_what_arrives,
            churn::a_place_used_again_sees_nothing_of_its_past,
            closing::each_side_finishes_by_itself,
            closing::a_reset_is_seen,
            closing::a_peer_that_goes_in_the_middle_of_a_send_fails_it,
            closing::a_flushing_close_sends_what_is_queued,
            closing::an_aborting_close_drops_what_is_queued,
            closing::a_stuck_flushing_close_can_be_aborted,
            closing::unacknowledged_bytes_are_reported,
            closing::pending_input_is_reported,
            closing::an_end_is_reported_while_receiving_is_paused,
            closing::a_reset_behind_the_end_is_seen,
            closing::an_unconnected_socket_closes,
            closing::a_socket_moves_between_drivers,
            closing::a_broken_socket_does_not_detach,
            closing::verbs_on_unknown_tokens_do_nothing,
            datagrams::batches_arrive_as_the_datagrams_that_were_sent,
            datagrams::addresses_and_marks_are_carried_both_ways,
            datagrams::a_paused_socket_receives_later,
            datagrams::what_is_too_large_is_dropped_and_the_rest_goes_on,
            datagrams::a_port_that_nobody_holds_stops_nothing,
            datagrams::without_buffers_datagrams_wait_and_nothing_spins,
            datagrams::many_more_than_a_buffer_holds_are_all_reported,
            datagrams::a_closed_socket_gives_its_place_and_port_back,
            datagrams::sockets_share_a_port_and_keep_to_their_peers,
            listening::a_paused_listener_accepts_later,
            listening::a_closed_listener_refuses,
            listening::a_port_without_a_listener_is_an_error,
            listening::unix_sockets_carry_bytes,
            listening::another_thread_wakes_a_waiting_turn,
            scarcity::without_buffers_bytes_wait_and_nothing_spins,
            scarcity::a_burst_over_many_sockets_arrives,
            scarcity::a_link_receives_when_others_cannot,
            scarcity::small_pieces_that_wait_to_be_sent_share_buffers,
            scarcity::a_pause_holds_everything_back,
            scarcity::a_slow_reader_stops_the_sender,
            streaming::bytes_arrive_whole_in_any_cut,
            streaming::many_small_leases_are_gathered,
            streaming::an_idle_turn_ends_at_its_deadline,
            streaming::busy_sockets_do_not_starve_others,
        }
    };
    ($network:ty: $($module:ident::$test:ident,)*) => {
        $(
            #[test]
            fn $test() {
                for seed in 1..=3 {
                    if $crate::engine::suite::$module::$test::<$network>(seed).is_none() {
                        eprintln!("not run: this machine has no such driver");
                    }
                }
            }
        )*
    };
}

/// A temporary directory for unix sockets, and addresses on loopback.
struct Loopback {
    directory: tempfile::TempDir,
    named: u32,
}

impl Loopback {
    fn new() -> Loopback {
        Loopback { directory: tempfile::tempdir().expect("a temporary directory"), named: 0 }
    }

    fn address() -> Address {
        Address::Tcp(([127, 0, 0, 1], 0).into())
    }

    fn unix_address(&mut self) -> Address {
        self.named += 1;
        Address::Unix(self.directory.path().join(self.named.to_string()))
    }
}

/// Loopback sockets on the epoll driver.
struct EpollNetwork(Loopback);

impl Network for EpollNetwork {
    fn new(_seed: u64) -> Option<EpollNetwork> {
        Some(EpollNetwork(Loopback::new()))
    }

    fn driver(&mut self, pool: &Pool) -> Box<dyn Driver> {
        Box::new(EpollDriver::new(pool).expect("epoll works everywhere"))
    }

    fn address(&mut self) -> Address {
        Loopback::address()
    }

    fn unix_address(&mut self) -> Option<Address> {
        Some(self.0.unix_address())
    }
}

/// Loopback on io_uring, where the system allows it.
struct UringNetwork(Loopback);

impl Network for UringNetwork {
    fn new(_seed: u64) -> Option<UringNetwork> {
        use std::io::ErrorKind::{PermissionDenied, Unsupported};
        match UringDriver::new(&Pool::new(0)) {
            Err(error) if matches!(error.kind(), PermissionDenied | Unsupported) => None,
            _ => Some(UringNetwork(Loopback::new())),
        }
    }

    fn driver(&mut self, pool: &Pool) -> Box<dyn Driver> {
        Box::new(UringDriver::new(pool).expect("there was a ring a moment ago"))
    }

    fn address(&mut self) -> Address {
        Loopback::address()
    }

    fn unix_address(&mut self) -> Option<Address> {
        Some(self.0.unix_address())
    }
}

mod on_epoll {
    conformance!(super::EpollNetwork);
}

mod on_sim;

mod on_uring {
    conformance!(super::UringNetwork);
}
