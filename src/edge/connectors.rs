//! Connections of connectors: who may come in, and the links that they become.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use futures_lite::future;

use crate::base::{Clock, CoreId, TunnelId};
use crate::edge::credential::Proof;
use crate::edge::edge_core::EdgeCore;
use crate::edge::enrol;
use crate::edge::gate::{self, Knock, Port, TurnedAway, Visitor};
use crate::edge::message::CoreMessage;
use crate::edge::no_link::NoLink;
use crate::edge::registration::{self, Denied};
use crate::edge::shared::{Counters, Edge};
use crate::engine::driver::SocketOptions;
use crate::engine::{ByteStream, Detached, Listener, leases_of};
use crate::link::Link;
use crate::tls::{ALPN_ENROL, Connection, DetachedConnection, HandshakeError, TlsError};
use crate::wire::Refusal;
use crate::wire::mux::{EdgeIdentity, Event, Hello, Mux};

/// Connectors of one core that have not said who they are yet.
const STRANGERS_MAX: usize = 1024;

/// Accepts connectors until it is dropped.
pub(super) async fn accept(here: Rc<EdgeCore>, listener: Listener) {
    let strangers = Rc::new(std::cell::Cell::new(0_usize));
    loop {
        match listener.accept().await {
            Ok(_) if strangers.get() >= STRANGERS_MAX => Counters::add(&here.edge.counters.links_refused),
            Ok((detached, peer)) => {
                let Some(knock) = gate::knock(&here, Port::Connectors, peer) else { continue };
                let (here, strangers) = (Rc::clone(&here), Rc::clone(&strangers));
                let core = here.core.clone();
                core.spawn(async move {
                    strangers.set(strangers.get() + 1);
                    let greeted = greet(&here, detached, knock).await;
                    strangers.set(strangers.get() - 1);
                    let served = match greeted {
                        Ok(Some((greeted, visitor))) => settle(&here, greeted, &visitor).await,
                        Ok(None) | Err(NoLink::Proxy(TurnedAway::Refused)) => Ok(()),
                        Err(error) => Err(error),
                    };
                    if let Err(error) = served {
                        tell_failed(&here, peer, &error);
                    }
                });
            }
            Err(error) => {
                Counters::add(&here.edge.counters.accepts_failed);
                tracing::warn!(%error, "accepting connectors");
            }
        }
    }
}

fn tell_failed(here: &EdgeCore, peer: Option<SocketAddr>, error: &NoLink) {
    if error.asks_to_enrol() && here.edge.settings.certifier.is_none() {
        tracing::debug!(?peer, "a connector asked for a certificate; this edge has no authority");
        return;
    }
    let counters = &here.edge.counters;
    Counters::add(&counters.handshakes_failed);
    if matches!(error, NoLink::Handshake(HandshakeError::Tls(TlsError::Crowded))) {
        Counters::add(&counters.greetings_refused);
    }
    if error.is_of_certificate() {
        Counters::add(&counters.certificates_refused);
    }
    tracing::info!(?peer, %error, "a connector's connection became no link");
}

/// Takes in a link that another core accepted.
pub(super) fn adopt(here: &Rc<EdgeCore>, (detached, booking): (DetachedConnection, Booking)) {
    let here = Rc::clone(here);
    let core = here.core.clone();
    core.spawn(async move {
        let greeted = async {
            let (connection, first) = Connection::adopt(&here.core, detached, SocketOptions::default()).await?;
            read_hello(&here, connection, first.map(|lease| lease.to_vec()).unwrap_or_default()).await
        };
        let served = match greeted.await {
            Ok(greeted) => serve(&here, greeted, booking).await,
            Err(error) => Err(error),
        };
        if let Err(error) = served {
            tracing::info!(%error, "a connector's connection became no link after it was handed over");
        }
    });
}

/// A connection whose connector has said who it is, and the bytes in which it did.
struct Greeted {
    connection: Connection,
    hello: Box<Hello>,
    bytes: Vec<u8>,
}

/// Makes the handshake and hears who it is; none when the connection was for an enrolment, which is then done.
async fn greet(here: &Rc<EdgeCore>, detached: Detached, knock: Knock) -> Result<Option<(Greeted, Visitor)>, NoLink> {
    let settings = &here.edge.settings;
    let socket = here.core.adopt(detached, SocketOptions::default()).await?;
    let (mut visitor, first) = gate::introduce(here, Port::Connectors, knock, &socket).await?;
    let (connection, read) = match here.edge.connectors_tls() {
        None => (Connection::plain(socket), first.map(|lease| lease.to_vec()).unwrap_or_default()),
        Some(config) => {
            let timeout = here.core.sleep(settings.handshake_timeout);
            (Connection::server(socket, &config, first, Some(here.greetings.share()), timeout).await?, Vec::new())
        }
    };
    if let Some(certifier) = settings.certifier.as_ref().filter(|_| connection.speaks(ALPN_ENROL)) {
        return enrol::serve(here, certifier, connection, &visitor).await.map(|()| None);
    }
    let hello = read_hello(here, connection, read);
    let greeted = here.core.timeout(settings.handshake_timeout, hello).await.map_err(|_| NoLink::Timeout)??;
    // No stranger any more, or soon gone.
    visitor.place = None;
    Ok(Some((greeted, visitor)))
}

