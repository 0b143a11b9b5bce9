//! Two machines of `wire::quic` on a virtual clock, with a path between them that loses, swaps and delays datagrams and changes
//! addresses.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn_proto::crypto;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::base::{CoreId, Rng, Time};
use crate::engine::instant_of_zero;
use crate::wire::quic::*;

const CLIENT: usize = 0;
const SERVER: usize = 1;

/// What the path does to datagrams.
#[derive(Clone, Copy)]
struct Weather {
    loss: f64,
    late: f64,
    double: f64,
    mtu: usize,
}

const CALM: Weather = Weather { loss: 0.0, late: 0.0, double: 0.0, mtu: 1_500 };
const ROUGH: Weather = Weather { loss: 0.05, late: 0.2, double: 0.05, mtu: 1_400 };

struct Pair {
    machines: [QuicMachine; 2],
    addresses: [SocketAddr; 2],
    events: [Vec<QuicEvent>; 2],
    under_way: BTreeMap<(Time, u64), (usize, DatagramPath, Vec<u8>)>,
    number: u64,
    now: Time,
    rng: Rng,
    weather: Weather,
    admits: bool,
}

fn fill(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).unwrap();
}

fn keys() -> QuicKeys {
    QuicKeys::draw(fill)
}

fn crypto() -> (Arc<dyn crypto::ServerConfig>, Arc<dyn crypto::ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["edge.test".to_owned()]).unwrap();
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    server.alpn_protocols = vec![b"test".to_vec()];
    client.alpn_protocols = vec![b"test".to_vec()];
    let server = QuicServerConfig::try_from(Arc::new(server)).unwrap();
    (Arc::new(server), Arc::new(QuicClientConfig::try_from(Arc::new(client)).unwrap()))
}

impl Pair {
    fn new(seed: u64, settings: QuicSettings) -> (Pair, Arc<dyn crypto::ClientConfig>) {
        let (server, client) = crypto();
        let zero = instant_of_zero();
        let machine = |core| QuicMachine::new(CoreId(core), settings, keys(), zero);
        let mut machines = [machine(0), machine(3)];
        machines[SERVER].serve(server);
        let pair = Pair {
            machines,
            addresses: ["10.0.0.1:40000".parse().unwrap(), "10.0.0.2:7844".parse().unwrap()],
            events: Default::default(),
            under_way: BTreeMap::new(),
            number: 0,
            now: Time::from_nanos(1),
            rng: Rng::new(seed),
            weather: CALM,
            admits: true,
        };
        (pair, client)
    }

    fn connect(&mut self, crypto: &Arc<dyn crypto::ClientConfig>) -> ConnectionKey {
        let server = self.addresses[SERVER];
        self.machines[CLIENT].connect(self.now, Arc::clone(crypto), server, "edge.test").unwrap()
    }

    /// Connects, and returns the keys of both sides.
    fn connected(&mut self, crypto: &Arc<dyn crypto::ClientConfig>) -> [ConnectionKey; 2] {
        let near = self.connect(crypto);
        self.until("connected", |pair| pair.incoming().is_some() && pair.is_connected(near));
        [near, self.incoming().unwrap()]
    }

    fn is_connected(&self, key: ConnectionKey) -> bool {
        self.events[CLIENT].iter().any(|event| matches!(event, QuicEvent::Connected { key: of, .. } if *of == key))
    }

    fn incoming(&self) -> Option<ConnectionKey> {
        self.events[SERVER].iter().rev().find_map(|event| match event {
            QuicEvent::Connected { key, is_incoming: true } => Some(*key),
            _ => None,
        })
    }

    /// How often a peer was not accepted in this way.
    fn strangers(&self, outcome: StrangerOutcome) -> usize {
        let is_it = |event: &&QuicEvent| matches!(event, QuicEvent::Stranger(of) if *of == outcome);
        self.events[SERVER].iter().filter(is_it).count()
    }

    fn lost(&self, side: usize) -> Option<&ConnectionError> {
        self.events[side].iter().find_map(|event| match event {
            QuicEvent::Lost { why, .. } => Some(why),
            _ => None,
        })
    }

    /// Sends what both sides have, and collects their events.
    fn flush(&mut self) {
        for side in [CLIENT, SERVER] {
            let mut out = Vec::new();
            while let Some(transmit) = self.machines[side].poll_transmit(self.now, 10, &mut out) {
                for datagram in out.chunks(transmit.segment_size.unwrap_or(out.len())) {
                    self.send(side, &transmit, datagram.to_vec());
                }
                out.clear();
            }
            while let Some(event) = self.machines[side].poll_event() {
                self.events[side].push(event);
            }
        }
    }

