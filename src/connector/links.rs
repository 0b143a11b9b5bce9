//! Links to the edges: dialled, run, and dialled again when they end.

use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;

use crate::base::Clock;
use crate::connector::connect_error::{ConnectError, OwnCertificate};
use crate::connector::connector_core::ConnectorCore;
use crate::connector::dial_link::{LinkConnection, dial_link, may_use_quic, prove_quic};
use crate::connector::message::ConnectorEvent;
use crate::connector::settings::EdgeAddress;
use crate::connector::shared::Counters;
use crate::connector::{cloudflared, quic_watch, workers};
use crate::engine::Task;
use crate::link::{Backoff, Carrier, CarrierEnded, CloseReason, Link};
use crate::quic::QuicConnection;
use crate::wire::mux::Hello;

/// A link that was up for this long was stable, and its end resets the backoff.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// An established carrier, and the task that runs it.
pub(super) struct Up {
    pub(super) carrier: Carrier,
    pub(super) run: Task<CarrierEnded>,
    /// How many cores the edge has.
    pub(super) edge_cores: u16,
}

/// What becomes of a link.
enum Next {
    /// It takes no more calls.
    Ends,
    /// Nothing arrives on its path any more.
    Silent,
    /// It uses TCP, and this connection over QUIC works.
    Quic(Rc<QuicConnection>),
}

/// The slot of one link to one edge. The link is dialled again whenever it ends.
#[derive(Clone)]
pub(super) struct LinkSlot {
    pub(super) core: Rc<ConnectorCore>,
    pub(super) edge: usize,
    pub(super) index: u16,
}

/// Opens the links of this core that are configured and not open yet.
pub(super) fn open_links(core: &Rc<ConnectorCore>) {
    let cores = core.connector.core_count().max(1);
    for edge in 0..core.connector.edges.len() {
        for index in core.edges.take_links_to_open(edge) {
            if usize::from(index) % cores == usize::from(core.core.id().0) {
                let slot = LinkSlot { core: Rc::clone(core), edge, index };
                core.core.spawn(async move { slot.keep().await });
            }
        }
    }
}

impl LinkSlot {
    /// Keeps the link up until the core drains.
    async fn keep(&self) {
        let mut backoff = self.core.retry.backoff();
        let keeping = async {
            loop {
                let ups_seen = self.core.edges.ups(self.edge);
                match self.establish().await {
                    Ok(up) => self.run(up, &mut backoff).await,
                    Err(error) => self.wait(&error, &mut backoff, ups_seen).await,
                }
            }
        };
        // During the drain no link is dialled; an established one finishes on its own.
        future::or(self.core.drain.after(0), keeping).await;
    }

    /// Serves the link, and those that take its place while it exists. Returns when the next one has to be dialled.
    pub(super) async fn run(&self, up: Up, backoff: &mut Backoff) {
        let core = &self.core;
        let mut carrier = self.begin(up);
        let began = core.core.now();
        // The next link is there before this one is left, so that calls always have one.
        while let Some(next) = self.next(&carrier, backoff).await {
            carrier.drain();
            carrier = self.begin(next);
        }
        let stable = core.core.now() - began >= STABLE_AFTER;
        if stable {
            backoff.reset();
        }
        // A draining edge should get another link at once. A lost edge may be lost to many connectors, which should not
        // all reconnect at the same time.
        if carrier.ended().is_some() || !stable {
            let wait = core.retry.next_wait(backoff);
            core.core.sleep(wait).await;
        }
    }

    /// Waits until the carrier takes no more calls, which gives `None`, or another one has to take its place: because nothing arrives
    /// on its path any more, or because it uses TCP and QUIC works again. That one is then made, even if the edge drains the old
    /// one meanwhile, as it does as soon as it knows the new one.
    async fn next(&self, carrier: &Carrier, backoff: &mut Backoff) -> Option<Up> {
        let core = &self.core;
        loop {
            let ending = async {
                carrier.draining().await;
                Next::Ends
            };
            let wanted = async {
                if carrier.quic_path().is_none() {
                    return Next::Quic(self.proven_quic().await);
                }
                quic_watch::silent(&core.core, || carrier.quic_path()).await;
                if carrier.quic_path().is_some() { Next::Silent } else { Next::Ends }
            };
            let made = match future::or(ending, wanted).await {
                Next::Ends => return None,
                Next::Silent => self.replacement(carrier, backoff).await,
                Next::Quic(connection) => self.moved_to_quic(connection).await,
            };
            if made.is_some() {
                return made;
            }
        }
    }

