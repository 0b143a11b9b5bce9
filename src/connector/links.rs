//! Links: dialled, kept, dialled again.

use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;

use crate::base::Clock;
use crate::connector::connector_core::ConnectorCore;
use crate::connector::message::ConnectorEvent;
use crate::connector::no_link::{NoLink, OwnCertificate};
use crate::connector::settings::EdgeAddress;
use crate::connector::shared::Counters;
use crate::engine::Task;
use crate::link::{Backoff, Ended, Link};
use crate::wire::mux::{Fault, Hello, Welcome};

/// A link that lived for so long was a good one: the waits begin anew after it.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// What this connector is not let in for is not asked for again sooner, however short the waits are set.
const REFUSED_WAIT_MIN: Duration = Duration::from_secs(5);

/// A link that is up, and the task that runs it.
struct Up {
    link: Link,
    run: Task<Ended>,
    welcome: Welcome,
}

/// One of the links to one edge.
#[derive(Clone)]
struct Post {
    here: Rc<ConnectorCore>,
    edge: usize,
    index: u16,
}

impl ConnectorCore {
    /// Opens those links of this core that there should be and are not.
    pub(super) fn open_links(self: &Rc<ConnectorCore>) {
        let cores = self.connector.core_count().max(1);
        for (edge, opened) in self.links_opened.borrow_mut().iter_mut().enumerate() {
            let wanted = self.connector.links_wanted(edge);
            for index in *opened..wanted {
                if usize::from(index) % cores == usize::from(self.core.id().0) {
                    let post = Post { here: Rc::clone(self), edge, index };
                    self.core.spawn(async move { post.keep().await });
                }
            }
            *opened = wanted.max(*opened);
        }
    }
}

impl Post {
    /// Keeps the link up until the core is told to end.
    async fn keep(&self) {
        let settings = &self.here.connector.settings;
        let mut backoff = Backoff::new(settings.backoff_min, settings.backoff_max);
        let keeping = async {
            loop {
                let ups_seen = self.here.edge_up[self.edge].count();
                match self.establish().await {
                    Ok(up) => self.stay(up, &mut backoff).await,
                    Err(error) => self.rest(&error, &mut backoff, ups_seen).await,
                }
            }
        };
        // Once the core is to end no link is dialled any more; one that is up finishes on its own.
        future::or(self.here.drain.after(0), keeping).await;
    }

    /// Has the link served, and returns when another one is to take its place.
    async fn stay(&self, up: Up, backoff: &mut Backoff) {
        let here = &self.here;
        let Up { link, run, welcome } = up;
        here.add_link(&link, self.edge);
        here.connector.on_linked(self.edge);
        here.connector.on_edge_cores(self.edge, welcome.cores);
        Counters::add(&here.connector.counters.links_made);
        here.connector.tell(ConnectorEvent::Linked {
            core: here.core.id(),
            edge: self.address().clone(),
            link_index: self.index,
        });
        tracing::info!(edge = %self.address(), link = self.index, core = %here.core.id(), "link up");
        let (post, served) = (self.clone(), link.clone());
        here.core.spawn(async move { post.serve(served, run).await });
        let began = here.core.now();
        link.draining().await;
        let stable = here.core.now() - began >= STABLE_AFTER;
        if stable {
            backoff.reset();
        }
        // An edge that is about to end wants another link made at once; a lost one may be lost to many connectors.
        if link.ended().is_some() || !stable {
            let wait = backoff.next(&mut here.rng.borrow_mut());
            here.core.sleep(wait).await;
        }
    }

    /// Takes calls off the link until it has ended.
    async fn serve(&self, link: Link, run: Task<Ended>) {
        let here = &self.here;
        let taking = async {
            while let Some(stream) = link.accept().await {
                here.carry(stream);
            }
        };
        let draining = async {
            link.draining().await;
            link.drained().await;
            link.close(Fault::Ended);
            pending().await
        };
        future::or(taking, draining).await;
        let ended = run.await;
        here.remove_link(&link);
        Counters::add(&here.connector.counters.links_ended);
        tracing::info!(edge = %self.address(), link = self.index, why = %ended.fault, by = ?ended.by, "link down");
        here.connector.tell(ConnectorEvent::Unlinked {
            core: here.core.id(),
            edge: self.address().clone(),
            link_index: self.index,
            why: ended.fault,
        });
    }

