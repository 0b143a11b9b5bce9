//! Certificates of this connector, one for each edge: asked for at the start, renewed in time, asked for anew when an edge
//! does not take one.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;
use rustls_pki_types::CertificateDer;

use crate::base::Clock;
use crate::connector::connector_core::ConnectorCore;
use crate::connector::edge_tls::EdgeTls;
use crate::connector::enrolment;
use crate::connector::message::ConnectorEvent;
use crate::connector::no_link::{NoLink, NotEnrolled};
use crate::connector::settings::EdgeAddress;
use crate::connector::shared::Counters;
use crate::connector::standing::{RENEW_EARLY_MAX, Standing};
use crate::link::Backoff;
use crate::tls::{Identity, KeyRequest};
use crate::wire::enrol::{Answer, Credential, Grant, Refused, Request};

/// How far the wall clocks of connector and edge may differ before people are told.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(120);
/// A certificate that was doubted so soon after it came is not simply asked for again.
const DOUBT_TOO_SOON: Duration = Duration::from_secs(5);

/// Keeps this connector certified towards one edge. One core does it for all.
struct Enroller {
    here: Rc<ConnectorCore>,
    tls: Arc<EdgeTls>,
    edge: usize,
}

impl ConnectorCore {
    /// Begins to see to the certificates for which this core is responsible.
    pub(super) fn keep_certified(self: &Rc<ConnectorCore>) {
        let Some(tls) = &self.connector.settings.edge_tls else { return };
        for edge in 0..self.connector.edges.len() {
            if self.connector.core_for_certificates(edge) == self.core.id() {
                let enroller = Enroller { here: Rc::clone(self), tls: Arc::clone(tls), edge };
                self.core.spawn(async move { enroller.run().await });
            }
        }
    }

    /// Waits until it is known how this connector stands with an edge; tells the number of that knowledge.
    pub(super) async fn known_standing(&self, edge: usize) -> u64 {
        if self.connector.settings.edge_tls.is_none() {
            return 0;
        }
        loop {
            let seen = self.standing_news[edge].count();
            let (number, standing) = self.connector.edges[edge].standing.get();
            if standing != Standing::Unknown {
                return number;
            }
            // Now and then without news, which a full mailbox may have kept from this core.
            let news = self.standing_news[edge].after(seen);
            let _ = self.core.timeout(self.connector.settings.backoff_max, news).await;
        }
    }
}

impl Enroller {
    async fn run(&self) {
        future::or(self.here.drain.after(0), self.keep()).await;
    }

    async fn keep(&self) {
        let settings = &self.here.connector.settings;
        let mut backoff = Backoff::new(settings.backoff_min, settings.backoff_max);
        if let Some(kept) = self.tls.kept(self.edge) {
            self.use_kept(kept);
        }
        let mut came = None;
        loop {
            let doubted = self.until_due().await;
            if doubted && came.is_some_and(|came| self.here.core.now() - came < DOUBT_TOO_SOON) {
                let wait = backoff.next(&mut self.here.rng.borrow_mut());
                self.here.core.sleep(wait).await;
            } else {
                backoff.reset();
            }
            while let Err(error) = self.enrol().await {
                self.wait_to_retry(&error, &mut backoff).await;
            }
            came = Some(self.here.core.now());
        }
    }

    /// A certificate from before this process; how long its whole life was is not known, so that a third of all between its
    /// two dates is kept for renewing it.
    fn use_kept(&self, kept: &Identity) {
        let left = kept.left(self.tls.clock().now());
        let now = self.here.core.now();
        if !left.is_zero() {
            let renew_at = now + left.saturating_sub(kept.span() / 3);
            self.set(Standing::Certified { renew_at, until: now + left });
        }
    }

    /// Waits until a certificate is to be asked for. True when that is because the edge did not take what it was shown.
    async fn until_due(&self) -> bool {
        let here = &self.here;
        loop {
            let seen = here.standing_news[self.edge].count();
            let news = here.standing_news[self.edge].after(seen);
            match self.standing() {
                Standing::Unknown => return true,
                Standing::Uncertified => news.await,
                Standing::Certified { renew_at, .. } if here.core.now() >= renew_at => return false,
                Standing::Certified { renew_at, .. } => {
                    let renewal = async {
                        here.core.sleep_until(renew_at).await;
                    };
                    future::or(renewal, news).await;
                }
            }
        }
    }

