//! Enrolment at the edge: a connector that sends its tunnel's secret gets a certificate.

use std::rc::Rc;

use crate::base::Clock;
use crate::edge::certify::{CertSubject, Certifier, NotCertified};
use crate::edge::edge_core::EdgeCore;
use crate::edge::gate::PeerInfo;
use crate::edge::link_setup_error::LinkSetupError;
use crate::edge::registration::{self, Claim, Denied};
use crate::edge::shared::Counters;
use crate::engine::{ByteStream, send_bytes};
use crate::wire::RegistrationRefusal;
use crate::wire::enrol::{Credential, EnrolAnswer, EnrolMessage, EnrolReader, EnrolRefused, EnrolRequest, Grant};

/// How long a connector has to wait before a retry, in seconds, when too many enrol at the same time. Connectors add
/// their own jitter.
const BUSY_RETRY_AFTER_S: u32 = 2;

/// Serves one enrolment, until the answer was sent.
pub(super) async fn serve(
    core: &Rc<EdgeCore>,
    certifier: &Certifier,
    connection: &impl ByteStream,
    peer: &PeerInfo,
) -> Result<(), LinkSetupError> {
    let timeout = core.edge.settings.handshake_timeout;
    let exchange = async {
        let (request, fault) = match read_request(connection).await {
            Ok(request) => (Some(request), None),
            Err(LinkSetupError::Enrolment(fault)) => (None, Some(fault)),
            Err(other) => return Err(other),
        };
        let answer = match request {
            Some(request) => decide(core, certifier, request, peer).await,
            None => Err(Denied::new(
                RegistrationRefusal::Malformed,
                fault.map_or_else(String::new, |fault| fault.to_string()),
            )),
        };
        let answer = answer.unwrap_or_else(|denied| refuse(core, &denied, peer));
        send(core, connection, &answer).await?;
        fault.map_or(Ok(()), |fault| Err(fault.into()))
    };
    core.core.timeout(timeout, exchange).await.map_err(|_| LinkSetupError::Timeout)?
}

async fn read_request(connection: &impl ByteStream) -> Result<EnrolRequest, LinkSetupError> {
    let mut incoming = EnrolReader::default();
    loop {
        let Some(lease) = connection.recv().await? else { return Err(LinkSetupError::Silent) };
        if let Some(request) = incoming.receive(&lease)? {
            return Ok(request);
        }
    }
}

async fn decide(
    core: &EdgeCore,
    certifier: &Certifier,
    request: EnrolRequest,
    peer: &PeerInfo,
) -> Result<EnrolAnswer, Denied> {
    let EnrolRequest { credential, software, csr } = request;
    let subject = match credential {
        Credential::Tunnel { id, secret } => {
            let claim = Claim { tunnel: &id, secret: &secret, from: registration::address_of(peer) };
            let checked = registration::check_secret(&core.edge.tables(), &claim, core.core.now());
            checked.map_err(|denied| denied.of(&id))?;
            CertSubject::Tunnel(id)
        }
        Credential::Provisioning { key, name } => CertSubject::Provisioning { key, name },
    };
    let tunnel = if let CertSubject::Tunnel(id) = &subject { Some(id.clone()) } else { None };
    let certified = certifier.certify(subject, csr).await.map_err(|why| match &tunnel {
        Some(tunnel) => denied(why).of(tunnel),
        None => denied(why),
    })?;
    let lifetime_s = u32::try_from(certified.lifetime.as_secs()).unwrap_or(u32::MAX);
    Counters::add(&core.edge.counters.enrolments);
    tracing::info!(peer = ?peer.peer, tunnel = %certified.tunnel, %software, lifetime_s, "certificate issued");
    Ok(EnrolAnswer::Granted(Grant {
        edge_time_unix_s: now_s(core),
        lifetime_s,
        tunnel: certified.tunnel,
        secret: certified.secret,
        chain: certified.chain.iter().map(|cert| cert.to_vec()).collect(),
    }))
}

fn denied(why: NotCertified) -> Denied {
    match why {
        NotCertified::KeyUnproven(cause) => Denied::new(RegistrationRefusal::KeyUnproven, cause),
        NotCertified::ProvisioningKey => {
            Denied::new(RegistrationRefusal::ProvisioningKey, "create a new one at the edge")
        }
        NotCertified::HostNotFree { .. } => Denied::new(RegistrationRefusal::ProvisioningKey, why.to_string()),
        NotCertified::ProvisioningOff => {
            Denied::new(RegistrationRefusal::ProvisioningOff, "use the id and the secret of a tunnel")
        }
        NotCertified::Busy => Denied::new(RegistrationRefusal::Overloaded, why.to_string()),
        NotCertified::Failed(cause) => {
            tracing::error!(%cause, "cannot make a certificate");
            Denied::new(RegistrationRefusal::Internal, "see the edge's log")
        }
    }
}

fn refuse(core: &EdgeCore, denied: &Denied, peer: &PeerInfo) -> EnrolAnswer {
    denied.record(&core.edge, &core.gate, peer, core.core.now());
    EnrolAnswer::Refused(EnrolRefused {
        edge_time_unix_s: now_s(core),
        retry_after_s: if denied.refusal == RegistrationRefusal::Overloaded { BUSY_RETRY_AFTER_S } else { 0 },
        refusal: denied.refusal,
        reason: denied.reason.clone(),
    })
}

async fn send(core: &EdgeCore, connection: &impl ByteStream, answer: &EnrolAnswer) -> Result<(), LinkSetupError> {
    let bytes = answer.encode()?;
    send_bytes(connection, core.core.pool(), bytes.expose()).await?;
    connection.flushed().await?;
    Ok(())
}

fn now_s(core: &EdgeCore) -> u64 {
    core.edge.settings.clock.now().as_secs()
}
