//! Certificates for connectors. The authority's key is the control thread's; a core only sends it a message.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;

use crate::base::{Secret, TunnelId};
use crate::engine::{MailReceiver, MailSender, mailbox};

/// How many certificates may be asked for at once, all cores together.
pub const CERTIFY_REQUESTS_MAX: usize = 1024;

/// Whose certificate it is to be.
pub enum Whose {
    /// Of this tunnel: its secret was shown and is good.
    Tunnel(TunnelId),
    /// Of a tunnel that is to be made for this provisioning key, which nobody has looked at yet.
    Provisioning {
        /// The key.
        key: Secret,
        /// What the connector would like the tunnel to be called; may be empty.
        name: String,
    },
}

/// A certificate.
pub struct Certified {
    /// Whose it is.
    pub tunnel: TunnelId,
    /// The secret of a tunnel that was made for it.
    pub secret: Option<Secret>,
    /// The certificate, and those that vouch for it.
    pub chain: Vec<CertificateDer<'static>>,
    /// How long it is good for from now on.
    pub lifetime: Duration,
}

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCertified {
    /// The request proves no key.
    #[error("{0}")]
    KeyUnproven(String),
    /// The provisioning key is not good, or not any more.
    #[error("the provisioning key is not known here, has expired or is used up: make another one")]
    ProvisioningKey,
    /// The host that the provisioning key would give is below another tunnel's wildcard, or is one over another's host.
    #[error("the host {host} overlaps with a wildcard of another tunnel: give this machine another name")]
    HostNotFree {
        /// The host.
        host: String,
    },
    /// There is nobody who could look at provisioning keys.
    #[error("this edge takes no provisioning keys: use the id and the secret of a tunnel")]
    ProvisioningOff,
    /// Too many are asked for at once.
    #[error("too many certificates are asked for at once")]
    Busy,
    /// The edge failed: for its own log, and not for a stranger.
    #[error("{0}")]
    Failed(String),
}

/// A core's question to the control thread.
pub struct CertifyRequest {
    /// Whose.
    pub whose: Whose,
    /// The certificate request: PKCS #10, DER.
    pub csr: Vec<u8>,
    /// Where the answer goes.
    pub reply: MailSender<Result<Certified, NotCertified>>,
}

/// Answers at once, without the control thread.
#[cfg(feature = "sim")]
pub type CertifyHere = dyn Fn(Whose, &[u8]) -> Result<Certified, NotCertified> + Send + Sync;

/// Gives connectors their certificates.
#[derive(Clone)]
pub enum Certifier {
    /// By asking the control thread.
    Control(MailSender<CertifyRequest>),
    /// On the spot, in the simulation.
    #[cfg(feature = "sim")]
    Here(Arc<CertifyHere>),
}

/// The cores' and the control thread's ends of certifying.
#[must_use]
pub fn certifier() -> (MailSender<CertifyRequest>, MailReceiver<CertifyRequest>) {
    mailbox(CERTIFY_REQUESTS_MAX)
}

impl Certifier {
    #[cfg_attr(
        not(feature = "sim"),
        allow(clippy::infallible_destructuring_match, reason = "simulated ones are of another kind")
    )]
    pub(super) async fn certify(&self, whose: Whose, csr: Vec<u8>) -> Result<Certified, NotCertified> {
        let control = match self {
            #[cfg(feature = "sim")]
            Certifier::Here(certify) => return certify(whose, &csr),
            Certifier::Control(control) => control,
        };
        let (reply, mut answer) = mailbox(1);
        control.send(CertifyRequest { whose, csr, reply }).map_err(|_| NotCertified::Busy)?;
        let nobody = || NotCertified::Failed("nobody signs certificates any more".to_owned());
        answer.recv().await.unwrap_or_else(|| Err(nobody()))
    }
}
