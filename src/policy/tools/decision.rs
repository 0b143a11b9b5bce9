use std::fmt;
use std::sync::Arc;

use crate::base::{Hex, sha256};
use crate::policy::tools::ceilings::{CeilingReached, EVALUATION};

/// How many bytes of a policy's digest are shown.
const DIGEST_SHOWN: usize = 8;

/// The decision about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolDecision {
    /// The request may be passed on.
    Allowed(Option<RuleId>),
    /// The request is answered without the server.
    Denied {
        /// The rule that denies the request; `None` if no rule allows it and one has to.
        rule: Option<RuleId>,
        /// The reply to the caller.
        how: Denial,
    },
}

impl ToolDecision {
    /// Why a policy in Cedar cannot be evaluated, if the request is denied for that.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        match self {
            ToolDecision::Denied { how: Denial::Unevaluated(why), .. }
            | ToolDecision::Denied { how: Denial::Ceiling(CeilingReached::Evaluation(why)), .. } => Some(why),
            _ => None,
        }
    }

    /// Whether the request may be passed on.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, ToolDecision::Allowed(_))
    }

    /// The rule that decided, if any.
    #[must_use]
    pub const fn rule(&self) -> Option<&RuleId> {
        match self {
            ToolDecision::Allowed(rule) | ToolDecision::Denied { rule, .. } => rule.as_ref(),
        }
    }

    /// The key of the ceiling that was reached, if the request is denied for that; `evaluation` if a policy cannot be evaluated.
    #[must_use]
    pub const fn limit(&self) -> Option<&'static str> {
        match self {
            ToolDecision::Denied { how: Denial::Ceiling(reached), .. } => Some(reached.key()),
            ToolDecision::Denied { how: Denial::Unevaluated(_), .. } => Some(EVALUATION),
            _ => None,
        }
    }
}

/// The reply to the caller of a denied request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The target does not exist. It is hidden from lists as well.
    Hidden,
    /// Like `Hidden`, because the tool's current definition is not approved.
    Pinned,
    /// Like `Hidden`, because a policy in Cedar cannot be evaluated, with the reason.
    Unevaluated(Arc<str>),
    /// The missing scope (RFC 6750 section 3.1), so that the caller can ask its user for it. The target stays in lists.
    Scope(Arc<str>),
    /// The ceiling that was reached. The target stays in lists.
    Ceiling(CeilingReached),
}

/// A rule, by its index and name in the policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleId {
    /// The index among the rules of the file, from 0.
    pub index: u16,
    /// The name, or the position if the rule has none.
    pub name: Arc<str>,
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// The SHA-256 digest of the file of a policy.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyDigest([u8; 32]);

impl PolicyDigest {
    /// The digest of a file with this content.
    #[must_use]
    pub fn of(content: &[u8]) -> PolicyDigest {
        PolicyDigest(sha256(content))
    }
}

impl PolicyDigest {
    /// The full SHA-256 digest. `Display` shows only its start.
    #[must_use]
    pub const fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// The first two bytes of the digest.
    #[must_use]
    pub const fn mark(&self) -> u16 {
        let [first, second, ..] = self.0;
        u16::from_be_bytes([first, second])
    }
}

/// The first 16 hexadecimal digits.
impl fmt::Display for PolicyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hex(&self.0[..DIGEST_SHOWN]), f)
    }
}

impl fmt::Debug for PolicyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The method and target of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The method of the JSON-RPC message.
    pub method: &'a str,
    /// The target of the method.
    pub target: Target<'a>,
}

/// The target of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// The method has no named target.
    Nothing,
    /// A tool, by its name.
    Tool(&'a str),
    /// A prompt, by its name.
    Prompt(&'a str),
    /// A resource, by its URI.
    Resource(&'a str),
    /// Resources, by a URI template (RFC 6570).
    Template(&'a str),
}

impl<'a> Asked<'a> {
    /// A call of a tool.
    #[must_use]
    pub const fn tool(name: &'a str) -> Asked<'a> {
        Asked { method: "tools/call", target: Target::Tool(name) }
    }

    /// Whether rules can check the arguments of this method. A completion names a prompt too, but has other arguments.
    #[must_use]
    pub(super) fn has_arguments(&self) -> bool {
        matches!(self.method, "tools/call" | "prompts/get")
    }

    /// A request for a prompt.
    #[must_use]
    pub const fn prompt(name: &'a str) -> Asked<'a> {
        Asked { method: "prompts/get", target: Target::Prompt(name) }
    }

    /// A read of a resource.
    #[must_use]
    pub const fn resource(uri: &'a str) -> Asked<'a> {
        Asked { method: "resources/read", target: Target::Resource(uri) }
    }

    /// A read of the resources of a template.
    #[must_use]
    pub const fn template(uri: &'a str) -> Asked<'a> {
        Asked { method: "resources/read", target: Target::Template(uri) }
    }
}

impl<'a> Target<'a> {
    /// The name, URI or template of the target, if it has one.
    #[must_use]
    pub const fn name(&self) -> Option<&'a str> {
        match self {
            Target::Nothing => None,
            Target::Tool(name) | Target::Prompt(name) | Target::Resource(name) | Target::Template(name) => Some(name),
        }
    }
}
