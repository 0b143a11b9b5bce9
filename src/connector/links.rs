//! Links: dialled, kept, dialled again.

use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;

use crate::base::Clock;
use crate::connector::here::Here;
use crate::connector::message::ConnectorEvent;
use crate::connector::settings::EdgeAddress;
use crate::connector::shared::Counters;
use crate::engine::driver::SocketOptions;
use crate::engine::{Socket, Task};
use crate::link::{Backoff, Ended, Link, LinkError};
use crate::tls::{Connection, HandshakeError, ServerName};
use crate::upstream::ResolveError;
use crate::wire::mux::{Fault, Hello, HelloError, Refusal, Welcome};

/// A link that lived for so long was a good one: the waits begin anew after it.
const STABLE_AFTER: Duration = Duration::from_secs(5);

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
enum NoLink {
    #[error(transparent)]
    Name(#[from] ResolveError),
    #[error("the edge {address} takes no connection ({reason}): check the address, and that `adit edge` runs there")]
    Connect { address: String, reason: String },
    #[error("'{0}' cannot stand in a certificate: set `edge_name` to the name that the edge's certificate bears")]
    BadName(Box<str>),
    #[error("no TLS with the edge: {0}")]
    Tls(#[from] HandshakeError),
    #[error("the edge did not take a connection within {} ms", .0.as_millis())]
    Timeout(Duration),
    #[error(transparent)]
    Hello(#[from] HelloError),
    #[error(transparent)]
    Link(#[from] LinkError),
}

impl NoLink {
    /// That the edge will not let this connector in, however often it asks.
    fn refusal(&self) -> Option<Refusal> {
        match self {
            NoLink::Link(LinkError::Refused {
                refusal: refusal @ (Refusal::Credentials | Refusal::Version | Refusal::Revoked),
                ..
            }) => Some(*refusal),
            _ => None,
        }
    }
}

/// A link that is up, and the task that runs it.
struct Up {
    link: Link,
    run: Task<Ended>,
    welcome: Welcome,
}

/// One of the links to one edge.
#[derive(Clone)]
struct Post {
    here: Rc<Here>,
    edge: usize,
    index: u16,
}

impl Here {
    /// Opens those links of this core that there should be and are not.
    pub(super) fn open_links(self: &Rc<Here>) {
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
        here.add_link(&link, self.edge, self.index);
        here.connector.on_linked(self.edge);
        here.connector.on_edge_cores(self.edge, welcome.cores);
        Counters::add(&here.connector.counters.links_up);
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
        Counters::add(&here.connector.counters.links_down);
        tracing::info!(edge = %self.address(), link = self.index, why = %ended.fault, by = ?ended.by, "link down");
        here.connector.tell(ConnectorEvent::Unlinked {
            core: here.core.id(),
            edge: self.address().clone(),
            link_index: self.index,
            why: ended.fault,
        });
    }

    /// Waits before the next try, and tells people what the matter is, once.
    async fn rest(&self, error: &NoLink, backoff: &mut Backoff, ups_seen: u64) {
        let here = &self.here;
        Counters::add(&here.connector.counters.dials_failed);
        let edge = self.address().clone();
        let news = here.connector.should_tell(self.edge, &error.to_string());
        if let Some(refusal) = error.refusal() {
            if news {
                tracing::error!(%edge, %error, "the edge does not let this connector in");
                here.connector.tell(ConnectorEvent::Refused { edge, refusal, why: error.to_string() });
            }
            // It may change its mind, but not soon.
            let max = here.connector.settings.backoff_max;
            let early = jitter(here, max / 4);
            return here.core.sleep(max.saturating_sub(early)).await;
        }
        if news {
            tracing::warn!(%edge, %error, "no link");
            here.connector.tell(ConnectorEvent::Failed { edge, why: error.to_string() });
        }
        let wait = backoff.next(&mut here.rng.borrow_mut());
        // Where another link came up, this one will too.
        let up = here.edge_up[self.edge].after(ups_seen);
        let _ = here.core.timeout(wait, up).await;
    }

    async fn establish(&self) -> Result<Up, NoLink> {
        let here = &self.here;
        let settings = &here.connector.settings;
        let hello = Hello {
            tunnel: settings.tunnel.clone(),
            secret: settings.secret.clone(),
            instance: here.connector.instance,
            software: settings.software.clone(),
            link_index: self.index,
        };
        let connection = here.core.timeout(settings.connect_timeout, self.dial()).await;
        let connection = connection.map_err(|_| NoLink::Timeout(settings.connect_timeout))??;
        let link = Link::connector(&here.core, here.next_link(), settings.link, hello)?;
        let running = link.clone();
        let run = here.core.spawn_held(async move { running.run(&connection, None).await });
        match link.welcomed().await {
            Ok(welcome) => Ok(Up { link, run, welcome }),
            Err(error) => {
                // Why it ends, if that is our affair, is still to be said.
                run.await;
                Err(error.into())
            }
        }
    }

    async fn dial(&self) -> Result<Connection, NoLink> {
        let EdgeAddress { host, port } = self.address();
        let addresses = self.here.resolver.resolve(host, *port).await?;
        let mut last = None;
        for address in addresses {
            match self.here.core.connect(&address.into(), SocketOptions::default()).await {
                Ok(socket) => return self.secure(socket).await,
                Err(error) => last = Some((address, error)),
            }
        }
        let (address, reason) = last.map_or_else(
            || (self.address().to_string(), String::from("no address")),
            |(address, error)| (address.to_string(), error.to_string()),
        );
        Err(NoLink::Connect { address, reason })
    }

    async fn secure(&self, socket: Socket) -> Result<Connection, NoLink> {
        let settings = &self.here.connector.settings;
        let Some(config) = &settings.edge_tls else { return Ok(Connection::plain(socket)) };
        let name = settings.edge_name.as_ref().unwrap_or(&self.address().host);
        let server = ServerName::try_from(name.to_string()).map_err(|_| NoLink::BadName(name.clone()))?;
        // The time for it is part of the time for dialling.
        Ok(Connection::client(socket, config, server, pending()).await?)
    }

    fn address(&self) -> &EdgeAddress {
        &self.here.connector.settings.edges[self.edge]
    }
}

/// A duration up to `most`.
fn jitter(here: &Here, most: Duration) -> Duration {
    let ns = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(here.rng.borrow_mut().between(0, ns))
}
