use std::fmt;

use crate::base::{Secret, TUNNEL_ID_LEN_MAX, TunnelId};
use crate::wire::field::{Fields, clip, put_bytes, put_text};

use super::incoming::{EnrolFault, EnrolMessage};

/// The longest secret or provisioning key, in bytes.
pub const SECRET_LEN_MAX: usize = 256;
/// The longest name of a host, in bytes.
pub const NAME_LEN_MAX: usize = 64;
/// The longest text about the software, in bytes; a longer one is cut.
pub const SOFTWARE_LEN_MAX: usize = 64;
/// The longest certificate request (PKCS #10, DER), in bytes: an RSA key of 4,096 bits fits.
pub const CSR_LEN_MAX: usize = 2_048;
/// The longest payload of a request, in bytes.
pub const REQUEST_LEN_MAX: usize = 1 + TUNNEL_ID_LEN_MAX + 2 + SECRET_LEN_MAX + 1 + SOFTWARE_LEN_MAX + 2 + CSR_LEN_MAX;

const BY_TUNNEL: u8 = 1;
const BY_PROVISIONING_KEY: u8 = 2;

/// The request of a connector for a certificate for its key.
#[derive(Clone)]
pub struct EnrolRequest {
    /// The credential of the connector.
    pub credential: Credential,
    /// The name and version of the software.
    pub software: String,
    /// A certificate request (PKCS #10, RFC 2986) in DER. Only its key, and the signature that proves the key, are
    /// used.
    pub csr: Vec<u8>,
}

/// How a connector authenticates.
#[derive(Clone)]
pub enum Credential {
    /// With the secret of its tunnel.
    Tunnel {
        /// The id of the tunnel.
        id: TunnelId,
        /// The secret of the tunnel, which proves that the connector may use it.
        secret: Secret,
    },
    /// With a provisioning key, for which it gets a new tunnel.
    Provisioning {
        /// The provisioning key, a secret.
        key: Secret,
        /// The name of the new tunnel, for the key's template; may be empty.
        name: String,
    },
}

impl EnrolMessage for EnrolRequest {
    const LEN_MAX: usize = REQUEST_LEN_MAX;

    fn has_type(kind: u8) -> bool {
        matches!(kind, BY_TUNNEL | BY_PROVISIONING_KEY)
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<EnrolRequest, EnrolFault> {
        let mut fields = Fields::new(payload);
        let credential = if kind == BY_TUNNEL {
            let id = fields.text(1, TUNNEL_ID_LEN_MAX)?.parse().map_err(|_| EnrolFault::BadTunnelId)?;
            Credential::Tunnel { id, secret: Secret::new(fields.long(1, SECRET_LEN_MAX)?.to_vec()) }
        } else {
            let key = Secret::new(fields.long(1, SECRET_LEN_MAX)?.to_vec());
            Credential::Provisioning { key, name: fields.text(0, NAME_LEN_MAX)?.to_owned() }
        };
        let software = fields.text(0, SOFTWARE_LEN_MAX)?.to_owned();
        let csr = fields.long(1, CSR_LEN_MAX)?.to_vec();
        fields.end()?;
        Ok(EnrolRequest { credential, software, csr })
    }

    fn encode_payload(&self, out: &mut Vec<u8>) -> Result<u8, EnrolFault> {
        let kind = match &self.credential {
            Credential::Tunnel { id, secret } => {
                put_text(out, id.as_str());
                put_bytes(out, secret.expose(), 1, SECRET_LEN_MAX)?;
                BY_TUNNEL
            }
            Credential::Provisioning { key, name } => {
                put_bytes(out, key.expose(), 1, SECRET_LEN_MAX)?;
                put_text(out, &clip(name, NAME_LEN_MAX));
                BY_PROVISIONING_KEY
            }
        };
        put_text(out, &clip(&self.software, SOFTWARE_LEN_MAX));
        put_bytes(out, &self.csr, 1, CSR_LEN_MAX)?;
        Ok(kind)
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Credential::Tunnel { id, .. } => f.debug_struct("Tunnel").field("id", id).finish_non_exhaustive(),
            Credential::Provisioning { name, .. } => {
                f.debug_struct("Provisioning").field("name", name).finish_non_exhaustive()
            }
        }
    }
}

impl fmt::Debug for EnrolRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (credential, software) = (&self.credential, &self.software);
        f.debug_struct("EnrolRequest")
            .field("credential", credential)
            .field("software", software)
            .finish_non_exhaustive()
    }
}
