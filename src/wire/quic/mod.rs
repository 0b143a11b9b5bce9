//! QUIC (RFC 9000) without a socket: datagrams and the time go in; datagrams and events come out.
//!
//! The protocol itself is `quinn-proto`. [`QuicMachine`] holds all connections of one socket, keeps their timers, limits what
//! strangers can make it do, and gives each connection ids that name its core.

mod core_ids;
mod machine;
mod settings;
mod streams;

pub use core_ids::core_of_datagram;
pub use machine::{ConnectionKey, DatagramPath, QuicConnectError, QuicEvent, QuicMachine, QuicPath, StrangerOutcome};
pub use settings::{QUIC_SEED_LEN, QuicKeys, QuicSettings};
pub use streams::{QuicRead, QuicStreamGone};

pub use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
pub use quinn_proto::{ConnectionError, EcnCodepoint, StreamId, Transmit};
