//! The data directory of a running edge: renews its certificate, and serves and backs up its store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::UnixTime;
use tokio::task::JoinHandle;

use crate::config::EdgeConfig;
use crate::control::api::{Access, AdminToken};
use crate::control::store::{SqliteStore, StoreHandle, finish_restore, newest_backup};
use crate::control::tunnels::{Serving, Tunnels, TunnelsSettings};
use crate::control::{ApprovalDesk, DataDir, DataDirLock};
use crate::policy::Approvals;
use crate::process::edge_identity::{EdgeTlsIdentity, authority_pin};
use crate::process::error::RunError;
use crate::process::listen::{IN_USE_POLL, IN_USE_POLLS_MAX};
use crate::process::runtime::AbortOnDrop;
use crate::process::tls_files::{TlsFiles, data_dir};
use crate::serve::AuditLog;
use crate::tls::CertInfo;

/// How often the validity of the edge's certificate and the age of the last back-up are checked.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(3_600);
/// A new back-up is made when the newest one is this old.
const BACKUP_AGE_MAX: Duration = Duration::from_secs(20 * 3_600);
/// How long recording the last calls and closing the store may take at shutdown.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// The data directory of an edge that is about to run: locked, with a fresh certificate and an open store.
pub(super) struct OpenDataDir {
    dir: DataDir,
    store: SqliteStore,
    token: Arc<AdminToken>,
    lock: DataDirLock,
}

/// The tunnels of a running edge, and the background tasks for them.
pub(super) struct EdgeStore {
    access: Access,
    tunnels: Arc<Tunnels>,
    _tasks: Vec<AbortOnDrop>,
    _lock: DataDirLock,
}

impl OpenDataDir {
    /// Opens the data directory of the configuration, if there is one. It waits a while for a predecessor that has not
    /// ended yet. The edge's certificate is renewed first if it is about to expire, so that the new one is loaded.
    pub(super) async fn open(config: &EdgeConfig) -> Result<Option<OpenDataDir>, RunError> {
        let Some(dir) = data_dir(config) else { return Ok(None) };
        let now = UnixTime::now();
        dir.authority(now)?;
        let mut pauses = 0..IN_USE_POLLS_MAX;
        let lock = dir.lock_soon(async || {
            tokio::time::sleep(IN_USE_POLL).await;
            pauses.next().is_some()
        });
        let lock = lock.await?;
        if dir.renew_edge_cert(now)? {
            tracing::info!("the edge's certificate for connectors was renewed");
        }
        let token = AdminToken::new(&dir.admin_token()?);
        if let Some(aside) = finish_restore(&dir.store())? {
            tracing::warn!(former = %aside.display(), "an interrupted restore of the store was finished");
        }
        let store = SqliteStore::open(&dir.store(), &dir.backups())?;
        Ok(Some(OpenDataDir { dir, store, token, lock }))
    }

    /// Makes the edge serve the tunnels of the store.
    pub(super) async fn serve(
        self,
        config: &EdgeConfig,
        serving: &Arc<Serving>,
        identity: &EdgeTlsIdentity,
        connectors_port: u16,
        audit: Option<AuditLog>,
        approvals: &Arc<Approvals>,
    ) -> Result<EdgeStore, RunError> {
        let OpenDataDir { dir, mut store, token, lock } = self;
        let approvals = ApprovalDesk::new(approvals, audit.clone());
        store.record_in(audit);
        let store = StoreHandle::start(store).map_err(RunError::io("the store's thread could not start"))?;
        let settings = TunnelsSettings {
            domain: config.tunnel_domain,
            pin: identity.authority.as_ref().and_then(|authority| authority_pin(config, &authority.current())),
            connectors: connectors_public(config, connectors_port),
        };
        let tunnels = Tunnels::open(store, Arc::clone(serving), settings).await?;
        let tasks =
            [tokio::spawn(Arc::clone(tunnels.usage_record()).keep_gathering()), upkeep(dir, Arc::clone(&tunnels))];
        let access = Access {
            tunnels: Some(Arc::clone(&tunnels)),
            approvals,
            links: None,
            token,
            audit_dir: None,
            doctor: None,
        };
        Ok(EdgeStore { access, tunnels, _tasks: tasks.map(AbortOnDrop).into(), _lock: lock })
    }
}

impl EdgeStore {
    /// The tunnels and the admin token, for use by the admin API.
    pub(super) fn access(&self) -> Access {
        self.access.clone()
    }

    /// Records the last calls and closes the store. Call it after the cores have ended.
    pub(super) async fn close(self) {
        match tokio::time::timeout(CLOSE_TIMEOUT, self.tunnels.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the store could not be closed cleanly"),
            Err(_) => tracing::error!("the store was not closed in time"),
        }
    }
}

/// Renews the edge's certificate before it expires, and makes a daily back-up. A new certificate takes effect when the
/// change of its file is noticed.
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
    // A back-up with a date in the future counts as new.
    newest.is_none_or(|made| made.elapsed().is_ok_and(|age| age > BACKUP_AGE_MAX))
}

/// The address that connectors dial, as shown to people.
fn connectors_public(config: &EdgeConfig, port: u16) -> String {
    if let Some(configured) = &config.connectors_public {
        return configured.to_string();
    }
    let named = || {
        let files = TlsFiles::for_connectors(config)?;
        let pem = std::fs::read(&files.cert_file).ok()?;
        CertInfo::of_pem(("", &pem)).ok()?.names.into_iter().find(|name| !name.starts_with('*'))
    };
    let host = named().unwrap_or_else(|| config.connectors_listen.ip().to_string());
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