    /// Asks once. That the edge gives no certificates to anybody is an answer too.
    async fn enrol(&self) -> Result<(), NoLink> {
        let limit = self.here.connector.settings.connect_timeout;
        let asked = self.here.core.timeout(limit, self.ask()).await.map_err(|_| NoLink::Timeout(limit))?;
        let (grant, identity) = match asked {
            Err(error) if error.is_not_offered() => {
                tracing::info!(edge = %self.address(), "the edge has no authority: links authenticate by the secret alone");
                self.set(Standing::Uncertified);
                return Ok(());
            }
            asked => asked?,
        };
        let lifetime = Duration::from_secs(grant.lifetime_s.into());
        let early = self.here.rng.borrow_mut().unit() * RENEW_EARLY_MAX;
        self.tls.show(self.edge, &identity);
        self.set(Standing::certified(self.here.core.now(), lifetime, early));
        Counters::add(&self.here.connector.counters.enrolments);
        let edge = self.address().clone();
        tracing::info!(%edge, tunnel = %identity.tunnel(), lifetime_s = grant.lifetime_s, "certificate received");
        self.compare_clocks(grant.edge_time_unix_s);
        self.here.connector.tell(ConnectorEvent::Certified { edge, identity: Arc::new(identity), lifetime });
        Ok(())
    }

    async fn ask(&self) -> Result<(Grant, Identity), NoLink> {
        let connection = self.here.dial(self.edge, Some(self.tls.enrol())).await?;
        let key = KeyRequest::new().map_err(NotEnrolled::Unfit)?;
        let settings = &self.here.connector.settings;
        let credential = Credential::Tunnel { id: settings.tunnel.clone(), secret: settings.secret.clone() };
        let request = Request { credential, software: settings.software.clone(), csr: key.csr().to_vec() };
        let grant = match enrolment::ask(&self.here.core, &connection, &request).await? {
            Answer::Granted(grant) => grant,
            Answer::Refused(Refused { refusal, reason, retry_after_s, edge_time_unix_s }) => {
                self.compare_clocks(edge_time_unix_s);
                let retry_after = Duration::from_secs(retry_after_s.into());
                return Err(NotEnrolled::Refused { refusal, reason, retry_after }.into());
            }
        };
        let chain = grant.chain.iter().map(|cert| CertificateDer::from(cert.clone())).collect();
        let identity = key.into_identity(chain).map_err(NotEnrolled::Unfit)?;
        if *identity.tunnel() != settings.tunnel {
            let (given, asked) = (identity.tunnel().clone(), settings.tunnel.clone());
            return Err(NotEnrolled::OfOther { given, asked }.into());
        }
        Ok((grant, identity))
    }

    /// Waits before the next try. A certificate that has ended meanwhile is shown no more.
    async fn wait_to_retry(&self, error: &NoLink, backoff: &mut Backoff) {
        let here = &self.here;
        Counters::add(&here.connector.counters.enrolments_failed);
        if let Standing::Certified { until, .. } = self.standing()
            && here.core.now() >= until
        {
            self.set(Standing::Unknown);
        }
        here.tell_trouble(self.edge, error);
        let wait = here.wait_after(error, backoff);
        here.core.sleep(wait).await;
    }

    /// Tells people when the two wall clocks differ: it is the usual cause of certificates that seem out of date.
    fn compare_clocks(&self, edge_time_unix_s: u64) {
        let here_s = self.tls.clock().now().as_secs();
        let skew = Duration::from_secs(here_s.abs_diff(edge_time_unix_s));
        let ahead = here_s > edge_time_unix_s;
        self.here.connector.edges[self.edge].set_clock_skew(ahead, skew);
        if skew > CLOCK_SKEW_MAX {
            let direction = if ahead { "ahead of" } else { "behind" };
            tracing::warn!(
                edge = %self.address(),
                skew_s = skew.as_secs(),
                "this machine's clock is {direction} the edge's: correct whichever of the two is wrong, or certificates seem \
                 expired or not yet valid"
            );
        }
    }

    fn standing(&self) -> Standing {
        self.here.connector.edges[self.edge].standing.get().1
    }

    fn set(&self, standing: Standing) {
        self.here.connector.set_standing(self.edge, standing);
        // Other cores are told by message, this one sees it at once.
        self.here.standing_news[self.edge].raise();
    }

    fn address(&self) -> &EdgeAddress {
        &self.here.connector.settings.edges[self.edge]
    }
}
