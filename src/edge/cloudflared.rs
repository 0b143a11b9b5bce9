//! Connectors in the protocol of cloudflared: accepted, registered, and run as links.
//!
//! They have no certificate. A connector proves with the secret of its tunnel that it may serve it, and is then a link like
//! any other.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Clock, LinkId, TunnelId};
use crate::edge::cloudflared_places::{CloudflaredPlace, PlaceKey};
use crate::edge::connectors::{is_crowded, log_failed, serve_carrier};
use crate::edge::credential::Proof;
use crate::edge::edge_core::EdgeCore;
use crate::edge::gate::{AdmissionError, PeerInfo, Port, PreAccept};
use crate::edge::link_setup_error::LinkSetupError;
use crate::edge::message::CoreMessage;
use crate::edge::registration::{self, Claim, ClientCertificate, Denied, Registered};
use crate::edge::shared::Counters;
use crate::engine::driver::SocketOptions;
use crate::engine::{Detached, Listener, Task};
use crate::link::{
    Carrier, CarrierEnded, CloseReason, CloudflaredEdgeEnded, CloudflaredEdgeLink, CloudflaredEdgeTerms,
    RegistrationFault,
};
use crate::tls::{Connection, ServerConfig};
use crate::wire::RegistrationRefusal;
use crate::wire::cloudflared::{Registration, RegistrationAnswer, RegistrationError, TunnelUuid};

/// Where this edge is, as connectors log it.
const LOCATION: &str = "adit";
/// How long a connector that is refused for now should wait before it tries again.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// The longest version and system of a connector that are shown, in characters.
const SOFTWARE_LEN_MAX: usize = 64;

/// Accepts connectors until it is dropped.
pub(super) async fn accept(core: Rc<EdgeCore>, listener: Listener, tls: Arc<ServerConfig>) {
    loop {
        match listener.accept().await {
            Ok(_) if is_crowded(&core) => {}
            Ok((detached, peer)) => {
                let Some(pre_accept) = core.gate.pre_accept(Port::Connectors, peer) else { continue };
                let (task_core, tls) = (Rc::clone(&core), Arc::clone(&tls));
                core.core.spawn(async move {
                    if let Err(error) = set_up(&task_core, detached, pre_accept, &tls).await {
                        log_failed(&task_core, peer, &error);
                    }
                });
            }
            Err(error) => {
                Counters::add(&core.edge.counters.accepts_failed);
                tracing::warn!(%error, "cannot accept a connection of cloudflared");
            }
        }
    }
}

/// Registers a connector and runs its link until it ends.
async fn set_up(
    core: &Rc<EdgeCore>,
    detached: Detached,
    pre_accept: PreAccept,
    tls: &Arc<ServerConfig>,
) -> Result<(), LinkSetupError> {
    core.unregistered.set(core.unregistered.get() + 1);
    let greeted = greet(core, detached, pre_accept, tls).await;
    core.unregistered.set(core.unregistered.get() - 1);
    let Some(Greeted { link, run, registration, peer }) = greeted? else { return Ok(()) };
    let accepted = check(core, &registration, &peer).and_then(|(tunnel, proof)| {
        let instance = instance_of(registration.connector);
        // A connection stays on its core: what was read of it is in the state of HTTP/2.
        let max = core.edge.tables().admission.links_per_tunnel;
        let booking = core.edge.presence.book_on(&tunnel, instance, core.core.id(), max);
        let booking = booking.ok_or_else(|| {
            Counters::add(&core.edge.counters.links_limited);
            let reason = "the tunnel has its maximum number of links: stop a connector, or raise links_per_tunnel_max";
            Denied::new(RegistrationRefusal::Overloaded, reason).of(&tunnel)
        })?;
        Ok((tunnel, proof, instance, booking))
    });
    let (tunnel, proof, instance, booking) = match accepted {
        Ok(accepted) => accepted,
        Err(denied) => {
            Counters::add(&core.edge.counters.links_refused);
            denied.record(&core.edge, &core.gate, &peer, core.core.now());
            link.refuse(refusal(&denied));
            run.await;
            return Ok(());
        }
    };
    let _place = replace_older(core, &link, &tunnel, &registration);
    link.answer(RegistrationAnswer::Accepted {
        connection: connection_uuid(core.edge.instance, link.id()),
        location: LOCATION.to_owned(),
        is_remotely_managed: core.edge.tables().cloudflared_service(&tunnel).is_some(),
    });
    let ended = async { CarrierEnded::CloudflaredEdge(run.await) };
    let software = software_of(&registration);
    let index = u16::from(registration.index);
    let registered = Registered { tunnel: &tunnel, instance, index, software: &software, proof: &proof };
    serve_carrier(core, &Carrier::CloudflaredEdge(link), &registered, ended).await;
    drop(booking);
    Ok(())
}