/// Reads as far as the connector's HELLO. The bytes are kept: the link, here or on another core, reads them again.
async fn read_hello(here: &EdgeCore, connection: Connection, mut bytes: Vec<u8>) -> Result<Greeted, NoLink> {
    let now = here.core.now();
    let mut probe: Mux<Vec<u8>> = Mux::edge(now, here.edge.settings.link);
    let mut fresh = bytes.clone();
    loop {
        probe.receive(now, fresh);
        match probe.poll_event() {
            Some(Event::Hello(hello)) => return Ok(Greeted { connection, hello, bytes }),
            Some(Event::Closed { fault, .. }) => return Err(NoLink::Greeting(fault)),
            _ => {}
        }
        let Some(lease) = connection.recv().await? else { return Err(NoLink::Silent) };
        fresh = lease.to_vec();
        bytes.extend_from_slice(&fresh);
    }
}

/// Finds the core on which the link should be, and brings it there.
async fn settle(here: &Rc<EdgeCore>, greeted: Greeted, visitor: &Visitor) -> Result<(), NoLink> {
    let hello = &greeted.hello;
    let certificate = greeted.connection.peer_certificate();
    let proof = match registration::check(here, hello, certificate.as_ref(), visitor) {
        Ok(proof) => proof,
        Err(denied) => return refuse(here, greeted, &denied, visitor).await,
    };
    let Some(booking) = Booking::make(here, &hello.tunnel, hello.instance, proof) else {
        Counters::add(&here.edge.counters.links_limited);
        let reason = "the tunnel has as many links as it may have: stop a connector, or raise links_per_tunnel_max";
        let denied = Denied::new(Refusal::Overloaded, reason).of(&hello.tunnel);
        return refuse(here, greeted, &denied, visitor).await;
    };
    let core = booking.core;
    if core == here.core.id() {
        return serve(here, greeted, booking).await;
    }
    let detached = greeted.connection.detach(greeted.bytes).await?;
    Counters::add(&here.edge.counters.handed_over);
    if here.edge.send_to(core, CoreMessage::Link(Box::new((detached, booking)))).is_err() {
        tracing::warn!(%core, "a link was dropped: the core that it belongs on takes no more");
    }
    Ok(())
}

/// Runs the link until it ends.
async fn serve(here: &Rc<EdgeCore>, greeted: Greeted, booking: Booking) -> Result<(), NoLink> {
    let Greeted { connection, hello, bytes } = greeted;
    let link = Link::edge(&here.core, here.next_link(), here.edge.settings.link);
    let first = leases_of(here.core.pool(), &bytes).await;
    let running = link.clone();
    let run = here.core.spawn_held(async move { running.run(&connection, first).await });
    link.hello().await?;
    let cores = u16::try_from(here.edge.core_count()).unwrap_or(u16::MAX);
    link.welcome(EdgeIdentity { instance: here.edge.instance, core: here.core.id(), cores });
    here.add_link(&hello.tunnel, &link, &hello.software, &booking.proof);
    tracing::info!(tunnel = %hello.tunnel, link = %link.id(), core = %here.core.id(), "link up");
    if here.is_draining() {
        link.drain();
    }
    // The tables may have changed since the connector was let in, and a review not have seen this link yet.
    let standing = here.tables().standing(&hello.tunnel, &booking.proof, here.core.now());
    here.withdraw(&link, standing);
    link.draining().await;
    here.idle_sessions.close_link(link.id());
    here.edge.set_usable(&hello.tunnel, here.core.id(), false);
    here.link_news.raise();
    let ended = run.await;
    here.remove_link(&hello.tunnel, &link);
    Counters::add(&here.edge.counters.links_ended);
    tracing::info!(tunnel = %hello.tunnel, link = %link.id(), why = %ended.fault, by = ?ended.by, "link down");
    drop(booking);
    Ok(())
}

/// Tells a connector that it is not let in.
async fn refuse(here: &Rc<EdgeCore>, greeted: Greeted, denied: &Denied, visitor: &Visitor) -> Result<(), NoLink> {
    let Greeted { connection, bytes, .. } = greeted;
    Counters::add(&here.edge.counters.links_refused);
    denied.note(here, visitor);
    let link = Link::edge(&here.core, here.next_link(), here.edge.settings.link);
    let first = leases_of(here.core.pool(), &bytes).await;
    let say = async {
        link.hello().await?;
        link.refuse(denied.refusal, &denied.reason);
        std::future::pending::<Result<(), NoLink>>().await
    };
    let run = async {
        link.run(&connection, first).await;
        Ok(())
    };
    future::or(run, say).await?;
    connection.close_gracefully(here.edge.settings.handshake_timeout).await;
    Ok(())
}

/// A link's place on a core, and what it came in with. The place is given back when this is dropped.
pub(super) struct Booking {
    edge: Arc<Edge>,
    tunnel: TunnelId,
    connector: u64,
    core: CoreId,
    proof: Proof,
}

impl Booking {
    /// None when the tunnel has as many links as it may have.
    fn make(here: &EdgeCore, tunnel: &TunnelId, connector: u64, proof: Proof) -> Option<Booking> {
        let max = here.tables().admission.links_per_tunnel;
        let core = here.edge.place_link(tunnel, connector, here.core.id(), max)?;
        Some(Booking { edge: Arc::clone(&here.edge), tunnel: tunnel.clone(), connector, core, proof })
    }
}

impl Drop for Booking {
    fn drop(&mut self) {
        self.edge.unplace_link(&self.tunnel, self.connector, self.core);
    }
}
