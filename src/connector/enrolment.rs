//! One enrolment: a request on a connection of its own, and the edge's answer.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use crate::connector::connect_error::{ConnectError, EnrolError};
use crate::connector::dial::{Dialer, Fallback};
use crate::connector::edge_tls::EdgeTls;
use crate::connector::settings::EdgeAddress;
use crate::dial::{Proxy, Resolver};
use crate::engine::{ByteStream, Core, send_bytes};
use crate::wire::RegistrationRefusal;
use crate::wire::enrol::{EnrolAnswer, EnrolMessage, EnrolReader, EnrolRefused, EnrolRequest, Grant};

/// The time limit for connecting to an edge to trade a provisioning key, and again for its answer.
const TRADE_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a provisioning key could not be traded for a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TradeError {
    /// The edge refused the key or the request.
    #[error("it refused the provisioning key: {refusal}{}{reason}", if reason.is_empty() { "" } else { ": " })]
    Refused {
        /// The reason, for programs.
        refusal: RegistrationRefusal,
        /// The reason, for people.
        reason: String,
    },
    /// The edge has no authority.
    #[error("it issues no certificates: a provisioning key needs an edge with a data_dir")]
    NotOffered,
    /// The connection or the answer failed.
    #[error("{cause}")]
    Failed {
        /// The cause, for people.
        cause: String,
        /// Whether retries fail until a setting is changed.
        is_final: bool,
    },
}

impl TradeError {
    /// Whether retries fail until somebody makes a change.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            TradeError::Refused { refusal, .. } => refusal.is_final(),
            TradeError::NotOffered => true,
            TradeError::Failed { is_final, .. } => *is_final,
        }
    }
}

impl From<ConnectError> for TradeError {
    fn from(error: ConnectError) -> TradeError {
        if error.is_not_offered() {
            return TradeError::NotOffered;
        }
        TradeError::Failed { is_final: matches!(error, ConnectError::BadName(_)), cause: error.to_string() }
    }
}

/// An edge with which a provisioning key is traded, before a connector runs.
pub struct TradeWith<'a> {
    /// The address of the edge.
    pub edge: &'a EdgeAddress,
    /// The name that its certificate must contain, if it is not the dialled host.
    pub edge_name: Option<&'a str>,
    /// The proxy through which it is reached, if there is one.
    pub proxy: Option<&'a Proxy>,
    /// Another port of the edge, which is tried when the first does not answer.
    pub fallback_port: Option<u16>,
}

/// Trades a provisioning key with one edge for a tunnel.
///
/// # Errors
///
/// If the edge cannot be reached, does not answer within `TRADE_TIMEOUT`, or refuses.
pub async fn trade(
    core: &Core,
    resolver: &Resolver,
    TradeWith { edge, edge_name, proxy, fallback_port }: TradeWith<'_>,
    tls: &EdgeTls,
    request: &EnrolRequest,
) -> Result<Grant, TradeError> {
    let is_preferred = AtomicBool::new(false);
    let fallback = fallback_port.map(|port| Fallback { port, is_preferred: &is_preferred });
    let dialer = Dialer { core, resolver, edge, local: None, edge_name, proxy, fallback, limit: TRADE_TIMEOUT };
    let connection = dialer.dial(Some(tls.enrol())).await?;
    match ask(core, &connection, request, TRADE_TIMEOUT).await? {
        EnrolAnswer::Granted(grant) => Ok(grant),
        EnrolAnswer::Refused(EnrolRefused { refusal, reason, .. }) => Err(TradeError::Refused { refusal, reason }),
    }
}

/// Sends a request on a new connection, and reads the answer within a time limit.
pub(super) async fn ask(
    core: &Core,
    connection: &impl ByteStream,
    request: &EnrolRequest,
    limit: Duration,
) -> Result<EnrolAnswer, ConnectError> {
    let answer = core.timeout(limit, exchange(core, connection, request)).await;
    let answer = answer.map_err(|_| EnrolError::Timeout(limit))??;
    connection.finish();
    Ok(answer)
}

async fn exchange(
    core: &Core,
    connection: &impl ByteStream,
    request: &EnrolRequest,
) -> Result<EnrolAnswer, EnrolError> {
    let bytes = request.encode()?;
    send_bytes(connection, core.pool(), bytes.expose()).await?;
    let mut incoming = EnrolReader::default();
    loop {
        let Some(lease) = connection.recv().await? else { return Err(EnrolError::Silent) };
        if let Some(answer) = incoming.receive(&lease)? {
            return Ok(answer);
        }
    }
}
