//! Connectors over QUIC: accepted, registered, and run as links. They follow the same rules as those over TCP.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use futures_lite::future;

use crate::base::Clock;
use crate::edge::certify::Certifier;
use crate::edge::connectors::{self, log_failed, refuse_overloaded, serve_carrier};
use crate::edge::edge_core::EdgeCore;
use crate::edge::enrol;
use crate::edge::gate::{PeerInfo, Port};
use crate::edge::link_setup_error::LinkSetupError;
use crate::edge::message::CoreMessage;
use crate::edge::registration::{Denied, Registered};
use crate::edge::shared::Counters;
use crate::engine::ByteStream;
use crate::link::{Carrier, CarrierEnded, Link};
use crate::quic::{QuicConnection, QuicEndpoint, QuicRoles, QuicStreams};
use crate::tls::{ALPN_ENROL, ALPN_LINK};
use crate::wire::mux::EdgeIdentity;
use crate::wire::quic::{QuicSettings, StrangerOutcome};

/// Opens the core's socket for QUIC, at the port at which connectors connect over TCP; `None` if the edge serves no QUIC.
pub(super) fn open(core: &Rc<EdgeCore>) -> Result<Option<QuicEndpoint>, String> {
    let settings = &core.edge.settings;
    let Some(keys) = &settings.quic else { return Ok(None) };
    let gate = Rc::downgrade(core);
    let [tls, counting, mailboxes] = [(); 3].map(|()| Arc::clone(&core.edge));
    let roles = QuicRoles {
        admits: Box::new(move |peer| gate.upgrade().is_some_and(|core| admit(&core, peer).is_some())),
        server_tls: Box::new(move || tls.connectors_tls()),
        on_stranger: Box::new(move |outcome| match outcome {
            StrangerOutcome::Refused => Counters::add(&counting.counters.quic_refused),
            StrangerOutcome::Retried => Counters::add(&counting.counters.quic_retried),
        }),
        // A core that is too busy for a datagram loses it, as the network may.
        elsewhere: Some(Box::new(move |core, datagram| {
            drop(mailboxes.send_to(core, CoreMessage::Datagram(Box::new(datagram))));
        })),
    };
    let limits = QuicSettings { streams_max: settings.link.streams_max, ..QuicSettings::default() };
    let address = settings.connectors_listen;
    let endpoint = QuicEndpoint::bind(&core.core, address, limits, keys, roles);
    endpoint.map(Some).map_err(|error| {
        format!("cannot listen for connectors over QUIC at {address}: {error}; free the UDP port, or set `edge.quic = false`")
    })
}

/// Accepts connectors until it is dropped.
pub(super) async fn accept(core: Rc<EdgeCore>, endpoint: QuicEndpoint) {
    let accepting = async {
        loop {
            let connection = endpoint.accept().await;
            // The peer's address may have changed during the handshake.
            let Some(address) = connection.peer() else { continue };
            let Some(peer) = admit(&core, address).filter(|_| !connectors::is_crowded(&core)) else { continue };
            let core = Rc::clone(&core);
            core.core.clone().spawn(async move {
                if let Err(error) = set_up(&core, connection, peer).await {
                    log_failed(&core, Some(address), &error);
                }
            });
        }
    };
    future::or(endpoint.clone().run(), accepting).await;
}

/// The peer, if it may connect. A proxy cannot name the address behind a datagram, so that none is admitted in its place.
fn admit(core: &EdgeCore, peer: SocketAddr) -> Option<PeerInfo> {
    core.gate.admit_directly(Port::Connectors, peer)
}

/// Registers a connector and runs its link until it ends.
async fn set_up(core: &Rc<EdgeCore>, connection: QuicConnection, mut peer: PeerInfo) -> Result<(), LinkSetupError> {
    if let Some(certifier) = core.edge.settings.certifier.as_ref().filter(|_| connection.speaks(ALPN_ENROL)) {
        return certify(core, certifier, connection, &peer).await;
    }
    if !connection.speaks(ALPN_LINK) {
        return Err(LinkSetupError::Silent);
    }
    let timeout = core.edge.settings.handshake_timeout;
    let link = Link::edge(&core.core, core.links.next_id(), core.edge.settings.link);
    let connection = Rc::new(connection);
    let (running, carried) = (link.clone(), Rc::clone(&connection));
    let run = core.core.spawn_held(async move { running.run_quic(&carried, true).await });
    core.unregistered.set(core.unregistered.get() + 1);
    let hello = core.core.timeout(timeout, link.hello()).await;
    core.unregistered.set(core.unregistered.get() - 1);
    let hello = hello.map_err(|_| LinkSetupError::Timeout)??;
    // From here on it is registered or refused, and no longer counts as unregistered.
    peer.permit = None;
    let certificate = connection.peer_certificate();
    drop(connection);
    let registered = connectors::check(core, &hello, certificate.as_ref(), &peer).and_then(|proof| {
        let max = core.edge.tables().admission.links_per_tunnel;
        // A connection stays on its core: its socket is there.
        let booked = core.edge.presence.book_on(&hello.tunnel, hello.instance, core.core.id(), max);
        booked.map(|booking| (proof, booking)).ok_or_else(|| refuse_overloaded(core, &hello))
    });
    let (proof, booking) = match registered {
        Ok(registered) => registered,
        Err(denied) => {
            refuse(core, &link, &denied, &peer);
            run.await;
            return Ok(());
        }
    };
    let cores = u16::try_from(core.edge.core_count()).unwrap_or(u16::MAX);
    link.welcome(EdgeIdentity { instance: core.edge.instance, core: core.core.id(), cores });
    let ended = async { CarrierEnded::Link(run.await) };
    let registered = Registered {
        tunnel: &hello.tunnel,
        instance: hello.instance,
        index: hello.link_index,
        software: &hello.software,
        proof: &proof,
    };
    serve_carrier(core, &Carrier::Link(link), &registered, ended).await;
    drop(booking);
    Ok(())
}

/// Serves an enrolment, which is one stream.
async fn certify(
    core: &Rc<EdgeCore>,
    certifier: &Certifier,
    connection: QuicConnection,
    peer: &PeerInfo,
) -> Result<(), LinkSetupError> {
    let timeout = core.edge.settings.handshake_timeout;
    let streams = QuicStreams::new(&core.core, Rc::new(connection));
    let serving = async {
        let stream = core.core.timeout(timeout, streams.accept()).await.map_err(|_| LinkSetupError::Timeout)?;
        let stream = stream.ok_or(LinkSetupError::Silent)?;
        enrol::serve(core, certifier, &stream, peer).await?;
        stream.finish();
        let delivered = core.core.timeout(timeout, stream.delivered()).await;
        Ok(delivered.map_err(|_| LinkSetupError::Timeout)??)
    };
    let running = async {
        streams.run().await;
        // A connector that has its answer may close the connection before it acknowledges the end.
        Ok(())
    };
    future::or(serving, running).await
}

fn refuse(core: &EdgeCore, link: &Link, denied: &Denied, peer: &PeerInfo) {
    Counters::add(&core.edge.counters.links_refused);
    denied.record(&core.edge, &core.gate, peer, core.core.now());
    link.refuse(denied.refusal, &denied.reason);
}
