//! Connections of connectors: accepted, registered, and run as links.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use futures_lite::future;
use rustls_pki_types::CertificateDer;

use crate::base::{Clock, CoreId};
use crate::edge::credential::Proof;
use crate::edge::edge_core::EdgeCore;
use crate::edge::enrol;
use crate::edge::gate::{AdmissionError, PeerInfo, Port};
use crate::edge::link_setup_error::LinkSetupError;
use crate::edge::message::{CoreMessage, RegisteredLink, ReplacedLink};
use crate::edge::presence::Booking;
use crate::edge::registration::{self, Claim, ClientCertificate, Denied, Registered};
use crate::edge::shared::{Counters, StrangerTrouble};
use crate::engine::driver::SocketOptions;
use crate::engine::{ByteStream, Lease, Listener, LocalServer, Socket, leases_of};
use crate::link::{Carrier, CarrierEnded, Link};
use crate::policy::LeftOut;
use crate::tls::{ALPN_ENROL, Connection, HandshakeError, TlsError};
use crate::wire::RegistrationRefusal;
use crate::wire::mux::{EdgeIdentity, Event, Hello, Mux};

/// The most connections of one core whose connector is not registered yet.
const UNREGISTERED_MAX: usize = 1024;

/// The protocol of a connector's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    /// A link, as [`crate::wire::mux`] defines it. Also if ALPN selected nothing, because plain links have no TLS.
    Link,
    /// An enrolment, as [`crate::wire::enrol`] defines it.
    Enrolment,
}

impl Protocol {
    fn of(connection: &Connection) -> Protocol {
        connection.with_alpn(|alpn| match alpn {
            Some(ALPN_ENROL) => Protocol::Enrolment,
            _ => Protocol::Link,
        })
    }
}

/// Accepts connectors until it is dropped.
pub(super) async fn accept(core: Rc<EdgeCore>, listener: Listener) {
    loop {
        match listener.accept().await {
            Ok(_) if is_crowded(&core) => {}
            Ok((detached, peer)) => {
                let Some(pre_accept) = core.gate.pre_accept(Port::Connectors, peer) else { continue };
                let task_core = Rc::clone(&core);
                core.core.spawn(async move {
                    let core = &task_core;
                    let opening = async {
                        let socket = core.core.adopt(detached, SocketOptions::default()).await?;
                        let (peer, first) = core.gate.accept(Port::Connectors, pre_accept, &socket).await?;
                        Ok((socket, peer, first.into_iter().collect()))
                    };
                    set_up(core, peer, LinkCore::Fewest, opening).await;
                });
            }
            Err(error) => {
                Counters::add(&core.edge.counters.accepts_failed);
                tracing::warn!(%error, "cannot accept a connector's connection");
            }
        }
    }
}

/// Accepts the connector of this process until it is dropped.
pub(super) async fn accept_local(core: Rc<EdgeCore>, mut server: LocalServer) {
    let peer = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    while let Some(socket) = server.accept().await {
        let Some(admitted) = core.gate.admit_directly(Port::Connectors, peer) else { continue };
        let task_core = Rc::clone(&core);
        core.core.spawn(async move {
            let opening = std::future::ready(Ok((socket, admitted, Vec::new())));
            set_up(&task_core, Some(peer), LinkCore::Own, opening).await;
        });
    }
}

/// Accepts a connector that connected to the agents' port, with the bytes that were read.
pub(super) fn take_in(core: &Rc<EdgeCore>, socket: Socket, first: Vec<Lease>, peer: PeerInfo) {
    if is_crowded(core) {
        return;
    }
    let task_core = Rc::clone(core);
    core.core.spawn(async move {
        let address = peer.peer;
        set_up(&task_core, address, LinkCore::Fewest, std::future::ready(Ok((socket, peer, first)))).await;
    });
}

/// Whether no further connector is accepted. If so, counts a refused connector.
pub(super) fn is_crowded(core: &EdgeCore) -> bool {
    let is_crowded = core.unregistered.get() >= UNREGISTERED_MAX;
    if is_crowded {
        Counters::add(&core.edge.counters.links_refused);
    }
    is_crowded
}

