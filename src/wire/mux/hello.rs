use std::fmt;

use crate::base::{CoreId, Secret, TunnelId};
use crate::wire::RegistrationRefusal;
use crate::wire::field::{Fields, clip, put_text};

use super::fault::Fault;

/// The latest supported version of the protocol.
pub const VERSION: u16 = 2;
/// The earliest supported version of the protocol.
pub(super) const VERSION_MIN: u16 = 1;
/// The first version in which OPEN may contain the caller's time.
pub(super) const VERSION_WITH_BUDGET: u16 = 2;
/// The longest secret in HELLO, in bytes.
pub const SECRET_LEN_MAX: usize = 256;
/// The longest software text in HELLO, in bytes.
pub const SOFTWARE_LEN_MAX: usize = 64;
/// The longest reason text in REFUSED, in bytes; a longer one is cut.
pub const REASON_LEN_MAX: usize = 200;

/// The range of `streams_max`.
pub const STREAMS_MAX_RANGE: (u32, u32) = (1, 1_000_000);
/// The range of a stream's initial window, in bytes.
pub const STREAM_WINDOW_RANGE: (u32, u32) = (1_024, 16 << 20);
/// The range of the link's initial window, in bytes.
pub const LINK_WINDOW_RANGE: (u32, u32) = (1_024, 1 << 30);
/// The range of the ping interval, in milliseconds.
pub const PING_INTERVAL_MS_RANGE: (u32, u32) = (100, 600_000);

pub(super) const HELLO_LEN_MIN: usize = 8;
pub(super) const HELLO_LEN_MAX: usize = 8 + 65 + 2 + SECRET_LEN_MAX + 8 + 1 + SOFTWARE_LEN_MAX + 2;
pub(super) const WELCOME_LEN: usize = 30;
pub(super) const REFUSED_LEN_MIN: usize = 3;
pub(super) const REFUSED_LEN_MAX: usize = 3 + REASON_LEN_MAX;

const MAGIC: &[u8; 4] = b"adit";

/// The first message of a connector.
#[derive(Clone)]
pub struct Hello {
    /// The tunnel that it serves.
    pub tunnel: TunnelId,
    /// The secret of the tunnel, at most [`SECRET_LEN_MAX`] bytes. The edge compares it in constant time.
    pub secret: Secret,
    /// A random number of the connector's process, by which the edge groups links.
    pub instance: u64,
    /// The name and version of the software, at most [`SOFTWARE_LEN_MAX`] bytes.
    pub software: String,
    /// The index of this link among the connector's links, from 0.
    pub link_index: u16,
}

/// The answer of the edge to a connector that it admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The protocol version that both sides use from now on.
    pub version: u16,
    /// A random number of the edge's process.
    pub instance: u64,
    /// The core of the edge that the link is on.
    pub core: CoreId,
    /// The number of cores of the edge.
    pub cores: u16,
    /// The most streams that may be open at the same time.
    pub streams_max: u32,
    /// The initial credit of each side on a new stream, in bytes.
    pub stream_window: u32,
    /// The initial credit of each side on the link, in bytes.
    pub link_window: u32,
    /// How often each side checks that the other is alive, in milliseconds.
    pub ping_interval_ms: u32,
}

/// The part of WELCOME that describes the edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeIdentity {
    /// A random number of the edge's process.
    pub instance: u64,
    /// The core of the edge that the link is on.
    pub core: CoreId,
    /// The number of cores of the edge.
    pub cores: u16,
}

/// The answer of the edge to a connector that it refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The reason as a code.
    pub refusal: RegistrationRefusal,
    /// The reason as text; may be empty.
    pub reason: String,
}

/// Why a [`Hello`] cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// The secret is empty or longer than [`SECRET_LEN_MAX`].
    #[error("a tunnel secret has 1 to {SECRET_LEN_MAX} bytes")]
    SecretLength,
}

impl Hello {
    /// Checks that the message can be sent.
    pub(super) fn check(&self) -> Result<(), HelloError> {
        let len = self.secret.expose().len();
        if (1..=SECRET_LEN_MAX).contains(&len) { Ok(()) } else { Err(HelloError::SecretLength) }
    }

