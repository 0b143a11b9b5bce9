//! Certificates of this connector, one for each edge: requested at the start, renewed in time, and requested again when an
//! edge refuses one.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;
use rustls_pki_types::CertificateDer;

use crate::base::Clock;
use crate::connector::connect_error::{ConnectError, EnrolError};
use crate::connector::connector_core::ConnectorCore;
use crate::connector::dial_link::{LinkConnection, dial_link};
use crate::connector::edge_status::{EdgeStatus, RENEW_EARLY_MAX};
use crate::connector::edge_tls::EdgeTls;
use crate::connector::enrolment;
use crate::connector::message::ConnectorEvent;
use crate::connector::settings::EdgeAddress;
use crate::connector::shared::Counters;
use crate::engine::StreamError;
use crate::link::Backoff;
use crate::quic::QuicStreams;
use crate::tls::{Identity, KeyRequest};
use crate::wire::enrol::{Credential, EnrolAnswer, EnrolRefused, EnrolRequest, Grant};
use crate::wire::quic::ConnectionError;

/// The largest difference of the wall clocks of connector and edge that is not logged.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(120);
/// If a new certificate is refused within this time, the next one is requested after a wait.
const REFUSED_TOO_SOON: Duration = Duration::from_secs(5);

/// Keeps the certificate for one edge up to date, on one core for all.
struct Enroller {
    core: Rc<ConnectorCore>,
    tls: Arc<EdgeTls>,
    edge: usize,
}

/// Starts the tasks for the certificates for which this core is responsible.
pub(super) fn keep_certified(core: &Rc<ConnectorCore>) {
    // Edges of cloudflared have no certificates for connectors.
    let asks = core.connector.settings.cloudflared.is_none();
    let Some(tls) = core.connector.settings.edge_tls.as_ref().filter(|_| asks) else { return };
    for edge in 0..core.connector.edges.len() {
        if core.connector.core_for_certificates(edge) == core.core.id() {
            let enroller = Enroller { core: Rc::clone(core), tls: Arc::clone(tls), edge };
            core.core.spawn(async move { enroller.run().await });
        }
    }
}

impl Enroller {
    async fn run(&self) {
        future::or(self.core.drain.after(0), self.keep()).await;
    }

    async fn keep(&self) {
        let mut backoff = self.core.retry.backoff();
        if let Some(kept) = self.tls.kept(self.edge) {
            self.use_kept(kept);
        }
        let mut came = None;
        loop {
            let refused = self.until_due().await;
            if refused && came.is_some_and(|came| self.core.core.now() - came < REFUSED_TOO_SOON) {
                let wait = self.core.retry.next_wait(&mut backoff);
                self.core.core.sleep(wait).await;
            } else {
                backoff.reset();
            }
            while let Err(error) = self.enrol().await {
                self.wait(&error, &mut backoff).await;
            }
            came = Some(self.core.core.now());
        }
    }

    /// Uses a certificate of an earlier process. It is renewed when a third of its validity period is left.
    fn use_kept(&self, kept: &Identity) {
        let left = kept.left(self.tls.clock().now());
        let now = self.core.core.now();
        if !left.is_zero() {
            let renew_at = now + left.saturating_sub(kept.span() / 3);
            self.set(EdgeStatus::Certified { renew_at, until: now + left });
        }
    }

    /// Waits until a certificate has to be requested. True if the edge refused the last one.
    async fn until_due(&self) -> bool {
        let core = &self.core;
        loop {
            let seen = core.edges.status_changes(self.edge);
            let news = core.edges.status_since(self.edge, seen);
            match self.status() {
                EdgeStatus::Unknown => return true,
                EdgeStatus::Uncertified => news.await,
                EdgeStatus::Certified { renew_at, .. } if core.core.now() >= renew_at => return false,
                EdgeStatus::Certified { renew_at, .. } => {
                    let renewal = async {
                        core.core.sleep_until(renew_at).await;
                    };
                    future::or(renewal, news).await;
                }
            }
        }
    }

    /// Enrols once. An edge that issues no certificates is a success too.
    async fn enrol(&self) -> Result<(), ConnectError> {
        let (grant, identity) = match self.ask().await {
            Err(error) if error.is_not_offered() => {
                tracing::info!(edge = %self.address(), "the edge issues no certificates: it has no authority, or this is not its port for connectors");
                self.set(EdgeStatus::Uncertified);
                return Ok(());
            }
            asked => asked?,
        };
        let lifetime = Duration::from_secs(grant.lifetime_s.into());
        let early = self.core.retry.random_fraction() * RENEW_EARLY_MAX;
        self.tls.show(self.edge, &identity);
        self.set(EdgeStatus::certified(self.core.core.now(), lifetime, early));
        Counters::add(&self.core.connector.counters.enrolments);
        let edge = self.address().clone();
        tracing::info!(%edge, tunnel = %identity.tunnel(), lifetime_s = grant.lifetime_s, "certificate received");
        self.compare_clocks(grant.edge_time_unix_s);
        self.core.connector.send(ConnectorEvent::Certified { edge, identity: Arc::new(identity), lifetime });
        Ok(())
    }