/// A connector that has asked to be registered.
struct Greeted {
    link: CloudflaredEdgeLink,
    run: Task<CloudflaredEdgeEnded>,
    registration: Registration,
    peer: PeerInfo,
}

/// Makes the TLS handshake, begins HTTP/2, and waits for the registration. None if the connector wants none: it only looks
/// whether this edge can be reached.
async fn greet(
    core: &Rc<EdgeCore>,
    detached: Detached,
    pre_accept: PreAccept,
    tls: &Arc<ServerConfig>,
) -> Result<Option<Greeted>, LinkSetupError> {
    let settings = &core.edge.settings;
    let socket = core.core.adopt(detached, SocketOptions::default()).await?;
    let (mut peer, first) = match core.gate.accept(Port::Connectors, pre_accept, &socket).await {
        Err(AdmissionError::Refused) => return Ok(None),
        accepted => accepted?,
    };
    let timeout = core.core.sleep(settings.handshake_timeout);
    let first: Vec<_> = first.into_iter().collect();
    let connection = Connection::server(socket, tls, first, Some(core.greetings.share()), timeout).await?;
    let link = CloudflaredEdgeLink::new(&core.core, core.links.next_id(), settings.link.streams_max);
    let terms = CloudflaredEdgeTerms {
        windows: core.http2_windows.clone(),
        window: settings.link.link_window,
        register_timeout: settings.handshake_timeout,
    };
    let running = link.clone();
    let run = core.core.spawn_held(async move { running.run(connection, terms).await });
    let registration = match link.registration().await {
        Ok(registration) => registration,
        Err(RegistrationFault::Closed) => return Ok(None),
        Err(fault) => {
            link.close(CloseReason::Ended);
            run.await;
            return Err(fault.into());
        }
    };
    // From here on it is registered or refused, and no longer counts as unregistered.
    peer.permit = None;
    Ok(Some(Greeted { link, run, registration, peer }))
}

/// Checks the registration of a connector. Its token has the tunnel's id in place of an account, and its UUID follows from
/// that id.
fn check(core: &EdgeCore, registration: &Registration, peer: &PeerInfo) -> Result<(TunnelId, Proof), Denied> {
    if core.is_draining() {
        return Err(Denied::new(RegistrationRefusal::Draining, "dial again, to reach another edge or its successor"));
    }
    let tunnel: TunnelId = registration.account.parse().map_err(|_| Denied::credentials())?;
    if TunnelUuid::of_tunnel(&tunnel) != registration.tunnel {
        return Err(Denied::credentials().of(&tunnel));
    }
    let claim = Claim { tunnel: &tunnel, secret: &registration.secret, from: registration::address_of(peer) };
    let now = core.core.now();
    let proof = registration::check(&core.edge.tables(), &claim, &ClientCertificate::NotRequired, now)?;
    Ok((tunnel, proof))
}

/// The refusal as the connector is told.
fn refusal(denied: &Denied) -> RegistrationError {
    let should_retry = !denied.refusal.is_final();
    let retry_after = if should_retry { RETRY_AFTER } else { Duration::ZERO };
    RegistrationError { cause: format!("{}: {}", denied.refusal, denied.reason), retry_after, should_retry }
}

/// Takes the place of this connection of its connector. An older connection with the same number is closed: the connector
/// has lost it, and this edge does not know that yet.
fn replace_older(
    core: &EdgeCore,
    link: &CloudflaredEdgeLink,
    tunnel: &TunnelId,
    registration: &Registration,
) -> CloudflaredPlace {
    let key = PlaceKey { tunnel: tunnel.clone(), connector: registration.connector, index: registration.index };
    let (place, older) = CloudflaredPlace::take(&core.edge.cloudflared_places, key, core.core.id(), link.id());
    if let Some((on, older)) = older {
        tracing::info!(%tunnel, link = %older, by = %link.id(), "a connector has replaced one of its connections");
        // A core that does not take the message finds the connection silent after a while.
        let _ = core.edge.send_to(on, CoreMessage::CloseLink(older));
    }
    place
}

/// The number of a connector, by which its links belong together.
fn instance_of(connector: TunnelUuid) -> u64 {
    let number = u128::from_le_bytes(connector.0);
    number as u64 ^ (number >> 64) as u64
}

/// The number of a connection in the connector's log.
fn connection_uuid(edge: u64, link: LinkId) -> TunnelUuid {
    let mut bytes = (u128::from(edge) << 64 | u128::from(link.0)).to_be_bytes();
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    TunnelUuid(bytes)
}

/// What the connector says of its software, without what cannot be shown.
fn software_of(registration: &Registration) -> String {
    let text = format!("cloudflared/{} {}", registration.version, registration.arch);
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(SOFTWARE_LEN_MAX).collect()
}