    /// Encodes the message; `version` is the latest one that is offered.
    pub(super) fn encode(&self, version: u16, out: &mut Vec<u8>) {
        let secret = self.secret.expose();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION_MIN.to_be_bytes());
        out.extend_from_slice(&version.to_be_bytes());
        put_text(out, self.tunnel.as_str());
        out.extend_from_slice(&(secret.len() as u16).to_be_bytes());
        out.extend_from_slice(secret);
        out.extend_from_slice(&self.instance.to_be_bytes());
        put_text(out, &clip(&self.software, SOFTWARE_LEN_MAX));
        out.extend_from_slice(&self.link_index.to_be_bytes());
    }

    /// Also returns the version to use: the latest that is offered, at most `latest`. The range is checked before the
    /// fields after it, so that a later version can change those.
    pub(super) fn decode(payload: &[u8], latest: u16) -> Result<(Hello, u16), Fault> {
        let mut fields = Fields::new(payload);
        if fields.bytes(MAGIC.len())? != MAGIC {
            return Err(Fault::BadMagic);
        }
        let (min, max) = (fields.u16()?, fields.u16()?);
        if min > max {
            return Err(Fault::FieldRange);
        }
        let version = max.min(latest);
        if version < min.max(VERSION_MIN) {
            return Err(Fault::VersionUnsupported);
        }
        let tunnel = fields.text(1, 64)?.parse().map_err(|_| Fault::BadTunnelId)?;
        let secret_len = usize::from(fields.u16()?);
        let secret = Secret::new(fields.sized(secret_len, 1, SECRET_LEN_MAX)?.to_vec());
        let instance = fields.u64()?;
        let software = fields.text(0, SOFTWARE_LEN_MAX)?.to_owned();
        let link_index = fields.u16()?;
        fields.end()?;
        Ok((Hello { tunnel, secret, instance, software, link_index }, version))
    }
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello")
            .field("tunnel", &self.tunnel)
            .field("instance", &self.instance)
            .field("software", &self.software)
            .field("link_index", &self.link_index)
            .finish_non_exhaustive()
    }
}

impl Welcome {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&self.instance.to_be_bytes());
        out.extend_from_slice(&self.core.0.to_be_bytes());
        out.extend_from_slice(&self.cores.to_be_bytes());
        for word in [self.streams_max, self.stream_window, self.link_window, self.ping_interval_ms] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }

    /// Decodes the message; `latest` is the latest version that was offered.
    pub(super) fn decode(payload: &[u8], latest: u16) -> Result<Welcome, Fault> {
        let mut fields = Fields::new(payload);
        let version = fields.u16()?;
        if !(VERSION_MIN..=latest).contains(&version) {
            return Err(Fault::VersionNotOffered);
        }
        let instance = fields.u64()?;
        let (core, cores) = (fields.u16()?, fields.u16()?);
        if core >= cores {
            return Err(Fault::FieldRange);
        }
        let welcome = Welcome {
            version,
            instance,
            core: CoreId(core),
            cores,
            streams_max: within(fields.u32()?, STREAMS_MAX_RANGE)?,
            stream_window: within(fields.u32()?, STREAM_WINDOW_RANGE)?,
            link_window: within(fields.u32()?, LINK_WINDOW_RANGE)?,
            ping_interval_ms: within(fields.u32()?, PING_INTERVAL_MS_RANGE)?,
        };
        fields.end()?;
        Ok(welcome)
    }
}

impl Refused {
    /// A refusal whose reason is cut to the length that a frame can carry.
    pub(super) fn new(refusal: RegistrationRefusal, reason: &str) -> Refused {
        Refused { refusal, reason: clip(reason, REASON_LEN_MAX) }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.refusal.code().to_be_bytes());
        put_text(out, &self.reason);
    }

    pub(super) fn decode(payload: &[u8]) -> Result<Refused, Fault> {
        let mut fields = Fields::new(payload);
        let refusal = RegistrationRefusal::from_code(fields.u16()?);
        let reason = fields.text(0, REASON_LEN_MAX)?.to_owned();
        fields.end()?;
        Ok(Refused { refusal, reason })
    }
}

