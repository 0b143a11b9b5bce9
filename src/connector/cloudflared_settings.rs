use std::sync::Arc;

use crate::engine::MailSender;
use crate::link::CloudflaredCounts;
use crate::wire::cloudflared::TunnelUuid;

/// How a connector registers with edges of cloudflared.
#[derive(Clone)]
pub struct CloudflaredSettings {
    /// How many connections are kept up, at most one for each address of the edges.
    pub connections: u16,
    /// The account that the token names.
    pub account: String,
    /// The tunnel that it serves.
    pub tunnel: TunnelUuid,
    /// The connector: a random number of this process.
    pub connector: TunnelUuid,
    /// What the connector supports.
    pub features: Vec<String>,
    /// The version and the system of the connector.
    pub version: String,
    /// The system and processor, such as `linux_amd64`.
    pub arch: String,
    /// The ingress rules as JSON, for an edge that does not send them.
    pub config: String,
    /// What its calls come to.
    pub counts: Arc<CloudflaredCounts>,
    /// Where new ingress rules of an edge go.
    pub pushes: MailSender<ConfigPush>,
}

/// New ingress rules from an edge, with a place for the answer.
pub struct ConfigPush {
    /// The rules and their version, as JSON.
    pub json: Vec<u8>,
    /// The answer, as JSON.
    pub answer: MailSender<String>,
}
