//! What a connector says of itself, and what the edge answers.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::base::{Secret, TunnelId, sha256_start};

/// The id of a tunnel or of a connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TunnelUuid(pub [u8; 16]);

/// The error for a text that is not a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a UUID is 32 hexadecimal digits in five groups, as in 3d539f97-cd3a-4d8e-c33b-65e9099c7a8d")]
pub struct TunnelUuidError;

/// The lengths of the groups of a UUID, in digits.
const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];

impl FromStr for TunnelUuid {
    type Err = TunnelUuidError;

    fn from_str(text: &str) -> Result<TunnelUuid, TunnelUuidError> {
        let is_grouped = text.split('-').map(str::len).eq(GROUPS);
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
        if !is_grouped || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(TunnelUuidError);
        }
        let value = |digit: u8| (digit as char).to_digit(16).unwrap_or_default() as u8;
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(digits.chunks(2)).for_each(|(byte, pair)| *byte = value(pair[0]) << 4 | value(pair[1]));
        Ok(TunnelUuid(bytes))
    }
}

impl TunnelUuid {
    /// The UUID of a tunnel of this project, for tokens in the form of cloudflared. It follows from the tunnel's id, and is of
    /// the version for own uses (RFC 9562, section 5.8).
    #[must_use]
    pub fn of_tunnel(tunnel: &TunnelId) -> TunnelUuid {
        let mut bytes: [u8; 16] = sha256_start(tunnel.as_str().as_bytes());
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        TunnelUuid(bytes)
    }
}

impl fmt::Display for TunnelUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0.iter();
        for (nth, len) in GROUPS.iter().enumerate() {
            if nth > 0 {
                f.write_str("-")?;
            }
            for byte in bytes.by_ref().take(len / 2) {
                write!(f, "{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// The registration of one connection.
#[derive(Clone)]
pub struct Registration {
    /// The account that the token names.
    pub account: String,
    /// The secret of the tunnel.
    pub secret: Secret,
    /// The tunnel that the connection is for.
    pub tunnel: TunnelUuid,
    /// The number of the connection among those of its connector.
    pub index: u8,
    /// The connector: a random number of its process.
    pub connector: TunnelUuid,
    /// What the connector supports.
    pub features: Vec<String>,
    /// The version of the connector, as text.
    pub version: String,
    /// Its system and processor, such as `linux_amd64`.
    pub arch: String,
    /// The local address of its connection, as 16 bytes.
    pub local_ip: [u8; 16],
    /// How often it has tried before.
    pub attempts: u8,
}

/// The answer to a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistrationAnswer {
    /// The connection is registered.
    Accepted {
        /// The edge's number of the connection.
        connection: TunnelUuid,
        /// Where the edge is.
        location: String,
        /// Whether the edge sends the ingress rules.
        is_remotely_managed: bool,
    },
    /// The connection is not registered.
    Refused(RegistrationError),
}

/// Why an edge refuses a registration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct RegistrationError {
    /// The reason, as the edge says it.
    pub cause: String,
    /// How long the connector should wait before it tries again.
    pub retry_after: Duration,
    /// Whether it should try again.
    pub should_retry: bool,
}

impl RegistrationError {
    /// Whether the edge has another connection with this connector and index, on this address.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        self.cause == "EDUPCONN"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_has_one_uuid_that_follows_from_its_id() {
        let of = |id: &str| TunnelUuid::of_tunnel(&id.parse().unwrap());
        assert_eq!(of("tnl_demo"), of("tnl_demo"));
        assert_ne!(of("tnl_demo"), of("tnl_other"));
        let text = of("tnl_demo").to_string();
        assert_eq!((&text[14..15], text.parse()), ("8", Ok(of("tnl_demo"))));
    }

    #[test]
    fn a_uuid_is_read_and_written_in_its_groups() {
        let text = "3d539f97-cd3a-4d8e-c33b-65e9099c7a8d";
        let uuid: TunnelUuid = text.to_ascii_uppercase().parse().unwrap();
        assert_eq!((uuid.0[0], uuid.0[15], uuid.to_string()), (0x3d, 0x8d, text.to_owned()));
        for bad in [
            "",
            "3d539f97cd3a4d8ec33b65e9099c7a8d",
            "3d539f97-cd3a-4d8e-c33b-65e9099c7a8",
            &text.replace('c', "é"),
            &text.replace('d', "g"),
        ] {
            assert!(bad.parse::<TunnelUuid>().is_err(), "{bad}");
        }
    }
}
