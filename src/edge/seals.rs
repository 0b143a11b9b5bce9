use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustls_pki_types::CertificateDer;

use crate::tls::{
    ALPN_HTTP1, CallerIdentity, ClientConfig, ClientSettings, Roots, TlsError, Versions, WallClock, client_config,
};

/// Makes the inner TLS configuration for a tunnel from the authorities that are registered with it. The same
/// authorities result in the same configuration while it is in use, so that inner sessions survive a reload.
#[derive(Default)]
pub struct Seals {
    identity: Arc<CallerIdentity>,
    clock: WallClock,
    known: Mutex<HashMap<Vec<CertificateDer<'static>>, Weak<ClientConfig>>>,
}

impl Seals {
    /// The certificate of this edge in inner sessions.
    #[must_use]
    pub fn identity(&self) -> &CallerIdentity {
        &self.identity
    }

    /// The configuration for a tunnel with these authorities.
    ///
    /// # Errors
    ///
    /// If one of them cannot be parsed, or the TLS library rejects the configuration.
    pub fn for_tunnel(&self, authorities: Vec<CertificateDer<'static>>) -> Result<Arc<ClientConfig>, TlsError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = known.get(&authorities).and_then(Weak::upgrade) {
            return Ok(config);
        }
        known.retain(|_, config| config.strong_count() > 0);
        let mut roots = Roots::new();
        for authority in &authorities {
            roots.add_der(authority.clone()).map_err(|error| TlsError::Config(error.to_string()))?;
        }
        let config = client_config(ClientSettings {
            roots,
            alpn: vec![ALPN_HTTP1.to_vec()],
            versions: Versions::Tls13,
            // A resumed session would not request this edge's certificate.
            sessions: None,
            identity: Some(Arc::<CallerIdentity>::clone(&self.identity)),
            clock: self.clock.clone(),
        })?;
        known.insert(authorities, Arc::downgrade(&config));
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Authority;

    #[test]
    fn the_same_authorities_give_the_same_configuration_and_unused_ones_are_dropped() {
        let seals = Seals::default();
        let now = WallClock::default().now();
        let cert = || Authority::new("a", now, 1).unwrap().cert_der().clone();
        let (one, other) = (cert(), cert());
        let first = seals.for_tunnel(vec![one.clone()]).unwrap();
        assert!(Arc::ptr_eq(&first, &seals.for_tunnel(vec![one.clone()]).unwrap()));
        let second = seals.for_tunnel(vec![one, other.clone()]).unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        drop((first, second));
        seals.for_tunnel(vec![other]).unwrap();
        assert_eq!(seals.known.lock().unwrap().len(), 1);
        assert!(seals.for_tunnel(vec![CertificateDer::from(b"none".to_vec())]).is_err());
    }
}