    async fn ask(&self) -> Result<(Grant, Identity), ConnectError> {
        let key = KeyRequest::new().map_err(EnrolError::Unfit)?;
        let settings = &self.core.connector.settings;
        let credential = Credential::Tunnel { id: settings.tunnel.clone(), secret: settings.secret.clone() };
        let request = EnrolRequest { credential, software: settings.software.clone(), csr: key.csr().to_vec() };
        let grant = match self.ask_with(&request).await? {
            EnrolAnswer::Granted(grant) => grant,
            EnrolAnswer::Refused(EnrolRefused { refusal, reason, retry_after_s, edge_time_unix_s }) => {
                self.compare_clocks(edge_time_unix_s);
                let retry_after = Duration::from_secs(retry_after_s.into());
                return Err(EnrolError::Refused { refusal, reason, retry_after }.into());
            }
        };
        let chain = grant.chain.iter().map(|cert| CertificateDer::from(cert.clone())).collect();
        let identity = key.into_identity(chain).map_err(EnrolError::Unfit)?;
        if *identity.tunnel() != settings.tunnel {
            let (given, asked) = (identity.tunnel().clone(), settings.tunnel.clone());
            return Err(EnrolError::OfOther { given, asked }.into());
        }
        Ok((grant, identity))
    }

    /// Sends a request on a connection of its own, over the transport of the links.
    async fn ask_with(&self, request: &EnrolRequest) -> Result<EnrolAnswer, ConnectError> {
        let core = &self.core.core;
        let limit = self.core.connector.settings.connect_timeout;
        match dial_link(&self.core, self.edge, Some(self.tls.enrol())).await? {
            LinkConnection::Tcp(connection) => enrolment::ask(core, &connection, request, limit).await,
            LinkConnection::Quic(connection) => {
                let streams = QuicStreams::new(core, connection);
                // The edge permits streams, unless the connection has ended.
                let stream = streams.open().ok_or(EnrolError::Silent)?;
                let running = async { Err(ConnectError::from(EnrolError::Stream(ended(&streams.run().await)))) };
                future::or(enrolment::ask(core, &stream, request, limit), running).await
            }
        }
    }

    /// Waits before the next attempt. A certificate that expires in the meantime is no longer used.
    async fn wait(&self, error: &ConnectError, backoff: &mut Backoff) {
        let core = &self.core;
        Counters::add(&core.connector.counters.enrolments_failed);
        if let EdgeStatus::Certified { until, .. } = self.status()
            && core.core.now() >= until
        {
            self.set(EdgeStatus::Unknown);
        }
        core.retry.log_error(self.edge, error);
        let wait = core.retry.wait_after(error, backoff);
        core.core.sleep(wait).await;
    }

    /// Logs a difference of the two wall clocks, the usual cause of certificates that seem expired.
    fn compare_clocks(&self, edge_time_unix_s: u64) {
        let own_s = self.tls.clock().now().as_secs();
        let skew = Duration::from_secs(own_s.abs_diff(edge_time_unix_s));
        let ahead = own_s > edge_time_unix_s;
        self.core.connector.edges[self.edge].set_clock_skew(ahead, skew);
        if skew > CLOCK_SKEW_MAX {
            let direction = if ahead { "ahead of" } else { "behind" };
            tracing::warn!(
                edge = %self.address(),
                skew_s = skew.as_secs(),
                "this machine's clock is {direction} the edge's: set the wrong one, or certificates may seem expired"
            );
        }
    }

    fn status(&self) -> EdgeStatus {
        self.core.connector.edges[self.edge].status.get().1
    }

    fn set(&self, status: EdgeStatus) {
        self.core.connector.set_status(self.edge, status);
        // Other cores are notified by message; this core sees the change at once.
        self.core.edges.on_status(self.edge);
    }

    fn address(&self) -> &EdgeAddress {
        &self.core.connector.settings.edges[self.edge]
    }
}

/// How the end of a connection looks on its streams.
fn ended(why: &ConnectionError) -> StreamError {
    match why {
        ConnectionError::TimedOut => StreamError::TimedOut,
        ConnectionError::ConnectionClosed(_) | ConnectionError::ApplicationClosed(_) | ConnectionError::Reset => {
            StreamError::Reset
        }
        other => StreamError::Protocol(other.to_string().into()),
    }
}
