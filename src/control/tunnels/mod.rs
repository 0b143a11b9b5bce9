//! Changes of tunnels while the edge runs.
//!
//! The admin API and enrolment act through [`Tunnels`]. It generates ids and secrets, writes hashes into the store, and updates
//! the edge's tables before it answers. [`Serving`] merges configuration and store.

mod check;
mod ids;
mod keys;
mod serving;
mod usage;

pub use keys::{KEY_LIFE_MAX, KEY_USES_MAX};
pub use serving::{ReviewOutcome, Serving};
pub use usage::{USAGE_INTERVAL, UsageRecord};

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::base::{
    AuthorityPin, CredentialId, SECRET_ENTROPY_LEN, Secret, SecretHash, SecretKind, Traffic, TunnelId, mint,
};
use crate::control::bodies::{CreateTunnel, UpdateTunnel};
use crate::control::data_dir::DataDirError;
use crate::control::store::{
    AuditEvent, Certificate, Listed, NewCredential, NewTunnel, Note, OVERLAPS_REPORTED_MAX, Overlap, Page,
    RuleViolation, Store, StoreError, StoreHandle, TUNNEL_HOSTS_MAX, Tunnel, Usage,
};
use crate::control::wall_time::WallTime;
use crate::policy::TunnelLists;
use crate::route::{HostPattern, Hostname};
use crate::tls::{CaCertificate, CaFault};

