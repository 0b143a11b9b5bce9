use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::base::{Secret, TunnelId};
use crate::control::reading::BoxFuture;
use crate::control::store::Requester;
use crate::edge::{CertSubject, Certified, CertifyRequest, NotCertified};
use crate::engine::MailReceiver;
use crate::tls::{Authority, CertError, WallClock};

/// Exchanges provisioning keys for tunnels.
pub trait Provisioning: Send + Sync {
    /// Checks only the key, before anything else from an unauthenticated peer is parsed: whether it is valid, or was
    /// used so recently that its host may ask again. This does not count as a use.
    fn look_at<'a>(&'a self, key: &'a Secret) -> BoxFuture<'a, Result<(), NotCertified>>;

    /// Creates a tunnel for a key, with the name `name` if the key's template allows it. If this requester already has
    /// a tunnel from the key, it gets a new secret for that tunnel, because the earlier answer must have been lost.
    ///
    /// Returns the tunnel's id and secret, or why there are none.
    fn trade<'a>(
        &'a self,
        key: &'a Secret,
        name: &'a str,
        requester: Requester,
    ) -> BoxFuture<'a, Result<(TunnelId, Secret), NotCertified>>;
}

/// The edge's authority. It can be replaced while connectors request certificates.
pub struct ReloadingAuthority(RwLock<Arc<Authority>>);

impl ReloadingAuthority {
    /// Starts with this authority.
    #[must_use]
    pub fn new(authority: Arc<Authority>) -> Arc<ReloadingAuthority> {
        Arc::new(ReloadingAuthority(RwLock::new(authority)))
    }

    /// The authority that signs now.
    #[must_use]
    pub fn current(&self) -> Arc<Authority> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Signs with this authority from now on.
    pub fn replace(&self, authority: Arc<Authority>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = authority;
    }
}

/// The dependencies of signing certificates for connectors.
#[derive(Clone)]
pub struct Signing {
    /// The authority that signs the certificates.
    pub authority: Arc<ReloadingAuthority>,
    /// The validity of a certificate, from its issue on.
    pub lifetime: Duration,
    /// The wall clock that dates certificates.
    pub clock: WallClock,
    /// Exchanges provisioning keys, if there are any.
    pub provisioning: Option<Arc<dyn Provisioning>>,
}

/// Signs certificates for the cores, one request at a time, until all cores have ended.
pub async fn serve_certifications(mut requests: MailReceiver<CertifyRequest>, signing: Signing) {
    while let Some(CertifyRequest { subject, csr, reply }) = requests.recv().await {
        let certified = signing.certify(subject, &csr).await;
        // The send fails if the requester is gone.
        let _ = reply.send(certified);
        // Gives the admin API a turn, however many connectors arrive at once.
        tokio::task::yield_now().await;
    }
}

impl Signing {
    /// Issues a certificate for the key of a certificate request.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub async fn certify(&self, subject: CertSubject, csr: &[u8]) -> Result<Certified, NotCertified> {
        let (tunnel, secret) = match subject {
            CertSubject::Tunnel(tunnel) => (tunnel, None),
            CertSubject::Provisioning { key, name } => {
                let provisioning = self.provisioning.as_ref().ok_or(NotCertified::ProvisioningOff)?;
                // The request of an unauthenticated peer is neither parsed nor signed before this.
                provisioning.look_at(&key).await?;
                // A request that does not prove its key must not use up the provisioning key.
                let proven = self.sign(csr, &"provisioning".parse().expect("a short plain word is an id"))?;
                let requester = proven.chain.first().and_then(requester_of);
                let requester =
                    requester.ok_or_else(|| NotCertified::Failed("a certificate without a key".to_owned()))?;
                let (tunnel, secret) = provisioning.trade(&key, &name, requester).await?;
                (tunnel, Some(secret))
            }
        };
        Ok(Certified { secret, ..self.sign(csr, &tunnel)? })
    }

    /// Issues a certificate for a tunnel whose secret has been verified.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn sign(&self, csr: &[u8], tunnel: &TunnelId) -> Result<Certified, NotCertified> {
        let made = self.authority.current().certify(csr, tunnel, self.lifetime, self.clock.now());
        let cert = made.map_err(|error| match error {
            CertError::KeyUnproven { cause } => NotCertified::KeyUnproven(cause),
            other => NotCertified::Failed(other.to_string()),
        })?;
        Ok(Certified { tunnel: tunnel.clone(), secret: None, chain: cert.chain, lifetime: cert.lifetime })
    }
}

