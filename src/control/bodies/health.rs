//! `GET /healthz` and `GET /readyz`: whether the process works, for load balancers and supervisors.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::reading::RoleKind;

/// Whether the process works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthBody {
    /// The state in one word.
    pub status: HealthStatus,
    /// The roles with cores that do not answer.
    pub silent: Vec<SilentRole>,
}

/// The states that `/healthz` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Every core of every role answers.
    Ok,
    /// Some core does not answer: restart the process.
    Failing,
}

/// A role with cores that do not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SilentRole {
    /// The role to which the cores belong.
    pub role: RoleKind,
    /// How many cores it has.
    pub cores: u64,
    /// How many of them answered in time.
    pub answered: u64,
}

/// Whether calls can be expected to succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadyBody {
    /// The state in one word.
    pub status: ReadyStatus,
    /// The time since a call or a probe succeeded on the whole path, in milliseconds (on an edge that is ready).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof_age_ms: Option<u64>,
    /// The number of links that take calls (on a connector that is ready).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links: Option<u64>,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Why the probe that was made for this answer failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<String>,
}

/// The states that `/readyz` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadyStatus {
    /// A load balancer should send calls here.
    Ready,
    /// A load balancer should send calls elsewhere.
    NotReady,
}

impl ReadyBody {
    /// An edge on which a call or a probe succeeded this long ago.
    #[must_use]
    pub fn proven(proof_age_ms: u64) -> ReadyBody {
        ReadyBody { proof_age_ms: Some(proof_age_ms), ..ReadyBody::new(ReadyStatus::Ready) }
    }

    /// A connector with this many links that take calls.
    #[must_use]
    pub fn linked(links: u64) -> ReadyBody {
        ReadyBody { links: Some(links), ..ReadyBody::new(ReadyStatus::Ready) }
    }

    /// A process that is not ready, and the reason in words.
    #[must_use]
    pub fn not_ready(why: impl Into<String>) -> ReadyBody {
        ReadyBody { why: Some(why.into()), ..ReadyBody::new(ReadyStatus::NotReady) }
    }

    fn new(status: ReadyStatus) -> ReadyBody {
        ReadyBody { status, proof_age_ms: None, links: None, why: None, probe: None }
    }
}
