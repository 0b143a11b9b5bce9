//! Enrolment at the edge: a connector that shows its tunnel's secret gets a certificate.

use std::rc::Rc;

use crate::edge::certify::{Certifier, NotCertified, Whose};
use crate::edge::edge_core::EdgeCore;
use crate::edge::gate::Visitor;
use crate::edge::no_link::NoLink;
use crate::edge::registration::{self, Denied};
use crate::edge::shared::Counters;
use crate::engine::{ByteStream, send_bytes};
use crate::tls::Connection;
use crate::wire::Refusal;
use crate::wire::enrol::{Answer, Credential, Grant, Incoming, Message, Refused, Request};

/// How long a connector that found no room is asked to wait, in seconds; it spreads its own waits on top.
const BUSY_RETRY_AFTER_S: u32 = 2;

/// Carries one enrolment, whatever comes of it.
pub(super) async fn serve(
    here: &Rc<EdgeCore>,
    certifier: &Certifier,
    connection: Connection,
    visitor: &Visitor,
) -> Result<(), NoLink> {
    let patience = here.edge.settings.handshake_timeout;
    let exchange = async {
        let (request, fault) = match read_request(&connection).await {
            Ok(request) => (Some(request), None),
            Err(NoLink::Enrolment(fault)) => (None, Some(fault)),
            Err(other) => return Err(other),
        };
        let answer = match request {
            Some(request) => decide(here, certifier, request, visitor).await,
            None => Err(Denied::new(Refusal::Malformed, fault.map_or_else(String::new, |fault| fault.to_string()))),
        };
        let answer = answer.unwrap_or_else(|denied| refuse(here, &denied, visitor));
        send(here, &connection, &answer).await?;
        fault.map_or(Ok(()), |fault| Err(fault.into()))
    };
    let done = here.core.timeout(patience, exchange).await.map_err(|_| NoLink::Timeout)?;
    connection.close_gracefully(patience).await;
    done
}

async fn read_request(connection: &Connection) -> Result<Request, NoLink> {
    let mut incoming = Incoming::default();
    loop {
        let Some(lease) = connection.recv().await? else { return Err(NoLink::Silent) };
        if let Some(request) = incoming.receive(&lease)? {
            return Ok(request);
        }
    }
}

async fn decide(here: &EdgeCore, certifier: &Certifier, request: Request, visitor: &Visitor) -> Result<Answer, Denied> {
    let Request { credential, software, csr } = request;
    let whose = match credential {
        Credential::Tunnel { id, secret } => {
            registration::check_secret(here, &id, &secret, visitor).map_err(|denied| denied.of(&id))?;
            Whose::Tunnel(id)
        }
        Credential::Provisioning { key, name } => Whose::Provisioning { key, name },
    };
    let tunnel = if let Whose::Tunnel(id) = &whose { Some(id.clone()) } else { None };
    let certified = certifier.certify(whose, csr).await.map_err(|why| denied(why).of_any(tunnel))?;
    let lifetime_s = u32::try_from(certified.lifetime.as_secs()).unwrap_or(u32::MAX);
    Counters::add(&here.edge.counters.enrolments);
    tracing::info!(peer = ?visitor.peer, tunnel = %certified.tunnel, %software, lifetime_s, "a connector has its certificate");
    Ok(Answer::Granted(Grant {
        edge_time_unix_s: now_s(here),
        lifetime_s,
        tunnel: certified.tunnel,
        secret: certified.secret,
        chain: certified.chain.iter().map(|cert| cert.to_vec()).collect(),
    }))
}

fn denied(why: NotCertified) -> Denied {
    match why {
        NotCertified::KeyUnproven(cause) => Denied::new(Refusal::KeyUnproven, cause),
        NotCertified::ProvisioningKey => Denied::new(Refusal::ProvisioningKey, "make another one at the edge"),
        NotCertified::HostNotFree { .. } => Denied::new(Refusal::ProvisioningKey, why.to_string()),
        NotCertified::ProvisioningOff => Denied::new(Refusal::ProvisioningOff, "use the id and the secret of a tunnel"),
        NotCertified::Busy => Denied::new(Refusal::Overloaded, why.to_string()),
        NotCertified::Failed(cause) => {
            tracing::error!(%cause, "a certificate for a connector could not be made");
            Denied::new(Refusal::Internal, "the edge's log says why")
        }
    }
}

fn refuse(here: &EdgeCore, denied: &Denied, visitor: &Visitor) -> Answer {
    denied.note(here, visitor);
    Answer::Refused(Refused {
        edge_time_unix_s: now_s(here),
        retry_after_s: if denied.refusal == Refusal::Overloaded { BUSY_RETRY_AFTER_S } else { 0 },
        refusal: denied.refusal,
        reason: denied.reason.clone(),
    })
}

async fn send(here: &EdgeCore, connection: &Connection, answer: &Answer) -> Result<(), NoLink> {
    let bytes = answer.encode()?;
    send_bytes(connection, here.core.pool(), bytes.expose()).await?;
    connection.flushed().await?;
    Ok(())
}

fn now_s(here: &EdgeCore) -> u64 {
    here.edge.settings.clock.now().as_secs()
}