/// How long the old secret stays valid after a rotation, by default.
pub const OVERLAP_PRESET: Duration = Duration::from_secs(3_600);
/// The longest overlap of two secrets.
pub const OVERLAP_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Why an operation on tunnels failed.
#[derive(Debug, thiserror::Error)]
pub enum TunnelsError {
    /// The store did not perform it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The request is malformed or out of bounds; the text is for people.
    #[error("{0}")]
    Invalid(String),
    /// The certificate cannot be registered.
    #[error(transparent)]
    Certificate(#[from] CaFault),
    /// The system provides no random bytes.
    #[error(transparent)]
    Random(#[from] DataDirError),
}

impl From<RuleViolation> for TunnelsError {
    fn from(refused: RuleViolation) -> TunnelsError {
        TunnelsError::Store(refused.into())
    }
}

/// Settings that apply to all tunnels of an edge.
#[derive(Clone, Debug, Default)]
pub struct TunnelsSettings {
    /// The domain for generated hosts of tunnels.
    pub domain: Option<Hostname>,
    /// The edge's authority, which new secrets name initially.
    pub pin: Option<AuthorityPin>,
    /// The address that connectors dial, as shown to people: `HOST:PORT`.
    pub connectors: String,
}

/// A tunnel with a new secret, which is not stored.
pub struct IssuedCredential {
    /// The tunnel as it is now.
    pub tunnel: Tunnel,
    /// The id of the new credential.
    pub credential: CredentialId,
    /// The secret of the new credential.
    pub secret: Secret,
}

/// The tunnels of one edge.
pub struct Tunnels {
    store: StoreHandle,
    serving: Arc<Serving>,
    usage: Arc<UsageRecord>,
    settings: TunnelsSettings,
    /// The authority that new secrets name.
    pin: Mutex<Option<AuthorityPin>>,
}

impl Tunnels {
    /// Opens the tunnels in a store, and makes the edge serve them.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub async fn open(
        store: StoreHandle,
        serving: Arc<Serving>,
        settings: TunnelsSettings,
    ) -> Result<Arc<Tunnels>, StoreError> {
        let usage = UsageRecord::new(store.clone(), Arc::clone(&serving));
        serving.set_stored(store.with(|store| store.active_tunnels()).await?);
        let pin = Mutex::new(settings.pin);
        Ok(Arc::new(Tunnels { store, serving, usage, settings, pin }))
    }

    /// The record of usage.
    #[must_use]
    pub fn usage_record(&self) -> &Arc<UsageRecord> {
        &self.usage
    }

    /// The settings that apply to all tunnels.
    #[must_use]
    pub fn settings(&self) -> &TunnelsSettings {
        &self.settings
    }

    /// Sets the authority that new secrets name.
    pub fn set_pin(&self, pin: Option<AuthorityPin>) {
        *self.pin.lock().unwrap_or_else(PoisonError::into_inner) = pin;
    }

    /// Creates a tunnel, which is served when this returns. Without hosts it gets a generated one below the edge's
    /// domain, and the wildcard below that. Also returns the overlaps of its hosts with those of other tunnels.
    ///
    /// # Errors
    ///
    /// If a host is malformed or belongs to another tunnel, a list names something unknown, or the store rejects it.
    pub async fn create(&self, body: CreateTunnel) -> Result<(IssuedCredential, Vec<Overlap>), TunnelsError> {
        let (given, lists) = check::new_tunnel(self, &body)?;
        let hosts_made_up = given.is_none();
        let hosts = given.map_or_else(|| self.made_up_hosts(), Ok)?;
        let traffic = body.traffic.map(Traffic::from).unwrap_or_default();
        let display_name = check::display_name(body.display_name)?;
        let (new, secret) = self.new_tunnel(hosts)?;
        let new = NewTunnel { display_name, hosts_made_up, lists, traffic, ..new };
        let credential = new.credential.id.clone();
        let note = now(None);
        let overlaps = self.serving.configured_overlaps(&new.hosts, OVERLAPS_REPORTED_MAX);
        let both = move |store: &mut dyn Store| Ok((store.create_tunnel(&new, &note)?, store.overlaps(&new.id)));
        let (tunnel, stored) = self.change(both).await?;
        let overlaps = log_overlaps(&tunnel, overlaps, stored);
        Ok((IssuedCredential { tunnel, credential, secret }, overlaps))
    }

    /// Changes the name of a tunnel, its hosts, its traffic, or who may connect to and call it. When this returns, the
    /// change is in effect, and links from addresses that are no longer allowed have ended. Also returns the overlaps
    /// of its new hosts with those of other tunnels.
    ///
    /// # Errors
    ///
    /// If there is no such tunnel, a host is malformed or belongs to another tunnel, a list names something unknown, or
    /// the store rejects it.
    pub async fn update(&self, id: TunnelId, mut body: UpdateTunnel) -> Result<(Tunnel, Vec<Overlap>), TunnelsError> {
        let reason = check::reason(body.reason.take())?;
        let wanted = check::change(self, body)?;
        let (narrower, note) = (wanted.connectors_from.is_some(), now(reason));
        let hosts = wanted.hosts.as_deref().unwrap_or_default();
        let overlaps = self.serving.configured_overlaps(hosts, OVERLAPS_REPORTED_MAX);
        let both = move |store: &mut dyn Store| {
            let changed = store.change_tunnel(&id, &wanted, &note)?;
            Ok((changed, if wanted.hosts.is_some() { store.overlaps(&id) } else { Ok(Vec::new()) }))
        };
        let (tunnel, stored) = self.change(both).await?;
        if narrower {
            self.serving.review().await;
        }
        let overlaps = log_overlaps(&tunnel, overlaps, stored);
        Ok((tunnel, overlaps))
    }

    /// Reads one tunnel by its id.
    ///
    /// # Errors
    ///
    /// If there is none, or the store cannot be read.
    pub async fn get(&self, id: TunnelId) -> Result<Tunnel, TunnelsError> {
        Ok(self.store.with(move |store| store.tunnel(&id)).await?)
    }

    /// Lists tunnels, the newest first.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub async fn list(&self, archived_too: bool, page: Page) -> Result<Listed<Tunnel>, TunnelsError> {
        Ok(self.store.with(move |store| store.tunnels(archived_too, page)).await?)
    }

    /// Archives a tunnel. When this returns, its links have ended and its hosts are no longer served.
    ///
    /// # Errors
    ///
    /// If there is none, or the store rejects it.
    pub async fn archive(&self, id: TunnelId, reason: Option<String>) -> Result<Tunnel, TunnelsError> {
        let note = now(check::reason(reason)?);
        let (tunnel, ()) = self.change(move |store| Ok((store.archive_tunnel(&id, &note)?, ()))).await?;
        self.serving.review().await;
        Ok(tunnel)
    }

    /// Creates a new secret. The old one stays valid for `overlap`; then the links that use it end.
    ///
    /// # Errors
    ///
    /// If there is no such tunnel, a rotation is in progress, or the store rejects it.
    pub async fn rotate(
        &self,
        id: TunnelId,
        overlap: Duration,
        reason: Option<String>,
    ) -> Result<IssuedCredential, TunnelsError> {
        if overlap > OVERLAP_MAX {
            return Err(TunnelsError::Invalid(format!(
                "the overlap must be at most {} days",
                OVERLAP_MAX.as_secs() / 86_400
            )));
        }
        let note = now(check::reason(reason)?);
        let (credential, secret) = self.new_credential()?;
        let name = credential.id.clone();
        let until = note.at.after(overlap);
        let (tunnel, ()) = self.change(move |store| Ok((store.rotate(&id, &credential, until, &note)?, ()))).await?;
        if overlap.is_zero() {
            self.serving.review().await;
        }
        Ok(IssuedCredential { tunnel, credential: name, secret })
    }