    /// Makes another link in place of one on which nothing arrives any more; `None` if something arrives again before.
    async fn replacement(&self, carrier: &Carrier, backoff: &mut Backoff) -> Option<Up> {
        let core = &self.core;
        tracing::info!(edge = %self.address(), link = self.index, "nothing arrives over QUIC any more; another link is made");
        Counters::add(&core.connector.counters.links_silent);
        core.transports.on_quic_failed(self.edge, core.core.now(), core.retry.random_fraction());
        let making = async {
            loop {
                let ups_seen = core.edges.ups(self.edge);
                match self.establish().await {
                    Ok(up) => return Some(up),
                    Err(error) => self.wait(&error, backoff, ups_seen).await,
                }
            }
        };
        let heard = async {
            quic_watch::heard_again(&core.core, || carrier.quic_path()).await;
            None
        };
        let made = future::or(making, heard).await;
        if made.is_none() {
            core.transports.on_quic_proven(self.edge);
        }
        made
    }

    /// Waits until QUIC has been left alone for long enough, and carries something again.
    async fn proven_quic(&self) -> Rc<QuicConnection> {
        let core = &self.core;
        let tls = core.connector.settings.edge_tls.as_ref().and_then(|tls| tls.link(self.edge));
        let may_move = core.connector.settings.cloudflared.is_none() && may_use_quic(core, self.edge);
        let Some(tls) = tls.filter(|_| may_move) else { return pending().await };
        loop {
            core.core.sleep_until(core.transports.tcp_until(self.edge)).await;
            match prove_quic(core, self.edge, tls).await {
                Ok(connection) => return connection,
                Err(error) => self.on_no_quic(&error),
            }
        }
    }

    /// Makes a link over a connection that was proven, in place of one over TCP.
    async fn moved_to_quic(&self, connection: Rc<QuicConnection>) -> Option<Up> {
        let core = &self.core;
        match self.link_over(LinkConnection::Quic(connection)).await {
            Ok(up) => {
                tracing::info!(edge = %self.address(), link = self.index, "QUIC works again; the link is moved to it");
                Counters::add(&core.connector.counters.links_back_on_quic);
                core.transports.on_quic_proven(self.edge);
                Some(up)
            }
            Err(error) => {
                self.on_no_quic(&error);
                None
            }
        }
    }

    fn on_no_quic(&self, error: &ConnectError) {
        let core = &self.core;
        tracing::debug!(edge = %self.address(), %error, "QUIC does not work yet; the link stays on TCP");
        core.transports.on_quic_failed(self.edge, core.core.now(), core.retry.random_fraction());
    }

    /// Starts to serve a link.
    fn begin(&self, up: Up) -> Carrier {
        let core = &self.core;
        let Up { carrier, run, edge_cores } = up;
        core.links.add(&carrier, self.edge);
        // The routes may have changed since the link was made.
        carrier.set_hosts(&core.connector.hosts());
        core.edges.on_up(self.edge);
        core.connector.on_linked(self.edge);
        core.connector.on_edge_cores(self.edge, edge_cores);
        Counters::add(&core.connector.counters.links_made);
        core.connector.send(ConnectorEvent::Linked {
            is_quic: carrier.is_quic(),
            core: core.core.id(),
            edge: self.address().clone(),
            link_index: self.index,
        });
        if let Carrier::Link(_) = carrier {
            tracing::info!(edge = %self.address(), link = self.index, core = %core.core.id(), "link up");
        }
        let (slot, served) = (self.clone(), carrier.clone());
        core.core.spawn(async move { slot.serve(served, run).await });
        carrier
    }