    /// Waits before the next try.
    async fn rest(&self, error: &NoLink, backoff: &mut Backoff, ups_seen: u64) {
        let here = &self.here;
        Counters::add(&here.connector.counters.dials_failed);
        here.tell_trouble(self.edge, error);
        if error.doubts_certificate() {
            // The next try waits for another certificate.
            return;
        }
        let wait = here.wait_after(error, backoff);
        if error.refusal().is_some() {
            return here.core.sleep(wait).await;
        }
        // Where another link came up, this one will too.
        let up = here.edge_up[self.edge].after(ups_seen);
        let _ = here.core.timeout(wait, up).await;
    }

    async fn establish(&self) -> Result<Up, NoLink> {
        let here = &self.here;
        let seen = here.known_standing(self.edge).await;
        let made = self.link().await;
        if made.as_ref().is_err_and(NoLink::doubts_certificate) {
            here.connector.doubt_standing(self.edge, seen);
        }
        made
    }

    async fn link(&self) -> Result<Up, NoLink> {
        let here = &self.here;
        let settings = &here.connector.settings;
        let hello = Hello {
            tunnel: settings.tunnel.clone(),
            secret: settings.secret.clone(),
            instance: here.connector.instance,
            software: settings.software.clone(),
            link_index: self.index,
        };
        let config = settings.edge_tls.as_ref().and_then(|tls| tls.link(self.edge));
        let connection = here.core.timeout(settings.connect_timeout, here.dial(self.edge, config)).await;
        let connection = connection.map_err(|_| NoLink::Timeout(settings.connect_timeout))??;
        let link = Link::connector(&here.core, here.next_link(), settings.link, hello)?;
        let connection = Rc::new(connection);
        let (running, carrier) = (link.clone(), Rc::clone(&connection));
        let run = here.core.spawn_held(async move { running.run(&*carrier, None).await });
        match link.welcomed().await {
            Ok(welcome) => Ok(Up { link, run, welcome }),
            Err(error) => {
                // Why it ends, if that is our affair, is still to be said.
                run.await;
                // Whether the edge takes our certificate is heard only now: TLS 1.3 is done on this side before it looks.
                let refused = connection.tls_failure().and_then(|failure| OwnCertificate::of(&failure));
                Err(refused.map_or(error.into(), NoLink::from))
            }
        }
    }

    fn address(&self) -> &EdgeAddress {
        &self.here.connector.settings.edges[self.edge]
    }
}

impl ConnectorCore {
    /// Tells people what the matter with an edge is, once.
    pub(super) fn tell_trouble(&self, edge: usize, error: &NoLink) {
        if !self.connector.should_tell(edge, error.gist(), error.to_string()) {
            return;
        }
        let edge = self.connector.settings.edges[edge].clone();
        if let Some(refusal) = error.refusal() {
            tracing::error!(%edge, %error, "the edge does not let this connector in");
            self.connector.tell(ConnectorEvent::Refused { edge, refusal, why: error.to_string() });
        } else {
            tracing::warn!(%edge, %error, "no link");
            self.connector.tell(ConnectorEvent::Failed { edge, why: error.to_string() });
        }
    }

    /// How long to wait before the next try.
    pub(super) fn wait_after(&self, error: &NoLink, backoff: &mut Backoff) -> Duration {
        let mut rng = self.rng.borrow_mut();
        if error.refusal().is_some() {
            // It may change its mind, but not soon.
            let max = self.connector.settings.backoff_max.max(REFUSED_WAIT_MIN);
            let early_ns = u64::try_from((max / 4).as_nanos()).unwrap_or(u64::MAX);
            return max.saturating_sub(Duration::from_nanos(rng.between(0, early_ns)));
        }
        backoff.next(&mut rng) + error.retry_after()
    }
}