    fn send(&mut self, from: usize, transmit: &Transmit, datagram: Vec<u8>) {
        let Some(to) = self.addresses.iter().position(|address| *address == transmit.destination) else { return };
        if datagram.len() + 28 > self.weather.mtu || self.rng.chance(self.weather.loss) {
            return;
        }
        let copies = if self.rng.chance(self.weather.double) { 2 } else { 1 };
        for _ in 0..copies {
            let late_us = if self.rng.chance(self.weather.late) { self.rng.below(30_000) } else { 0 };
            let at = self.now + Duration::from_micros(10_000 + late_us);
            self.number += 1;
            let path = DatagramPath { peer: self.addresses[from], local: None, ecn: transmit.ecn };
            self.under_way.insert((at, self.number), (to, path, datagram.clone()));
        }
    }

    /// Moves the clock to whatever happens next.
    fn step(&mut self) {
        self.flush();
        let arrival = self.under_way.keys().next().map_or(Time::NEVER, |(at, _)| *at);
        let timers = self.machines[CLIENT].timeout().min(self.machines[SERVER].timeout());
        self.now = self.now.max(arrival.min(timers));
        while let Some(entry) = self.under_way.first_entry()
            && entry.key().0 <= self.now
        {
            let (to, path, datagram) = entry.remove();
            let admits = self.admits;
            self.machines[to].receive(self.now, path, &datagram, |_| admits);
        }
        for machine in &mut self.machines {
            machine.handle_timeout(self.now);
        }
        self.flush();
    }

    #[track_caller]
    fn until(&mut self, what: &str, done: impl Fn(&mut Pair) -> bool) {
        for _ in 0..50_000 {
            if done(self) {
                return;
            }
            self.step();
        }
        panic!("never happened: {what}; lost: {:?} {:?}", self.lost(CLIENT), self.lost(SERVER));
    }

    /// Sends `bytes` on a new stream of the client, has the server send them back, and returns what comes.
    fn echo(&mut self, keys: [ConnectionKey; 2], bytes: &[u8]) -> Vec<u8> {
        let stream = self.machines[CLIENT].open_stream(keys[CLIENT]).expect("a stream is free");
        let (mut sent, mut queued, mut back) = (0, Vec::new(), Vec::new());
        let mut is_finished = [false; 2];
        for _ in 0..50_000 {
            sent += self.machines[CLIENT].write(keys[CLIENT], stream, &bytes[sent..]).unwrap();
            if sent == bytes.len() && !std::mem::replace(&mut is_finished[CLIENT], true) {
                self.machines[CLIENT].finish(keys[CLIENT], stream);
            }
            while self.machines[SERVER].accept_stream(keys[SERVER]).is_some() {}
            let mut is_read = false;
            loop {
                match self.machines[SERVER].read(keys[SERVER], stream, 4096) {
                    QuicRead::Bytes(more) => queued.extend_from_slice(&more),
                    QuicRead::Finished => is_read = true,
                    QuicRead::Blocked => {}
                    QuicRead::Reset(code) => panic!("reset with {code}"),
                }
                if is_read || !matches!(self.machines[SERVER].read(keys[SERVER], stream, 0), QuicRead::Bytes(_)) {
                    break;
                }
            }
            let written = self.machines[SERVER].write(keys[SERVER], stream, &queued).unwrap_or(0);
            queued.drain(..written);
            if is_read && queued.is_empty() && !is_finished[SERVER] && sent == bytes.len() {
                is_finished[SERVER] = true;
                self.machines[SERVER].finish(keys[SERVER], stream);
            }
            match self.machines[CLIENT].read(keys[CLIENT], stream, 4096) {
                QuicRead::Bytes(more) => back.extend_from_slice(&more),
                QuicRead::Finished => return back,
                QuicRead::Blocked => self.step(),
                QuicRead::Reset(code) => panic!("reset with {code}"),
            }
        }
        panic!("the echo does not end: {sent} sent, {} back; lost: {:?}", back.len(), self.lost(CLIENT));
    }
}

fn payload(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = Rng::new(seed);
    (0..len).map(|_| rng.next_u64() as u8).collect()
}