    /// Revokes one credential of a tunnel, or all. When this returns, the links that used them have ended.
    ///
    /// # Errors
    ///
    /// If there is no such tunnel or credential, or the store rejects it.
    pub async fn revoke(
        &self,
        id: TunnelId,
        which: Option<CredentialId>,
        reason: Option<String>,
    ) -> Result<(Tunnel, ReviewOutcome), TunnelsError> {
        let note = now(check::reason(reason)?);
        let (tunnel, ()) = self.change(move |store| Ok((store.revoke(&id, which.as_ref(), &note)?, ()))).await?;
        Ok((tunnel, self.serving.review().await))
    }

    /// Registers the certificate of an authority with a tunnel. The edge trusts it when this returns.
    ///
    /// # Errors
    ///
    /// If the certificate is not suitable, the limit is reached, or the store rejects it.
    pub async fn add_certificate(&self, tunnel: TunnelId, pem: &str) -> Result<Certificate, TunnelsError> {
        let note = now(None);
        let read = CaCertificate::of_pem(pem, note.at.as_unix())?;
        let new = Certificate {
            id: ids::id("tcrt_")?,
            tunnel,
            fingerprint: read.fingerprint.to_string(),
            pem: read.pem,
            created_at: note.at,
            expires_at: WallTime(read.not_after_unix_s.saturating_mul(1_000)),
            archived_at: None,
        };
        let (_, certificate) = self.change(move |store| store.add_certificate(&new, &note)).await?;
        Ok(certificate)
    }

    /// Reads one certificate of a tunnel.
    ///
    /// # Errors
    ///
    /// If there is none, or the store cannot be read.
    pub async fn certificate(&self, tunnel: TunnelId, id: String) -> Result<Certificate, TunnelsError> {
        Ok(self.store.with(move |store| store.certificate(&tunnel, &id)).await?)
    }

    /// Lists certificates of a tunnel, the newest first.
    ///
    /// # Errors
    ///
    /// If there is no such tunnel, or the store cannot be read.
    pub async fn certificates(
        &self,
        tunnel: TunnelId,
        archived_too: bool,
        page: Page,
    ) -> Result<Listed<Certificate>, TunnelsError> {
        Ok(self.store.with(move |store| store.certificates(&tunnel, archived_too, page)).await?)
    }

    /// Archives a certificate. The edge no longer trusts it when this returns.
    ///
    /// # Errors
    ///
    /// If there is none, or the store rejects it.
    pub async fn archive_certificate(&self, tunnel: TunnelId, id: String) -> Result<Certificate, TunnelsError> {
        let note = now(None);
        let (_, certificate) = self.change(move |store| store.archive_certificate(&tunnel, &id, &note)).await?;
        Ok(certificate)
    }