/// Identifies a host by its public key, to recognise a repeated request.
fn requester_of(cert: &CertificateDer<'static>) -> Option<Requester> {
    let (_, cert) = X509Certificate::from_der(cert).ok()?;
    let hash = digest::digest(&digest::SHA256, cert.tbs_certificate.subject_pki.raw);
    hash.as_ref().try_into().ok().map(Requester)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::edge::certifier;
    use crate::engine::mailbox;
    use crate::tls::{KeyRequest, tunnel_of};

    fn signing(provisioning: Option<Arc<dyn Provisioning>>) -> Signing {
        let clock = WallClock::default();
        let authority = ReloadingAuthority::new(Arc::new(Authority::new("test", clock.now(), 1).unwrap()));
        Signing { authority, lifetime: Duration::from_secs(60), clock, provisioning }
    }

    /// Creates tunnels for one key, and counts them.
    #[derive(Default)]
    struct Shop(AtomicU32, Mutex<Vec<Requester>>);

    impl Provisioning for Shop {
        fn look_at<'a>(&'a self, key: &'a Secret) -> BoxFuture<'a, Result<(), NotCertified>> {
            Box::pin(async move {
                let good = [&b"good"[..], b"used up"].contains(&key.expose());
                good.then_some(()).ok_or(NotCertified::ProvisioningKey)
            })
        }

        fn trade<'a>(
            &'a self,
            key: &'a Secret,
            name: &'a str,
            requester: Requester,
        ) -> BoxFuture<'a, Result<(TunnelId, Secret), NotCertified>> {
            self.1.lock().unwrap().push(requester);
            Box::pin(async move {
                if key.expose() != b"good" {
                    return Err(NotCertified::ProvisioningKey);
                }
                self.0.fetch_add(1, Ordering::Relaxed);
                Ok((format!("tnl_{name}").parse().unwrap(), Secret::from("fresh")))
            })
        }
    }

    fn by_key(key: &str) -> CertSubject {
        CertSubject::Provisioning { key: Secret::from(key), name: "host7".to_owned() }
    }

    #[tokio::test]
    async fn a_core_gets_its_certificate_by_message() {
        let (sender, requests) = certifier();
        let serving = tokio::spawn(serve_certifications(requests, signing(None)));
        let ask = async |csr: Vec<u8>| {
            let (reply, mut answer) = mailbox(1);
            let subject = CertSubject::Tunnel("tnl_a".parse().unwrap());
            assert!(sender.send(CertifyRequest { subject, csr, reply }).is_ok());
            answer.recv().await.unwrap()
        };
        let certified = ask(KeyRequest::new().unwrap().csr().to_vec()).await.unwrap();
        assert_eq!(tunnel_of(&certified.chain[0]).unwrap().as_str(), "tnl_a");
        assert!(matches!(ask(b"nonsense".to_vec()).await.err(), Some(NotCertified::KeyUnproven(_))));
        drop(sender);
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn a_provisioning_key_is_traded_only_for_a_proven_key() {
        let shop = Arc::new(Shop::default());
        let signing = signing(Some(Arc::clone(&shop) as Arc<dyn Provisioning>));
        let request = KeyRequest::new().unwrap();
        assert!(matches!(signing.certify(by_key("good"), b"no").await.err(), Some(NotCertified::KeyUnproven(_))));
        // Nothing is parsed without a valid key.
        assert_eq!(signing.certify(by_key("bad"), b"no").await.err(), Some(NotCertified::ProvisioningKey));
        for key in ["bad", "used up"] {
            let refused = signing.certify(by_key(key), request.csr()).await.err();
            assert_eq!(refused, Some(NotCertified::ProvisioningKey));
        }
        assert_eq!(shop.0.load(Ordering::Relaxed), 0);
        let certified = signing.certify(by_key("good"), request.csr()).await.unwrap();
        // A host is recognised by its key, even if the request is signed again.
        let again = KeyRequest::from_pem("key", request.key_pem().expose()).unwrap();
        assert_ne!(again.csr(), request.csr());
        signing.certify(by_key("good"), again.csr()).await.unwrap();
        signing.certify(by_key("good"), KeyRequest::new().unwrap().csr()).await.unwrap();
        let seen = shop.1.lock().unwrap();
        assert!(seen[1] == seen[2] && seen[2] != seen[3]);
        assert_eq!(certified.tunnel.as_str(), "tnl_host7");
        assert_eq!(certified.secret.unwrap().expose(), b"fresh");
        assert_eq!(tunnel_of(&certified.chain[0]).unwrap(), certified.tunnel);
    }

    #[tokio::test]
    async fn provisioning_keys_are_refused_without_a_receiver() {
        let request = KeyRequest::new().unwrap();
        for csr in [request.csr(), b"no"] {
            let refused = signing(None).certify(by_key("good"), csr).await.err();
            assert_eq!(refused, Some(NotCertified::ProvisioningOff));
        }
    }
}