#[test]
fn bytes_come_back_whole_over_a_calm_path_and_a_rough_one() {
    for (seed, weather) in [(1, CALM), (2, ROUGH), (3, ROUGH)] {
        let (mut pair, crypto) = Pair::new(seed, QuicSettings::default());
        pair.weather = weather;
        let keys = pair.connected(&crypto);
        for len in [0, 1, 5_000, 300_000] {
            let bytes = payload(seed, len);
            assert!(pair.echo(keys, &bytes) == bytes, "{len} bytes of seed {seed}");
        }
    }
}

#[test]
fn a_connection_outlives_a_change_of_address() {
    let (mut pair, crypto) = Pair::new(4, QuicSettings::default());
    let keys = pair.connected(&crypto);
    pair.echo(keys, b"before");
    pair.addresses[CLIENT] = "10.0.0.9:50123".parse().unwrap();
    let bytes = payload(4, 100_000);
    assert!(pair.echo(keys, &bytes) == bytes);
    assert!(pair.lost(CLIENT).is_none() && pair.lost(SERVER).is_none());
}

#[test]
fn ids_of_a_connection_name_its_core() {
    let (mut pair, crypto) = Pair::new(5, QuicSettings::default());
    let mask = pair.machines[SERVER].keys().mask();
    let keys = pair.connected(&crypto);
    let stream = pair.machines[CLIENT].open_stream(keys[CLIENT]).unwrap();
    pair.machines[CLIENT].write(keys[CLIENT], stream, b"hello").unwrap();
    pair.flush();
    let cores: Vec<_> = pair
        .under_way
        .values()
        .filter(|(to, ..)| *to == SERVER)
        .filter_map(|(_, _, datagram)| core_of_datagram(datagram, mask))
        .collect();
    assert!(!cores.is_empty() && cores.iter().all(|core| *core == CoreId(3)), "{cores:?}");
}

#[test]
fn under_load_peers_prove_their_address_first() {
    let settings = QuicSettings { retry_from: 0, ..QuicSettings::default() };
    let (mut pair, crypto) = Pair::new(6, settings);
    let keys = pair.connected(&crypto);
    assert_eq!(pair.strangers(StrangerOutcome::Retried), 1);
    assert_eq!(pair.echo(keys, b"proven"), b"proven");
}

#[test]
fn a_limit_that_is_reached_refuses_and_counts() {
    for settings in [
        QuicSettings { handshakes_max: 0, ..QuicSettings::default() },
        QuicSettings { connections_max: 1, ..QuicSettings::default() },
    ] {
        let (mut pair, crypto) = Pair::new(7, settings);
        if settings.connections_max == 1 {
            pair.connected(&crypto);
            pair.machines[CLIENT] = QuicMachine::new(CoreId(0), settings, keys(), instant_of_zero());
            pair.addresses[CLIENT].set_port(40_001);
        }
        pair.connect(&crypto);
        pair.until("refused", |pair| pair.lost(CLIENT).is_some());
        assert_eq!(pair.strangers(StrangerOutcome::Refused), 1);
        let error = pair.machines[CLIENT].connect(pair.now, crypto, pair.addresses[SERVER], "edge.test");
        assert_eq!(error.is_err(), settings.connections_max == 1 && pair.machines[CLIENT].connections() > 0);
    }
}

#[test]
fn a_peer_that_is_not_admitted_hears_nothing() {
    let (mut pair, crypto) = Pair::new(8, QuicSettings::default());
    pair.admits = false;
    pair.connect(&crypto);
    pair.until("given up", |pair| pair.lost(CLIENT).is_some());
    assert_eq!(pair.lost(CLIENT), Some(&ConnectionError::TimedOut));
    assert!(pair.strangers(StrangerOutcome::Refused) > 0);
    assert_eq!(pair.machines[SERVER].connections(), 0);
}

#[test]
fn a_silent_peer_is_lost_and_an_idle_one_is_kept() {
    let (mut pair, crypto) = Pair::new(9, QuicSettings::default());
    let keys = pair.connected(&crypto);
    let later = pair.now + Duration::from_secs(60);
    pair.until("a minute passes", |pair| pair.now >= later);
    assert_eq!(pair.echo(keys, b"still there"), b"still there");
    pair.weather.loss = 1.0;
    pair.until("both notice", |pair| pair.lost(CLIENT).is_some() && pair.lost(SERVER).is_some());
    assert_eq!(pair.lost(SERVER), Some(&ConnectionError::TimedOut));
    pair.until("nothing is kept", |pair| pair.machines.iter().all(|machine| machine.connections() == 0));
}