fn within(value: u32, (min, max): (u32, u32)) -> Result<u32, Fault> {
    if (min..=max).contains(&value) { Ok(value) } else { Err(Fault::FieldRange) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            tunnel: "tnl_1".parse().unwrap(),
            secret: Secret::from("s3cret"),
            instance: 0x0102_0304_0506_0708,
            software: "adit/0.1.0".to_owned(),
            link_index: 3,
        }
    }

    fn encoded() -> Vec<u8> {
        let mut out = Vec::new();
        hello().encode(VERSION, &mut out);
        out
    }

    #[test]
    fn hello_round_trips() {
        let (back, version) = Hello::decode(&encoded(), VERSION).unwrap();
        assert_eq!(version, VERSION);
        assert_eq!(format!("{back:?}"), format!("{:?}", hello()));
        assert_eq!(back.secret.expose(), b"s3cret");
        assert!(!format!("{back:?}").contains("s3cret"));
    }

    #[test]
    fn every_cut_of_hello_is_truncated_and_every_extension_trails() {
        let whole = encoded();
        for len in 0..whole.len() {
            assert_eq!(Hello::decode(&whole[..len], VERSION).unwrap_err(), Fault::Truncated, "{len}");
        }
        assert_eq!(Hello::decode(&[&whole[..], &[0]].concat(), VERSION).unwrap_err(), Fault::TrailingBytes);
    }

    #[test]
    fn each_bad_field_of_hello_has_its_fault() {
        let change = |at: usize, to: u8| {
            let mut bytes = encoded();
            bytes[at] = to;
            Hello::decode(&bytes, VERSION).unwrap_err()
        };
        assert_eq!(change(0, b'x'), Fault::BadMagic);
        assert_eq!(change(5, 9), Fault::FieldRange);
        assert_eq!(change(9, b'/'), Fault::BadTunnelId);
        assert_eq!(change(9, 0xff), Fault::BadText);
        assert_eq!(change(8, 0), Fault::FieldRange);
        assert_eq!(change(8, 65), Fault::FieldRange);
        assert_eq!(change(14, 2), Fault::FieldRange);
        let mut later = encoded();
        later[4..8].copy_from_slice(&[0, 3, 0, 4]);
        later.truncate(8);
        assert_eq!(Hello::decode(&later, VERSION).unwrap_err(), Fault::VersionUnsupported);
        later[4..8].copy_from_slice(&[0, 0, 0, 0]);
        assert_eq!(Hello::decode(&later, VERSION).unwrap_err(), Fault::VersionUnsupported);
    }

    #[test]
    fn the_latest_version_that_both_sides_speak_is_chosen() {
        let chosen = |offered: [u8; 4], latest| {
            let mut bytes = encoded();
            bytes[4..8].copy_from_slice(&offered);
            Hello::decode(&bytes, latest).map(|(_, version)| version)
        };
        assert_eq!(chosen([0, 1, 0, 1], 2), Ok(1));
        assert_eq!(chosen([0, 1, 0, 2], 1), Ok(1));
        assert_eq!(chosen([0, 1, 0, 9], 2), Ok(2));
        assert_eq!(chosen([0, 2, 0, 2], 2), Ok(2));
        assert_eq!(chosen([0, 2, 0, 2], 1), Err(Fault::VersionUnsupported));
    }

    #[test]
    fn a_secret_of_no_byte_or_too_many_is_not_sent() {
        let with = |n: usize| Hello { secret: Secret::new(vec![7; n]), ..hello() }.check();
        assert_eq!(with(0), Err(HelloError::SecretLength));
        assert_eq!(with(SECRET_LEN_MAX), Ok(()));
        assert_eq!(with(SECRET_LEN_MAX + 1), Err(HelloError::SecretLength));
    }

    #[test]
    fn welcome_round_trips_and_is_strict() {
        let welcome = Welcome {
            version: 1,
            instance: 9,
            core: CoreId(1),
            cores: 2,
            streams_max: 10_000,
            stream_window: 262_144,
            link_window: 4 << 20,
            ping_interval_ms: 5_000,
        };
        let mut out = Vec::new();
        welcome.encode(&mut out);
        assert_eq!(out.len(), WELCOME_LEN);
        assert_eq!(Welcome::decode(&out, VERSION), Ok(welcome));
        let change = |at: usize, to: u8| {
            let mut bytes = out.clone();
            bytes[at] = to;
            Welcome::decode(&bytes, VERSION).unwrap_err()
        };
        assert_eq!(change(1, 3), Fault::VersionNotOffered);
        assert_eq!(change(1, 0), Fault::VersionNotOffered);
        assert_eq!(change(11, 2), Fault::FieldRange);
        for at in [14, 18, 22, 26] {
            assert_eq!(change(at, 0xff), Fault::FieldRange, "{at}");
        }
    }

    #[test]
    fn refused_round_trips_and_its_reason_is_cut_at_a_character() {
        let refused = Refused::new(RegistrationRefusal::Credentials, &"é\n".repeat(150));
        assert_eq!(refused.reason.len(), REASON_LEN_MAX);
        let mut out = Vec::new();
        refused.encode(&mut out);
        assert_eq!(Refused::decode(&out), Ok(refused));
    }
}
