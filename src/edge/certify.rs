//! Certificates for connectors. The authority's key belongs to the control thread; a core sends it a message.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;

use crate::base::{Secret, TunnelId};
use crate::engine::{MailReceiver, MailSender, mailbox};

/// The most certificate requests that may wait for the control thread, over all cores.
pub const CERTIFY_REQUESTS_MAX: usize = 1024;

/// The subject of a certificate request.
pub enum CertSubject {
    /// A tunnel whose secret was verified.
    Tunnel(TunnelId),
    /// A new tunnel, to be created with this provisioning key, which is not verified yet.
    Provisioning {
        /// The provisioning key, as the connector sent it.
        key: Secret,
        /// The name that the connector asks for; may be empty.
        name: String,
    },
}

/// A certificate that was made for a connector.
pub struct Certified {
    /// The tunnel in the certificate.
    pub tunnel: TunnelId,
    /// The secret of the tunnel, if it was created for the connector.
    pub secret: Option<Secret>,
    /// The certificate, then those of the authorities above it.
    pub chain: Vec<CertificateDer<'static>>,
    /// How long it is valid from now on.
    pub lifetime: Duration,
}

/// Why no certificate was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCertified {
    /// The certificate request is not signed by its own key.
    #[error("{0}")]
    KeyUnproven(String),
    /// The provisioning key is unknown, expired or used up.
    #[error("the provisioning key is unknown, expired or used up: create another one")]
    ProvisioningKey,
    /// The host that the provisioning key assigns overlaps with a wildcard of another tunnel.
    #[error("the host {host} overlaps with a wildcard of another tunnel: give this machine another name")]
    HostNotFree {
        /// The host that the tunnel would get.
        host: String,
    },
    /// This edge does not use provisioning keys.
    #[error("this edge accepts no provisioning keys: use the id and the secret of a tunnel")]
    ProvisioningOff,
    /// Too many requests are waiting.
    #[error("too many certificate requests are waiting: try again later")]
    Busy,
    /// An internal error. It is for this edge's log, not for the connector.
    #[error("{0}")]
    Failed(String),
}

/// A core's request to the control thread.
pub struct CertifyRequest {
    /// The subject of the certificate.
    pub subject: CertSubject,
    /// The certificate request: PKCS #10, DER.
    pub csr: Vec<u8>,
    /// The mailbox for the answer.
    pub reply: MailSender<Result<Certified, NotCertified>>,
}

/// Makes a certificate at once, without the control thread.
#[cfg(feature = "sim")]
pub type CertifyFn = dyn Fn(CertSubject, &[u8]) -> Result<Certified, NotCertified> + Send + Sync;

/// Makes certificates for connectors.
#[derive(Clone)]
pub enum Certifier {
    /// Asks the control thread.
    Control(MailSender<CertifyRequest>),
    /// Makes them on the core itself: for the simulation.
    #[cfg(feature = "sim")]
    Inline(Arc<CertifyFn>),
}

/// The channel for certificate requests: the cores' end and the control thread's.
#[must_use]
pub fn certifier() -> (MailSender<CertifyRequest>, MailReceiver<CertifyRequest>) {
    mailbox(CERTIFY_REQUESTS_MAX)
}

impl Certifier {
    #[cfg_attr(
        not(feature = "sim"),
        allow(clippy::infallible_destructuring_match, reason = "the simulation has another kind")
    )]
    pub(super) async fn certify(&self, subject: CertSubject, csr: Vec<u8>) -> Result<Certified, NotCertified> {
        let control = match self {
            #[cfg(feature = "sim")]
            Certifier::Inline(certify) => return certify(subject, &csr),
            Certifier::Control(control) => control,
        };
        let (reply, mut answer) = mailbox(1);
        control.send(CertifyRequest { subject, csr, reply }).map_err(|_| NotCertified::Busy)?;
        let nobody = || NotCertified::Failed("the control thread no longer signs certificates".to_owned());
        answer.recv().await.unwrap_or_else(|| Err(nobody()))
    }
}
