//! Connections to edges of cloudflared: which ones are kept up, how one is made, and what the edge pushes.

use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;

use crate::connector::cloudflared_settings::{CloudflaredSettings, ConfigPush};
use crate::connector::connect_error::ConnectError;
use crate::connector::connector_core::ConnectorCore;
use crate::connector::dial_link::{LinkConnection, dial_any};
use crate::connector::links::{LinkSlot, Up};
use crate::engine::{Task, mailbox};
use crate::link::{Carrier, CarrierEnded, CloseReason, CloudflaredLink, CloudflaredTerms};
use crate::wire::cloudflared::Registration;

/// How much of all requests on one connection is received ahead of the servers, in bytes, while memory for it is left.
const WINDOWS: [u32; 2] = [4 * 1024 * 1024, 1024 * 1024];
/// The smallest window of a connection (RFC 9113, section 6.9.2), in bytes.
const WINDOW_MIN: u32 = 64 * 1024 - 1;
/// The name that an edge's certificate must have over QUIC.
const QUIC_EDGE_NAME: &str = "quic.cftunnel.com";
/// How long an edge may take to answer a registration.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens this core's share of the connections.
pub(super) fn open_connections(core: &Rc<ConnectorCore>, dialect: &CloudflaredSettings) {
    let (cores, edges) = (core.connector.core_count().max(1), core.connector.edges.len());
    let count = usize::from(dialect.connections).min(edges);
    for index in (0..count).filter(|index| index % cores == usize::from(core.core.id().0)) {
        let task_core = Rc::clone(core);
        core.core.spawn(async move {
            let keeping = keep(&task_core, index, edges);
            // During the drain no connection is made; an established one finishes on its own.
            future::or(task_core.drain.after(0), keeping).await;
        });
    }
}

/// Keeps the connection with this number up. An address that does not answer is left for the next one.
async fn keep(core: &Rc<ConnectorCore>, index: usize, edges: usize) {
    let mut backoff = core.retry.backoff();
    let mut edge = index % edges;
    loop {
        let slot = LinkSlot { core: Rc::clone(core), edge, index: index as u16 };
        let ups_seen = core.edges.ups(edge);
        match slot.establish().await {
            Ok(up) => slot.run(up, &mut backoff).await,
            Err(error) => {
                slot.wait(&error, &mut backoff, ups_seen).await;
                if error.is_of_address() {
                    edge = (edge + 1) % edges;
                }
            }
        }
    }
}

/// Makes and registers a connection.
pub(super) async fn connect(slot: &LinkSlot, dialect: &CloudflaredSettings) -> Result<Up, ConnectError> {
    let core = &slot.core;
    let settings = &core.connector.settings;
    let tls = settings.edge_tls.as_ref();
    let for_quic = tls.and_then(|tls| tls.cloudflared_quic()).map(|tls| (tls, QUIC_EDGE_NAME));
    let connection = dial_any(core, slot.edge, tls.and_then(|tls| tls.link(slot.edge)), for_quic).await?;
    let protocol = if let LinkConnection::Quic(_) = connection { "quic" } else { "http2" };
    let mut share = core.http2_windows.share();
    let window = WINDOWS.into_iter().find(|window| share.set(*window as usize)).unwrap_or(WINDOW_MIN);
    let registration = Registration {
        account: dialect.account.clone(),
        secret: settings.secret.clone(),
        tunnel: dialect.tunnel,
        index: slot.index as u8,
        connector: dialect.connector,
        features: dialect.features.clone(),
        version: dialect.version.clone(),
        arch: dialect.arch.clone(),
        local_ip: UNKNOWN_IP,
        attempts: 0,
    };
    let terms = CloudflaredTerms {
        registration,
        // One connection sends it for all.
        config: (slot.index == 0).then(|| dialect.config.clone()),
        window,
        register_timeout: REGISTER_TIMEOUT,
    };
    let link = CloudflaredLink::new(&core.core, core.links.next_id(), &dialect.counts);
    let running = link.clone();
    let run = core.core.spawn_held(async move {
        let _share = share;
        CarrierEnded::Cloudflared(match connection {
            LinkConnection::Tcp(connection) => running.run(Rc::new(connection), terms).await,
            LinkConnection::Quic(connection) => running.run_quic(connection, terms).await,
        })
    });
    match link.registered().await {
        Ok(registered) => {
            tracing::info!(
                connIndex = slot.index,
                connection = %registered.connection,
                event = 0,
                ip = %slot.address().host,
                location = registered.location,
                protocol,
                "Registered tunnel connection"
            );
            Ok(Up { carrier: Carrier::Cloudflared(link), run, edge_cores: 1 })
        }
        Err(error) => {
            link.close(CloseReason::Revoked);
            run.await;
            Err(error.into())
        }
    }
}

/// An IPv4 address within IPv6, which says nothing of this host.
const UNKNOWN_IP: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0];

/// Logs the end of a connection.
pub(super) fn log_ended(slot: &LinkSlot, ended: CarrierEnded) {
    let (index, ip) = (slot.index, &slot.address().host);
    if slot.core.is_draining() {
        tracing::info!(connIndex = index, event = 0, ip = %ip, "Unregistered tunnel connection");
    } else {
        tracing::warn!(connIndex = index, event = 0, ip = %ip, error = %ended, "Lost connection with the edge");
    }
}

/// Passes what an edge pushes on a connection to the control thread. None for other carriers.
pub(super) fn take_pushes(core: &Rc<ConnectorCore>, carrier: &Carrier) -> Option<Task<()>> {
    let Carrier::Cloudflared(link) = carrier else { return None };
    let pushes = core.connector.settings.cloudflared.as_ref().map(|dialect| dialect.pushes.clone())?;
    let link = link.clone();
    Some(core.core.spawn_held(async move {
        while let Some(push) = link.accept_push().await {
            let (answer, mut answers) = mailbox(1);
            let sent = pushes.send(ConfigPush { json: push.json.clone(), answer });
            // If the control thread is busy or has ended, the edge is not answered, and pushes again.
            if sent.is_ok()
                && let Some(json) = answers.recv().await
            {
                push.answer(json);
            }
        }
    }))
}
