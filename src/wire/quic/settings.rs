//! Limits of QUIC, and the keys that all cores of a process share.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{hkdf, hmac};
use quinn_proto::{EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TransportConfig, VarInt};

use crate::base::CoreId;

use super::core_ids::CoreIds;

/// The largest datagram that is accepted, in bytes: what UDP carries over IPv6.
const RECEIVED_LEN_MAX: u16 = 65_527;
/// The largest datagram that a path is probed for, in bytes: what fits into a jumbo frame.
const PROBED_LEN_MAX: u16 = 8_952;
/// How many datagrams of a client wait for the decision about it, in bytes. There is none to wait for.
const UNDECIDED_BYTES_MAX: u64 = 16 * 1024;
/// The most bytes of one handshake that arrive out of order.
const HANDSHAKE_BYTES_MAX: usize = 32 * 1024;

/// The length of a seed for [`QuicKeys::of_seed`], in bytes.
pub const QUIC_SEED_LEN: usize = 32;

/// The limits of all connections of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuicSettings {
    /// The most connections at the same time.
    pub connections_max: usize,
    /// The most handshakes in progress that peers have begun.
    pub handshakes_max: usize,
    /// With this many handshakes in progress, a peer must first show that it receives at its address (Retry).
    pub retry_from: usize,
    /// The most streams that the peer may have open.
    pub streams_max: u32,
    /// How many bytes of a stream the peer may send ahead of what was read.
    pub stream_window: u32,
    /// The same for all streams of a connection together: the most that a peer can make this side hold.
    pub window: u32,
    /// How many bytes of a connection may be unacknowledged or unsent on this side.
    pub send_window: u32,
    /// A connection on which nothing arrives for so long is lost.
    pub idle_timeout: Duration,
    /// After so long a silence the peer is sent something that it answers.
    pub keep_alive: Duration,
}

impl Default for QuicSettings {
    fn default() -> QuicSettings {
        QuicSettings {
            connections_max: 4_096,
            handshakes_max: 1_024,
            retry_from: 64,
            streams_max: 10_000,
            stream_window: 1 << 20,
            window: 8 << 20,
            send_window: 4 << 20,
            idle_timeout: Duration::from_secs(15),
            keep_alive: Duration::from_secs(5),
        }
    }
}

impl QuicSettings {
    pub(super) fn transport(&self) -> Arc<TransportConfig> {
        let mut transport = TransportConfig::default();
        let mut probing = MtuDiscoveryConfig::default();
        probing.upper_bound(PROBED_LEN_MAX);
        let idle_ms = u32::try_from(self.idle_timeout.as_millis()).unwrap_or(u32::MAX);
        transport
            .max_concurrent_bidi_streams(self.streams_max.into())
            .max_concurrent_uni_streams(0_u32.into())
            .stream_receive_window(self.stream_window.into())
            .receive_window(self.window.into())
            .send_window(self.send_window.into())
            .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle_ms))))
            .keep_alive_interval(Some(self.keep_alive))
            .crypto_buffer_size(HANDSHAKE_BYTES_MAX)
            .datagram_receive_buffer_size(None)
            .mtu_discovery_config(Some(probing));
        Arc::new(transport)
    }

    pub(super) fn server(
        &self,
        crypto: Arc<dyn quinn_proto::crypto::ServerConfig>,
        keys: &QuicKeys,
        transport: Arc<TransportConfig>,
    ) -> Arc<ServerConfig> {
        let token_key = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&keys.token);
        let mut server = ServerConfig::new(crypto, Arc::new(token_key));
        server
            .transport_config(transport)
            .max_incoming(1)
            .incoming_buffer_size(UNDECIDED_BYTES_MAX)
            .incoming_buffer_size_total(UNDECIDED_BYTES_MAX);
        Arc::new(server)
    }
}

/// The secrets of a process's QUIC. All cores have the same, so that each recognises what another has issued.
#[derive(Clone)]
pub struct QuicKeys {
    reset: [u8; 64],
    token: [u8; 64],
    mask: u8,
    random: fn(&mut [u8]),
}

impl QuicKeys {
    /// Draws keys from `random`, which fills bytes that nobody can guess.
    #[must_use]
    pub fn draw(random: fn(&mut [u8])) -> QuicKeys {
        let (mut reset, mut token, mut mask) = ([0; 64], [0; 64], [0]);
        random(&mut reset);
        random(&mut token);
        random(&mut mask);
        QuicKeys { reset, token, mask: mask[0], random }
    }

    /// Derives keys from a seed of 32 random bytes. A process that is started again with the same seed can tell peers of its predecessor
    /// that their connections are gone (stateless resets, RFC 9000 section 10.3), which they notice at once.
    #[must_use]
    pub fn of_seed(seed: &[u8], random: fn(&mut [u8])) -> QuicKeys {
        let (mut reset, mut token, mut mask) = ([0; 64], [0; 64], [0]);
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, b"adit quic").extract(seed);
        expand(&derived, b"reset", &mut reset);
        expand(&derived, b"token", &mut token);
        expand(&derived, b"mask", &mut mask);
        QuicKeys { reset, token, mask: mask[0], random }
    }

    /// What hides the core's number in a connection id; see [`core_of_datagram`](super::core_of_datagram).
    #[must_use]
    pub fn mask(&self) -> u8 {
        self.mask
    }

    pub(super) fn endpoint(&self, core: CoreId) -> Arc<EndpointConfig> {
        let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &self.reset)));
        let (mask, random) = (self.mask, self.random);
        let mut seed = [0; 32];
        random(&mut seed);
        config.cid_generator(move || Box::new(CoreIds { core, mask, random }));
        config.rng_seed(Some(seed));
        config.max_udp_payload_size(RECEIVED_LEN_MAX).expect("more than the 1,200 bytes that QUIC requires");
        Arc::new(config)
    }
}

struct Len(usize);

impl hkdf::KeyType for Len {
    fn len(&self) -> usize {
        self.0
    }
}

fn expand(key: &hkdf::Prk, name: &[u8], out: &mut [u8]) {
    let derived = key.expand(&[name], Len(out.len())).and_then(|derived| derived.fill(out));
    derived.expect("fewer bytes than HKDF can give, which is 255 times 32");
}
