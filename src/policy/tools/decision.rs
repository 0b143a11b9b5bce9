use std::fmt;
use std::sync::Arc;

use crate::base::{Hex, sha256};
use crate::policy::tools::ceilings::CeilingReached;

/// How much of the digest of a policy is shown, in bytes.
const DIGEST_SHOWN: usize = 8;

/// What is decided about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolDecision {
    /// It may be passed on.
    Allowed(Option<RuleId>),
    /// It is answered here.
    Denied {
        /// The rule that denies it; none if no rule allows it where one has to.
        rule: Option<RuleId>,
        /// What its caller is told.
        how: Denial,
    },
}

impl ToolDecision {
    /// Whether it may be passed on.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, ToolDecision::Allowed(_))
    }

    /// The rule that decided, if one did.
    #[must_use]
    pub const fn rule(&self) -> Option<&RuleId> {
        match self {
            ToolDecision::Allowed(rule) | ToolDecision::Denied { rule, .. } => rule.as_ref(),
        }
    }

    /// The key of the rule whose ceiling is reached, if that is why it is denied.
    #[must_use]
    pub const fn limit(&self) -> Option<&'static str> {
        match self {
            ToolDecision::Denied { how: Denial::Ceiling(reached), .. } => Some(reached.key()),
            _ => None,
        }
    }
}

/// What the caller of a request that is denied is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// That there is no such thing: what is denied is not shown in lists either.
    Hidden,
    /// The same, because nobody has approved the tool as the server describes it now.
    Pinned,
    /// Which scope it lacks (RFC 6750 section 3.1), so that it can ask its user for more. What is denied is shown in lists.
    Scope(Arc<str>),
    /// Which ceiling of the rule that allows it is reached. What is denied is shown in lists.
    Ceiling(CeilingReached),
}

/// A rule, by its place in the file of its policy and its name there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleId {
    /// The place among the rules of the file, from 0.
    pub index: u16,
    /// Its name, or its place if it has none.
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
    /// The 32 bytes of SHA-256, of which its text has only the first.
    #[must_use]
    pub const fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// Its first two bytes.
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

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The method of the JSON-RPC message.
    pub method: &'a str,
    /// What the method is about.
    pub target: Target<'a>,
}

/// What a method is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// Nothing that has a name.
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
    /// The call of a tool.
    #[must_use]
    pub const fn tool(name: &'a str) -> Asked<'a> {
        Asked { method: "tools/call", target: Target::Tool(name) }
    }

    /// Whether its method has arguments that rules are about. A completion names a prompt too, and has others.
    #[must_use]
    pub(super) fn has_arguments(&self) -> bool {
        matches!(self.method, "tools/call" | "prompts/get")
    }

    /// The use of a prompt.
    #[must_use]
    pub const fn prompt(name: &'a str) -> Asked<'a> {
        Asked { method: "prompts/get", target: Target::Prompt(name) }
    }

    /// A resource that is read.
    #[must_use]
    pub const fn resource(uri: &'a str) -> Asked<'a> {
        Asked { method: "resources/read", target: Target::Resource(uri) }
    }

    /// Resources of a template that are read.
    #[must_use]
    pub const fn template(uri: &'a str) -> Asked<'a> {
        Asked { method: "resources/read", target: Target::Template(uri) }
    }
}

impl<'a> Target<'a> {
    /// The name, URI or template, if it has one.
    #[must_use]
    pub const fn name(&self) -> Option<&'a str> {
        match self {
            Target::Nothing => None,
            Target::Tool(name) | Target::Prompt(name) | Target::Resource(name) | Target::Template(name) => Some(name),
        }
    }
}
