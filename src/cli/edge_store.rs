//! What `adit edge` does with its data directory while it runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::UnixTime;
use rustls_pki_types::pem::PemObject;
use tokio::task::JoinHandle;

use crate::base::AuthorityPin;
use crate::cli::run::{AbortOnDrop, RunError};
use crate::config::EdgeConfig;
use crate::control::api::{Access, AdminToken};
use crate::control::store::{SqliteStore, StoreHandle, finish_restore, newest_backup};
use crate::control::tunnels::{Serving, Tunnels, TunnelsSettings};
use crate::control::{DataDir, DataDirLock};
use crate::tls::{Authority, CertFacts, Fingerprint};

/// How often the edge's certificate and the age of the last back-up are looked at.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(3_600);
/// How old the newest back-up becomes before another is made.
const BACKUP_AGE_MAX: Duration = Duration::from_secs(20 * 3_600);
/// How long what was called last may take to be put down when the edge ends.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// The data directory of an edge that is about to run: locked, its certificate fresh, its store open.
pub(super) struct OpenDir {
    dir: DataDir,
    store: SqliteStore,
    token: Arc<AdminToken>,
    lock: DataDirLock,
}

/// The tunnels of an edge, and what is done for them in the background.
pub(super) struct EdgeStore {
    pub(super) access: Access,
    _tasks: Vec<AbortOnDrop>,
    _lock: DataDirLock,
}

impl OpenDir {
    /// Opens the data directory that the configuration names, if it names one. The edge's certificate is renewed first when
    /// it is near its end, so that it can be loaded afterwards.
    pub(super) fn open(config: &EdgeConfig) -> Result<Option<OpenDir>, RunError> {
        let Some(dir) = config.data_dir() else { return Ok(None) };
        let now = UnixTime::now();
        dir.authority(now)?;
        let lock = dir.lock()?;
        if dir.renew_edge_cert(now)? {
            tracing::info!("the edge's certificate for connectors was renewed");
        }
        let token = AdminToken::new(&dir.admin_token()?);
        if let Some(aside) = finish_restore(&dir.store())? {
            tracing::warn!(former = %aside.display(), "a restore of the store that was cut off is finished");
        }
        let store = SqliteStore::open(&dir.store(), &dir.backups())?;
        Ok(Some(OpenDir { dir, store, token, lock }))
    }

    /// Has the edge serve what the store says, from now on.
    pub(super) async fn serve(
        self,
        config: &EdgeConfig,
        serving: &Arc<Serving>,
        authority: Option<&Authority>,
        connectors_port: u16,
    ) -> Result<EdgeStore, RunError> {
        let OpenDir { dir, store, token, lock } = self;
        let store = StoreHandle::start(store).map_err(RunError::io("the store's thread could not start"))?;
        let settings = TunnelsSettings {
            domain: config.tunnel_domain,
            pin: authority.and_then(|authority| pin(config, authority)),
            connectors: connectors_public(config, connectors_port),
        };
        let tunnels = Tunnels::open(store, Arc::clone(serving), settings).await?;
        let tasks =
            [tokio::spawn(Arc::clone(tunnels.usage_record()).keep_gathering()), upkeep(dir, Arc::clone(&tunnels))];
        let access = Access { tunnels, token };
        Ok(EdgeStore { access, _tasks: tasks.map(AbortOnDrop).into(), _lock: lock })
    }
}

impl EdgeStore {
    /// Puts down what was called last, after the cores have ended, and closes the store.
    pub(super) async fn end(self) {
        match tokio::time::timeout(LAST_WORDS, self.access.tunnels.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the store was not closed well"),
            Err(_) => tracing::error!("the store was not closed well: it took too long"),
        }
    }
}

/// Renews the edge's certificate before its end, and makes a back-up a day. A new certificate acts when its file is seen to
/// have changed.
fn upkeep(dir: DataDir, tunnels: Arc<Tunnels>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            ticks.tick().await;
            match dir.renew_edge_cert(UnixTime::now()) {
                Ok(true) => tracing::info!("the edge's certificate for connectors was renewed"),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "the edge's certificate for connectors cannot be renewed"),
            }
            if !backup_is_due(&dir.backups()) {
                continue;
            }
            match tunnels.keep_backup().await {
                Ok(file) => tracing::info!(file = %file.display(), "the store was backed up"),
                Err(error) => tracing::error!(%error, "the store cannot be backed up"),
            }
        }
    })
}

fn backup_is_due(backups: &Path) -> bool {
    let newest = newest_backup(backups).and_then(|file| std::fs::metadata(file).ok()?.modified().ok());
    // One from the future counts as new.
    newest.is_none_or(|made| made.elapsed().is_ok_and(|age| age > BACKUP_AGE_MAX))
}

/// By what secrets name the edge's authority: only where it stands in the chain that connectors are shown.
pub(super) fn pin(config: &EdgeConfig, authority: &Authority) -> Option<AuthorityPin> {
    let files = config.connectors_tls()?;
    let chain = std::fs::read(&files.cert_file).ok()?;
    let fingerprint = Fingerprint::of(authority.cert_der());
    let shown = CertificateDer::pem_slice_iter(&chain).flatten().any(|cert| Fingerprint::of(&cert) == fingerprint);
    shown.then_some(AuthorityPin(*fingerprint.as_bytes()))
}

/// Where connectors dial, as people are told.
fn connectors_public(config: &EdgeConfig, port: u16) -> String {
    if let Some(told) = &config.connectors_public {
        return told.to_string();
    }
    let named = || {
        let files = config.connectors_tls()?;
        let pem = std::fs::read(&files.cert_file).ok()?;
        CertFacts::of_pem(("", &pem)).ok()?.names.into_iter().find(|name| !name.starts_with('*'))
    };
    let host = named().unwrap_or_else(|| config.connectors_listen.ip().to_string());
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