    /// Accepts calls from a carrier until it has ended.
    async fn serve(&self, carrier: Carrier, run: Task<CarrierEnded>) {
        let core = &self.core;
        let taking = async {
            while let Some(stream) = carrier.accept().await {
                workers::carry(core, stream);
            }
        };
        let draining = async {
            carrier.draining().await;
            carrier.drained().await;
            carrier.close(CloseReason::Ended);
            pending().await
        };
        let _pushes = cloudflared::take_pushes(core, &carrier);
        // A separate task, so that it is not polled for each call.
        let (connector, heard_on, edge) = (Arc::clone(&core.connector), carrier.clone(), self.edge);
        let hearing = core.core.spawn_held(async move {
            let mut heard = 0;
            loop {
                heard = heard_on.peer_hosts_after(heard).await;
                connector.compare_hosts(edge, heard_on.peer_hosts());
            }
        });
        future::or(taking, draining).await;
        drop(hearing);
        let ended = run.await;
        core.links.remove(&carrier);
        Counters::add(&core.connector.counters.links_ended);
        match carrier {
            Carrier::Link(_) => {
                tracing::info!(edge = %self.address(), link = self.index, why = %ended, by = ?ended.by(), "link down");
            }
            Carrier::Cloudflared(_) | Carrier::CloudflaredEdge(_) => cloudflared::log_ended(self, ended),
        }
        core.connector.send(ConnectorEvent::Unlinked {
            core: core.core.id(),
            edge: self.address().clone(),
            link_index: self.index,
            why: ended,
        });
    }

    /// Waits before the next attempt.
    pub(super) async fn wait(&self, error: &ConnectError, backoff: &mut Backoff, ups_seen: u64) {
        let core = &self.core;
        Counters::add(&core.connector.counters.dials_failed);
        core.retry.log_error(self.edge, error);
        if error.needs_certificate() {
            // The next attempt waits for a new certificate.
            return;
        }
        let wait = core.retry.wait_after(error, backoff);
        if error.refusal().is_some() {
            return core.core.sleep(wait).await;
        }
        // When another link is established, this one may succeed too.
        let up = core.edges.up_since(self.edge, ups_seen);
        let _ = core.core.timeout(wait, up).await;
    }

    pub(super) async fn establish(&self) -> Result<Up, ConnectError> {
        let core = &self.core;
        let seen = core.edges.known_status(self.edge).await;
        let made = self.link().await;
        if made.as_ref().is_err_and(ConnectError::needs_certificate) {
            core.connector.invalidate_status(self.edge, seen);
        }
        made
    }

    async fn link(&self) -> Result<Up, ConnectError> {
        let core = &self.core;
        let settings = &core.connector.settings;
        if let Some(dialect) = &settings.cloudflared {
            return cloudflared::connect(self, dialect).await;
        }
        let config = settings.edge_tls.as_ref().and_then(|tls| tls.link(self.edge));
        self.link_over(dial_link(core, self.edge, config).await?).await
    }

    async fn link_over(&self, connection: LinkConnection) -> Result<Up, ConnectError> {
        let core = &self.core;
        let settings = &core.connector.settings;
        let hello = Hello {
            tunnel: settings.tunnel.clone(),
            secret: settings.secret.clone(),
            instance: core.connector.instance,
            software: settings.software.clone(),
            link_index: self.index,
        };
        let connection = Rc::new(connection);
        let link = Link::connector(&core.core, core.links.next_id(), settings.link, hello)?;
        link.set_hosts(&core.connector.hosts());
        let (running, carrier) = (link.clone(), Rc::clone(&connection));
        let run = core.core.spawn_held(async move {
            CarrierEnded::Link(match &*carrier {
                LinkConnection::Tcp(connection) => running.run(connection, None).await,
                LinkConnection::Quic(connection) => running.run_quic(connection, false).await,
            })
        });
        match link.welcomed().await {
            Ok(welcome) => Ok(Up { carrier: Carrier::Link(link), run, edge_cores: welcome.cores }),
            Err(error) => {
                // If this side ended the link, let it send the reason.
                run.await;
                // In TLS 1.3 this side completes the handshake before the edge checks the certificate, so a refusal
                // arrives only now.
                let refused = connection.tls_failure().and_then(|failure| OwnCertificate::of(&failure));
                Err(refused.map_or(error.into(), ConnectError::from))
            }
        }
    }

    pub(super) fn address(&self) -> &EdgeAddress {
        &self.core.connector.settings.edges[self.edge]
    }
}