    /// Lists events, the newest first.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub async fn events(&self, tunnel: Option<TunnelId>, page: Page) -> Result<Listed<AuditEvent>, TunnelsError> {
        Ok(self.store.with(move |store| store.events(tunnel.as_ref(), page)).await?)
    }

    /// The usage of a tunnel's links since then, rounded to the hour, up to this moment.
    ///
    /// # Errors
    ///
    /// If the store cannot be read, or rejects the latest usage.
    pub async fn usage(
        &self,
        tunnel: TunnelId,
        credential: Option<CredentialId>,
        since: WallTime,
    ) -> Result<Vec<Usage>, TunnelsError> {
        self.usage.gather().await?;
        Ok(self.store.with(move |store| store.usage(&tunnel, credential.as_ref(), since)).await?)
    }

    /// Records the latest usage, and closes the store. The tunnels cannot be used afterwards.
    ///
    /// # Errors
    ///
    /// If the latest usage cannot be recorded.
    pub async fn close(&self) -> Result<(), StoreError> {
        let last = self.usage.gather().await;
        self.store.close().await?;
        last
    }

    /// Copies the store into the directory for back-ups.
    ///
    /// # Errors
    ///
    /// If it cannot be copied.
    pub async fn keep_backup(&self) -> Result<std::path::PathBuf, TunnelsError> {
        Ok(self.store.with(|store| store.keep_backup(WallTime::now())).await?)
    }

    /// Changes a tunnel, and makes the edge serve the result.
    async fn change<T: Send + 'static>(
        &self,
        run: impl FnOnce(&mut dyn Store) -> Result<(Tunnel, T), StoreError> + Send + 'static,
    ) -> Result<(Tunnel, T), StoreError> {
        let serving = Arc::clone(&self.serving);
        let change_and_serve = move |store: &mut dyn Store| {
            let (tunnel, value) = run(store)?;
            // This runs on the store's thread, so that changes take effect in the order in which they were made.
            serving.set_tunnel(tunnel.clone());
            Ok((tunnel, value))
        };
        self.store.with(change_and_serve).await
    }

    /// A plain tunnel that anyone may call, with a secret of its own.
    fn new_tunnel(&self, hosts: Vec<HostPattern>) -> Result<(NewTunnel, Secret), TunnelsError> {
        let id = ids::id("tnl_")?.parse().expect("an id is plain and short");
        let (credential, secret) = self.new_credential()?;
        let new = NewTunnel {
            id,
            display_name: None,
            hosts,
            hosts_made_up: false,
            traffic: Traffic::Plain,
            lists: TunnelLists::default(),
            credential,
            requester: None,
        };
        Ok((new, secret))
    }

    fn new_credential(&self) -> Result<(NewCredential, Secret), TunnelsError> {
        let secret = self.mint(SecretKind::Tunnel)?;
        let id = ids::id("crd_")?.parse().expect("an id is plain and short");
        Ok((NewCredential { id, hash: SecretHash::of(&secret) }, secret))
    }

    fn mint(&self, kind: SecretKind) -> Result<Secret, TunnelsError> {
        let mut entropy = zeroize::Zeroizing::new([0; SECRET_ENTROPY_LEN]);
        aws_lc_rs::rand::fill(entropy.as_mut()).map_err(|_| DataDirError::NoRandom)?;
        let pin = *self.pin.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(mint(kind, &entropy, pin))
    }

    fn made_up_hosts(&self) -> Result<Vec<HostPattern>, TunnelsError> {
        let Some(domain) = self.settings.domain else {
            let remedy = "give hosts, or set edge.tunnel_domain so that the edge can generate one";
            return Err(TunnelsError::Invalid(remedy.to_owned()));
        };
        let host = format!("{}.{domain}", ids::letters(ids::LABEL_LETTERS)?);
        self.checked_hosts([host.as_str(), &format!("*.{host}")].into_iter())
    }

    /// Hosts in normal form, without repetitions. None may be in the configuration.
    fn checked_hosts<'a>(
        &self,
        hosts: impl ExactSizeIterator<Item = &'a str>,
    ) -> Result<Vec<HostPattern>, TunnelsError> {
        if hosts.len() > TUNNEL_HOSTS_MAX {
            return Err(TunnelsError::Invalid(format!("a tunnel has at most {TUNNEL_HOSTS_MAX} hosts")));
        }
        let mut checked: Vec<HostPattern> = Vec::with_capacity(hosts.len());
        for host in hosts {
            let invalid = |error| TunnelsError::Invalid(format!("{host:?} is not a valid host name: {error}"));
            let host: HostPattern = host.parse().map_err(invalid)?;
            if checked.contains(&host) {
                continue;
            }
            if let Some(tunnel) = self.serving.configured_owner(&host) {
                return Err(RuleViolation::HostTaken { host: host.to_string(), tunnel }.into());
            }
            checked.push(host);
        }
        Ok(checked)
    }
}

/// The overlaps of a tunnel that was just changed, with configuration and store. They are also logged.
fn log_overlaps(tunnel: &Tunnel, mut overlaps: Vec<Overlap>, stored: Result<Vec<Overlap>, StoreError>) -> Vec<Overlap> {
    // The change was made, so an error of this query does not fail it.
    match stored {
        Ok(stored) => overlaps.extend(stored),
        Err(error) => {
            tracing::error!(%error, tunnel = %tunnel.id, "hosts could not be compared with those of other tunnels")
        }
    }
    overlaps.truncate(OVERLAPS_REPORTED_MAX);
    for Overlap { host, theirs, tunnel: other } in &overlaps {
        tracing::warn!(tunnel = %tunnel.id, %host, %other, %theirs, "hosts of two tunnels overlap");
    }
    overlaps
}

fn now(reason: Option<String>) -> Note {
    Note { at: WallTime::now(), reason }
}