#[test]
fn closing_tells_the_peer_why() {
    let (mut pair, crypto) = Pair::new(10, QuicSettings::default());
    let keys = pair.connected(&crypto);
    let now = pair.now;
    pair.machines[SERVER].close(now, keys[SERVER], 7, "enough");
    pair.until("the peer hears", |pair| pair.lost(CLIENT).is_some());
    let Some(ConnectionError::ApplicationClosed(close)) = pair.lost(CLIENT) else { panic!("{:?}", pair.lost(CLIENT)) };
    assert_eq!((close.error_code.into_inner(), &close.reason[..]), (7, &b"enough"[..]));
    pair.until("nothing is kept", |pair| pair.machines.iter().all(|machine| machine.connections() == 0));
    assert!(pair.machines[SERVER].open_stream(keys[SERVER]).is_none());
    assert_eq!(pair.machines[SERVER].timeout(), Time::NEVER);
}

#[test]
fn a_reset_and_a_stop_reach_the_peer() {
    let (mut pair, crypto) = Pair::new(11, QuicSettings::default());
    let keys = pair.connected(&crypto);
    let stream = pair.machines[CLIENT].open_stream(keys[CLIENT]).unwrap();
    pair.machines[CLIENT].write(keys[CLIENT], stream, b"begun").unwrap();
    pair.until("the server sees it", |pair| pair.machines[SERVER].accept_stream(keys[SERVER]).is_some());
    pair.machines[CLIENT].reset(keys[CLIENT], stream, 21);
    pair.machines[CLIENT].stop(keys[CLIENT], stream, 22);
    pair.until("it is told to stop", |pair| {
        pair.events[SERVER].iter().any(|event| matches!(event, QuicEvent::Stopped { code: 22, .. }))
    });
    pair.until("it reads the reset", |pair| {
        matches!(pair.machines[SERVER].read(keys[SERVER], stream, 100), QuicRead::Reset(21))
    });
    assert!(pair.machines[SERVER].write(keys[SERVER], stream, b"late").is_err());
}

#[test]
fn unread_bytes_stay_within_the_window() {
    let settings = QuicSettings { stream_window: 32 << 10, window: 64 << 10, ..QuicSettings::default() };
    let (mut pair, crypto) = Pair::new(12, settings);
    let keys = pair.connected(&crypto);
    let mut sent = 0;
    for _ in 0..10 {
        let stream = pair.machines[CLIENT].open_stream(keys[CLIENT]).unwrap();
        sent += pair.machines[CLIENT].write(keys[CLIENT], stream, &vec![1; 100_000]).unwrap();
        let until = pair.now + Duration::from_secs(1);
        pair.until("time passes", |pair| pair.now >= until);
    }
    assert_eq!(sent, 64 << 10, "no more than the window is accepted while nothing is read");
}

#[test]
fn no_datagram_from_a_stranger_does_harm() {
    let (mut pair, crypto) = Pair::new(13, QuicSettings::default());
    let keys = pair.connected(&crypto);
    let mut rng = Rng::new(13);
    let path = DatagramPath { peer: "10.6.6.6:666".parse().unwrap(), local: None, ecn: None };
    let mut genuine: Vec<Vec<u8>> = Vec::new();
    let stream = pair.machines[CLIENT].open_stream(keys[CLIENT]).unwrap();
    pair.machines[CLIENT].write(keys[CLIENT], stream, &payload(13, 5_000)).unwrap();
    pair.flush();
    genuine.extend(pair.under_way.values().map(|(_, _, datagram)| datagram.clone()));
    for round in 0..3_000 {
        let mut datagram = match round % 3 {
            0 => payload(round, rng.below(1_500) as usize),
            _ => genuine[rng.below(genuine.len() as u64) as usize].clone(),
        };
        for _ in 0..rng.below(4) {
            let at = rng.below(datagram.len().max(1) as u64) as usize;
            if let Some(byte) = datagram.get_mut(at) {
                *byte ^= 1 << rng.below(8);
            }
        }
        datagram.truncate(rng.below(datagram.len() as u64 + 1) as usize);
        pair.machines[(round % 2) as usize].receive(pair.now, path, &datagram, |_| true);
    }
    pair.flush();
    assert!(pair.machines[SERVER].connections() <= 2);
    assert_eq!(pair.echo(keys, b"unharmed"), b"unharmed");
}
