//! What Cedar is asked, and what it answers.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::identity::AgentIdentity;
use crate::policy::tools::decision::{Asked, RuleId};
use crate::policy::tools::hints::ToolHints;

/// What is known of a caller when it makes a request.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "cedar"), allow(dead_code, reason = "only Cedar reads it"))]
pub struct CallerFacts<'a> {
    /// The proven identity, if there is one.
    pub identity: Option<&'a AgentIdentity>,
    /// The address of the caller.
    pub address: Option<IpAddr>,
    /// The time since 1970.
    pub unix: Duration,
}

/// One request that Cedar is asked about.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "cedar"), expect(dead_code, reason = "only Cedar reads it"))]
pub(in crate::policy::tools) struct CedarQuestion<'a> {
    pub(in crate::policy::tools) asked: Asked<'a>,
    /// The host of the route.
    pub(in crate::policy::tools) place: &'a str,
    /// The annotations of the tool, if the server is trusted in this.
    pub(in crate::policy::tools) hints: Option<ToolHints>,
}

/// The answer of Cedar.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "cedar"), expect(dead_code, reason = "only Cedar gives it"))]
pub(in crate::policy::tools) enum CedarVerdict {
    /// Nothing forbids the request, and the named policy permits it, if any has to.
    Permitted(Option<RuleId>),
    /// A policy forbids the request. `scope` is what its caller may ask for.
    Forbidden { rule: RuleId, scope: Option<Arc<str>> },
    /// There are policies that permit something, but none of them permits this.
    NotPermitted,
    /// A policy cannot be evaluated, with the reason.
    Failed { rule: RuleId, why: Arc<str> },
}
