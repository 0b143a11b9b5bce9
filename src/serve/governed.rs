//! Requests of routes with a policy: what each asks for is read as its server reads it, and decided before it is passed on.

use std::net::IpAddr;
use std::sync::Arc;

use crate::exchange::ToolDenied;
use crate::latency::PolicyMark;
use crate::policy::{
    Asked, BodyKind, ListFilter, Reads, RoleSet, ToolDecision, ToolPolicy, check_message, read_request,
};
use crate::wire::Utf8Check;
use crate::wire::http1::{BodyError, PolicyEdit, RequestHead};
use crate::wire::jsonrpc::Peek;
use crate::wire::mcp::{self, Call};

/// What is known of a request of a route with a policy.
pub(super) struct Governed {
    policy: Arc<ToolPolicy>,
    roles: RoleSet,
    /// Whether the caller has shown a static key of the policy, which is not the server's affair.
    has_key: bool,
    /// Whether the request is of a revision without sessions.
    is_stateless: bool,
    kind: Result<BodyKind, BodyError>,
    utf8: Utf8Check,
    has_begun: bool,
    decision: Option<ToolDecision>,
}

/// What becomes of a request.
pub(super) enum Judged {
    /// More of it has to be read.
    Unknown,
    /// It is passed on.
    Allowed,
    Denied(Box<ToolDenied>),
}

impl Governed {
    /// A request with this head, of a caller at this address.
    pub(super) fn new(policy: &Arc<ToolPolicy>, head: &RequestHead, address: Option<IpAddr>) -> Governed {
        let key = bearer(head).and_then(|bearer| policy.key_of(bearer));
        Governed {
            policy: Arc::clone(policy),
            roles: policy.roles_of(address, key),
            has_key: key.is_some(),
            is_stateless: mcp::is_stateless(head),
            kind: BodyKind::of(head),
            utf8: Utf8Check::default(),
            has_begun: false,
            decision: None,
        }
    }

    /// Reads the next bytes of the body into `peek`.
    ///
    /// # Errors
    ///
    /// If servers may read them in different ways.
    pub(super) fn read(&mut self, peek: &mut Peek, bytes: &[u8]) -> Result<(), BodyError> {
        let kind = self.kind?;
        if let Some(first) = bytes.first().filter(|_| !self.has_begun) {
            self.has_begun = true;
            if !kind.begins_with(*first) {
                return Err(BodyError::MalformedMessage);
            }
        }
        if kind == BodyKind::Form {
            return Ok(());
        }
        peek.feed(bytes);
        if !self.utf8.feed(bytes) {
            return Err(BodyError::MalformedMessage);
        }
        check_message(peek)
    }

    /// Decides about the request, once that can be done.
    ///
    /// # Errors
    ///
    /// If servers may read it in different ways.
    pub(super) fn judge(&mut self, head: &RequestHead, peek: &Peek, has_ended: bool) -> Result<Judged, BodyError> {
        if self.kind? == BodyKind::Form && (self.has_begun || has_ended) {
            return Ok(Judged::Allowed);
        }
        let asked = match read_request(head, peek, has_ended)? {
            Reads::Unknown => return Ok(Judged::Unknown),
            Reads::NoMethod => return Ok(Judged::Allowed),
            Reads::Asks(asked) => asked,
        };
        let decision = self.policy.decide(self.roles, &asked);
        let judged = match &decision {
            ToolDecision::Allowed(_) => Judged::Allowed,
            ToolDecision::Denied { how, .. } => {
                self.log(&asked, &decision);
                Judged::Denied(Box::new(ToolDenied::new(&asked, how, self.is_stateless)))
            }
        };
        self.decision = Some(decision);
        Ok(judged)
    }

    /// What was decided, once it was.
    pub(super) fn mark(&self) -> Option<PolicyMark> {
        let rule = self.decision.as_ref()?.rule().map(|rule| rule.index);
        Some(PolicyMark::new(self.policy.digest().mark(), rule))
    }

    /// What of the answer its caller may see, if the request asks for a list.
    pub(super) fn filter(&self, head: &RequestHead, call: &Call) -> Option<ListFilter> {
        let filter = ListFilter::new(Arc::clone(&self.policy), self.roles);
        filter.is_needed(head, call).then_some(filter)
    }

    /// What is changed of the request.
    pub(super) fn edit(&self) -> PolicyEdit {
        PolicyEdit { drop_authorization: self.has_key && !self.policy.passes_keys(), identity_only: true }
    }

    fn log(&self, asked: &Asked<'_>, decision: &ToolDecision) {
        tracing::info!(
            method = asked.method,
            name = asked.target.name().unwrap_or_default(),
            rule = decision.rule().map_or("", |rule| &*rule.name),
            policy = %self.policy.digest(),
            "a call was denied by the policy of its route"
        );
    }
}

/// The token of `Authorization: Bearer` (RFC 6750 section 2.1), if there is one field of that name.
fn bearer(head: &RequestHead) -> Option<&[u8]> {
    let mut values = head.headers().filter(|(name, _)| name.eq_ignore_ascii_case(b"authorization"));
    let (_, value) = values.next()?;
    let (scheme, token) = value.split_at_checked(b"Bearer ".len())?;
    (values.next().is_none() && scheme.eq_ignore_ascii_case(b"bearer ")).then(|| token.trim_ascii())
}