/// The core on which a link will run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinkCore {
    /// The core with the fewest links of the connector.
    Fewest,
    /// The core that accepted it: a connection within the process cannot move.
    Own,
}

/// An admitted connection of a connector, its peer, and the bytes that were read.
type Opening = (Socket, PeerInfo, Vec<Lease>);

/// Registers a connector and runs its link until it ends; `address` is for the log.
async fn set_up(
    core: &Rc<EdgeCore>,
    address: Option<SocketAddr>,
    place: LinkCore,
    opening: impl Future<Output = Result<Opening, LinkSetupError>>,
) {
    core.unregistered.set(core.unregistered.get() + 1);
    let greeted = async { greet(core, opening.await?).await };
    let greeted = greeted.await;
    core.unregistered.set(core.unregistered.get() - 1);
    let served = match greeted {
        Ok(Some((greeted, peer))) => register(core, greeted, &peer, place).await,
        Ok(None) | Err(LinkSetupError::Proxy(AdmissionError::Refused)) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        log_failed(core, address, &error);
    }
}

pub(super) fn log_failed(core: &EdgeCore, peer: Option<SocketAddr>, error: &LinkSetupError) {
    let edge = &core.edge;
    if error.asks_to_enrol() && edge.settings.certifier.is_none() {
        tracing::debug!(?peer, "a connector asked for a certificate; this edge has no authority");
        return;
    }
    let counters = &edge.counters;
    Counters::add(&counters.handshakes_failed);
    if matches!(error, LinkSetupError::Handshake(HandshakeError::Tls(TlsError::Crowded))) {
        Counters::add(&counters.greetings_refused);
    }
    if error.is_of_certificate() {
        Counters::add(&counters.certificates_refused);
    }
    if let Some(left_out) =
        edge.stranger_line(peer.map(|peer| peer.ip()), StrangerTrouble::Setup(error.kind()), core.core.now())
    {
        let LeftOut { same, others } = left_out;
        tracing::info!(?peer, %error, same, others, "link setup failed");
    }
}

/// Takes over a link that another core accepted and registered.
pub(super) fn adopt(core: &Rc<EdgeCore>, registered: RegisteredLink) {
    let task_core = Rc::clone(core);
    core.core.spawn(async move {
        if let Err(error) = serve_adopted(&task_core, registered).await {
            tracing::info!(%error, "link setup failed after the hand-over to another core");
        }
    });
}

async fn serve_adopted(core: &Rc<EdgeCore>, registered: RegisteredLink) -> Result<(), LinkSetupError> {
    let RegisteredLink { connection, hello, booking, proof } = registered;
    let (connection, first) = Connection::adopt(&core.core, connection, SocketOptions::default()).await?;
    serve(core, connection, first, &hello, booking, &proof).await
}

/// A connection, the connector's greeting, and the bytes of that greeting.
struct Greeted {
    connection: Connection,
    hello: Box<Hello>,
    bytes: Vec<u8>,
}

/// Makes the TLS handshake and reads the connector's greeting, by the protocol that ALPN selected. None if the
/// connection was an enrolment, which is then complete.
async fn greet(
    core: &Rc<EdgeCore>,
    (socket, mut peer, first): Opening,
) -> Result<Option<(Greeted, PeerInfo)>, LinkSetupError> {
    let settings = &core.edge.settings;
    let (connection, read) = match core.edge.connectors_tls() {
        None => (Connection::plain(socket), first.iter().flat_map(|lease| lease.to_vec()).collect()),
        Some(config) => {
            let timeout = core.core.sleep(settings.handshake_timeout);
            (Connection::server(socket, &config, first, Some(core.greetings.share()), timeout).await?, Vec::new())
        }
    };
    match (Protocol::of(&connection), &settings.certifier) {
        (Protocol::Enrolment, Some(certifier)) => {
            enrol::serve(core, certifier, &connection, &peer).await?;
            connection.close_gracefully(settings.handshake_timeout).await;
            Ok(None)
        }
        (Protocol::Link | Protocol::Enrolment, _) => {
            let hello = read_hello(core, connection, read);
            let greeted = core.core.timeout(settings.handshake_timeout, hello).await;
            let greeted = greeted.map_err(|_| LinkSetupError::Timeout)??;
            // From here on it is registered or refused, and no longer counts as unregistered.
            peer.permit = None;
            Ok(Some((greeted, peer)))
        }
    }
}

