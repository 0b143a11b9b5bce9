use std::fmt;

use crate::base::{Secret, TUNNEL_ID_LEN_MAX, TunnelId};
use crate::wire::RegistrationRefusal;
use crate::wire::field::{Fields, clip, put_bytes, put_text};

use super::incoming::{EnrolFault, EnrolMessage};
use super::request::SECRET_LEN_MAX;

/// The longest certificate (DER), in bytes.
pub const CERT_LEN_MAX: usize = 4_096;
/// The most certificates of a chain.
pub const CHAIN_MAX: usize = 4;
/// The range of the remaining lifetime of a certificate, in seconds.
pub const LIFETIME_S_RANGE: (u32, u32) = (1, 366 * 24 * 3_600);
/// The longest reason text of a refusal, in bytes; a longer one is cut.
pub const REASON_LEN_MAX: usize = 200;
/// The longest payload of an answer, in bytes.
pub const ANSWER_LEN_MAX: usize =
    8 + 4 + 1 + TUNNEL_ID_LEN_MAX + 2 + SECRET_LEN_MAX + 1 + CHAIN_MAX * (2 + CERT_LEN_MAX);

const GRANTED: u8 = 3;
const REFUSED: u8 = 4;

/// The edge's answer to an enrolment.
#[derive(Clone, Debug)]
pub enum EnrolAnswer {
    /// The request is granted, with this certificate.
    Granted(Grant),
    /// The request is refused, for this reason.
    Refused(EnrolRefused),
}

/// A certificate with its chain, tunnel and lifetime.
#[derive(Clone)]
pub struct Grant {
    /// The edge's clock, in seconds since 1970, so that the connector can distinguish a wrong clock from a wrong
    /// certificate.
    pub edge_time_unix_s: u64,
    /// The remaining validity of the certificate by the edge's clock, in seconds.
    pub lifetime_s: u32,
    /// The tunnel that the certificate is for.
    pub tunnel: TunnelId,
    /// The secret of a tunnel that was created for a provisioning key; `None` if the connector already has the secret.
    pub secret: Option<Secret>,
    /// The certificate and the chain that signs it, the edge's authority last; DER.
    pub chain: Vec<Vec<u8>>,
}

/// Why no certificate was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolRefused {
    /// The edge's clock, in seconds since 1970.
    pub edge_time_unix_s: u64,
    /// How long to wait before the next request, in seconds; 0 if the edge does not specify it.
    pub retry_after_s: u32,
    /// The reason as a code.
    pub refusal: RegistrationRefusal,
    /// The reason as text; may be empty.
    pub reason: String,
}

impl EnrolMessage for EnrolAnswer {
    const LEN_MAX: usize = ANSWER_LEN_MAX;

    fn has_type(kind: u8) -> bool {
        matches!(kind, GRANTED | REFUSED)
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<EnrolAnswer, EnrolFault> {
        let mut fields = Fields::new(payload);
        let edge_time_unix_s = fields.u64()?;
        if kind == REFUSED {
            let (retry_after_s, code) = (fields.u32()?, fields.u16()?);
            let reason = fields.text(0, REASON_LEN_MAX)?.to_owned();
            fields.end()?;
            let refusal = RegistrationRefusal::from_code(code);
            return Ok(EnrolAnswer::Refused(EnrolRefused { edge_time_unix_s, retry_after_s, refusal, reason }));
        }
        let lifetime_s = fields.u32()?;
        if !(LIFETIME_S_RANGE.0..=LIFETIME_S_RANGE.1).contains(&lifetime_s) {
            return Err(EnrolFault::FieldRange);
        }
        let tunnel = fields.text(1, TUNNEL_ID_LEN_MAX)?.parse().map_err(|_| EnrolFault::BadTunnelId)?;
        let secret = fields.long(0, SECRET_LEN_MAX)?.to_vec();
        let secret = Some(secret).filter(|secret| !secret.is_empty()).map(Secret::new);
        let count = usize::from(fields.u8()?);
        if !(1..=CHAIN_MAX).contains(&count) {
            return Err(EnrolFault::FieldRange);
        }
        let chain = (0..count).map(|_| Ok(fields.long(1, CERT_LEN_MAX)?.to_vec()));
        let chain = chain.collect::<Result<_, EnrolFault>>()?;
        fields.end()?;
        Ok(EnrolAnswer::Granted(Grant { edge_time_unix_s, lifetime_s, tunnel, secret, chain }))
    }

    fn encode_payload(&self, out: &mut Vec<u8>) -> Result<u8, EnrolFault> {
        match self {
            EnrolAnswer::Granted(grant) => grant.encode(out).map(|()| GRANTED),
            EnrolAnswer::Refused(refused) => {
                out.extend_from_slice(&refused.edge_time_unix_s.to_be_bytes());
                out.extend_from_slice(&refused.retry_after_s.to_be_bytes());
                out.extend_from_slice(&refused.refusal.code().to_be_bytes());
                put_text(out, &clip(&refused.reason, REASON_LEN_MAX));
                Ok(REFUSED)
            }
        }
    }
}

impl Grant {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EnrolFault> {
        if !(1..=CHAIN_MAX).contains(&self.chain.len()) {
            return Err(EnrolFault::FieldRange);
        }
        out.extend_from_slice(&self.edge_time_unix_s.to_be_bytes());
        out.extend_from_slice(&self.lifetime_s.to_be_bytes());
        put_text(out, self.tunnel.as_str());
        put_bytes(out, self.secret.as_ref().map_or(&[][..], |secret| secret.expose()), 0, SECRET_LEN_MAX)?;
        out.push(self.chain.len() as u8);
        for cert in &self.chain {
            put_bytes(out, cert, 1, CERT_LEN_MAX)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("edge_time_unix_s", &self.edge_time_unix_s)
            .field("lifetime_s", &self.lifetime_s)
            .field("tunnel", &self.tunnel)
            .finish_non_exhaustive()
    }
}