/// Reads the connector's HELLO. The bytes are kept, because the link parses them again, on this core or another.
async fn read_hello(core: &EdgeCore, connection: Connection, mut bytes: Vec<u8>) -> Result<Greeted, LinkSetupError> {
    let now = core.core.now();
    let mut probe: Mux<Vec<u8>> = Mux::edge(now, core.edge.settings.link);
    let mut fresh = bytes.clone();
    loop {
        probe.receive(now, fresh);
        match probe.poll_event() {
            Some(Event::Hello(hello)) => return Ok(Greeted { connection, hello, bytes }),
            Some(Event::Closed { fault, .. }) => return Err(LinkSetupError::Greeting(fault)),
            _ => {}
        }
        let Some(lease) = connection.recv().await? else { return Err(LinkSetupError::Silent) };
        fresh = lease.to_vec();
        bytes.extend_from_slice(&fresh);
    }
}

/// Registers a connector's link and hands it over to the core on which it will run.
async fn register(
    core: &Rc<EdgeCore>,
    greeted: Greeted,
    peer: &PeerInfo,
    place: LinkCore,
) -> Result<(), LinkSetupError> {
    let hello = &greeted.hello;
    let proof = match check(core, hello, greeted.connection.peer_certificate().as_ref(), peer) {
        Ok(proof) => proof,
        Err(denied) => return refuse(core, greeted, &denied, peer).await,
    };
    let max = core.edge.tables().admission.links_per_tunnel;
    let (presence, own) = (&core.edge.presence, core.core.id());
    let booked = match place {
        LinkCore::Fewest => presence.book(&hello.tunnel, hello.instance, own, max),
        LinkCore::Own => presence.book_on(&hello.tunnel, hello.instance, own, max),
    };
    let Some(booking) = booked else {
        let denied = refuse_overloaded(core, hello);
        return refuse(core, greeted, &denied, peer).await;
    };
    let target = booking.core();
    let Greeted { connection, hello, bytes } = greeted;
    if target == core.core.id() {
        let first = leases_of(core.core.pool(), &bytes).await;
        return serve(core, connection, first, &hello, booking, &proof).await;
    }
    let connection = connection.detach(bytes).await?;
    Counters::add(&core.edge.counters.handed_over);
    let registered = RegisteredLink { connection, hello, booking, proof };
    if core.edge.send_to(target, CoreMessage::Link(Box::new(registered))).is_err() {
        tracing::warn!(core = %target, "link dropped: the mailbox of its core is full");
    }
    Ok(())
}

/// Checks the registration of a connector that has sent HELLO.
pub(super) fn check(
    core: &EdgeCore,
    hello: &Hello,
    certificate: Option<&CertificateDer<'_>>,
    peer: &PeerInfo,
) -> Result<Proof, Denied> {
    let certificate = match core.edge.settings.certifier {
        Some(_) => ClientCertificate::Required(certificate),
        None => ClientCertificate::NotRequired,
    };
    let claim = Claim { tunnel: &hello.tunnel, secret: &hello.secret, from: registration::address_of(peer) };
    registration::check(&core.edge.tables(), &claim, &certificate, core.core.now())
}

/// The refusal of a link for which the tunnel has no place; it is counted.
pub(super) fn refuse_overloaded(core: &EdgeCore, hello: &Hello) -> Denied {
    Counters::add(&core.edge.counters.links_limited);
    let reason = "the tunnel has its maximum number of links: stop a connector, or raise links_per_tunnel_max";
    Denied::new(RegistrationRefusal::Overloaded, reason).of(&hello.tunnel)
}

/// Runs a link until it ends. `first` are the bytes that were already read.
async fn serve(
    core: &Rc<EdgeCore>,
    connection: Connection,
    first: impl IntoIterator<Item = Lease> + 'static,
    hello: &Hello,
    booking: Booking,
    proof: &Proof,
) -> Result<(), LinkSetupError> {
    let link = Link::edge(&core.core, core.links.next_id(), core.edge.settings.link);
    let running = link.clone();
    let run = core.core.spawn_held(async move { running.run(&connection, first).await });
    link.hello().await?;
    let cores = u16::try_from(core.edge.core_count()).unwrap_or(u16::MAX);
    link.welcome(EdgeIdentity { instance: core.edge.instance, core: core.core.id(), cores });
    let ended = async { CarrierEnded::Link(run.await) };
    let Hello { tunnel, instance, software, link_index, .. } = hello;
    let registered = Registered { tunnel, instance: *instance, index: *link_index, software, proof };
    serve_carrier(core, &Carrier::Link(link), &registered, ended).await;
    drop(booking);
    Ok(())
}

/// Serves calls over a registered carrier of any protocol until it has ended.
pub(super) async fn serve_carrier(
    core: &EdgeCore,
    carrier: &Carrier,
    registered: &Registered<'_>,
    ended: impl Future<Output = CarrierEnded>,
) {
    let Registered { tunnel, instance, proof, .. } = *registered;
    core.links.add(registered, carrier);
    replace_others(core, registered, carrier);
    carrier.set_hosts(&core.edge.tables().hosts_of(tunnel));
    core.links.send_service(&core.edge.tables(), tunnel, carrier);
    tracing::info!(%tunnel, link = %carrier.id(), core = %core.core.id(), "link up");
    if core.is_draining() {
        carrier.drain();
    }
    // The tables may have changed since the registration, and the review after that change did not see this link.
    let status = core.edge.tables().status(tunnel, proof, core.core.now());
    core.links.enforce(carrier, status);
    let hearing = async {
        let mut heard = 0;
        loop {
            heard = carrier.peer_hosts_after(heard).await;
            core.links.on_hosts(tunnel, instance, carrier);
            core.review_hosts_soon(tunnel);
        }
    };
    let relieving = core.links.relieve_stalls(tunnel, carrier);
    future::or(future::or(carrier.draining(), hearing), relieving).await;
    core.idle_sessions.close_on(carrier.id());
    core.links.on_draining(tunnel, instance, carrier);
    let ended = future::or(ended, core.links.relieve_stalls(tunnel, carrier)).await;
    core.links.remove(tunnel, carrier, &core.figures.recorder.borrow());
    core.review_hosts_soon(tunnel);
    Counters::add(&core.edge.counters.links_ended);
    tracing::info!(%tunnel, link = %carrier.id(), why = %ended, by = ?ended.by(), "link down");
}

/// Takes calls off the link in whose place a connector has put this one, because the other transport has failed. The connector
/// cannot say so on a link that carries nothing any more.
fn replace_others(core: &EdgeCore, registered: &Registered<'_>, carrier: &Carrier) {
    if core.edge.settings.quic.is_none() {
        // All links use the same transport.
        return;
    }
    let Registered { tunnel, instance: connector, index, .. } = *registered;
    let by = ReplacedLink { tunnel: tunnel.clone(), connector, index, is_quic: carrier.is_quic() };
    core.links.drain_replaced(&by);
    for other in (0..core.edge.core_count()).filter_map(|other| u16::try_from(other).ok()).map(CoreId) {
        // A core that is too busy for this leaves the link to its own tests.
        if other != core.core.id() {
            drop(core.edge.send_to(other, CoreMessage::Replaced(Box::new(by.clone()))));
        }
    }
}

/// Sends a connector the reason for its refusal.
async fn refuse(core: &Rc<EdgeCore>, greeted: Greeted, denied: &Denied, peer: &PeerInfo) -> Result<(), LinkSetupError> {
    let Greeted { connection, bytes, .. } = greeted;
    Counters::add(&core.edge.counters.links_refused);
    denied.record(&core.edge, &core.gate, peer, core.core.now());
    let link = Link::edge(&core.core, core.links.next_id(), core.edge.settings.link);
    let first = leases_of(core.core.pool(), &bytes).await;
    let answer = async {
        link.hello().await?;
        link.refuse(denied.refusal, &denied.reason);
        std::future::pending::<Result<(), LinkSetupError>>().await
    };
    let run = async {
        link.run(&connection, first).await;
        Ok(())
    };
    future::or(run, answer).await?;
    connection.close_gracefully(core.edge.settings.handshake_timeout).await;
    Ok(())
}
