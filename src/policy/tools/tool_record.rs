//! The stored and displayed form of a tool in an inventory.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::{Hex, sha256, unhex};

/// The SHA-256 of a tool's definition in canonical form.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ToolDigest([u8; 32]);

/// What a server offers. Inventories keep each kind by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfferKind {
    /// A tool, by its name.
    #[default]
    Tool,
    /// A prompt, by its name.
    Prompt,
    /// A resource, by its URI.
    Resource,
    /// A template of resources, by its URI template.
    Template,
}

impl OfferKind {
    /// All kinds, in the order in which they are shown.
    pub const ALL: [OfferKind; 4] = [OfferKind::Tool, OfferKind::Prompt, OfferKind::Resource, OfferKind::Template];

    /// The name of the kind in files and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            OfferKind::Tool => "tool",
            OfferKind::Prompt => "prompt",
            OfferKind::Resource => "resource",
            OfferKind::Template => "template",
        }
    }

    fn is_tool(&self) -> bool {
        *self == OfferKind::Tool
    }
}

/// The approval status of a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolStanding {
    /// No definition of the tool was ever approved.
    New,
    /// The current definition differs from the approved one.
    Changed,
    /// The current definition is the approved one.
    Approved,
    /// The definition has more than one reading, so it cannot be approved.
    Unreadable,
}

impl ToolStanding {
    /// The standing of a tool with this digest, given the approved digest.
    pub(super) fn of<D: PartialEq>(is_readable: bool, digest: &D, approved: Option<&D>) -> ToolStanding {
        match approved {
            _ if !is_readable => ToolStanding::Unreadable,
            None => ToolStanding::New,
            Some(approved) if approved == digest => ToolStanding::Approved,
            Some(_) => ToolStanding::Changed,
        }
    }
}

/// A tool, or something else that a server offers, as stored in the file and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolRecord {
    /// What kind of offer it is. Files of earlier versions have tools only.
    #[serde(default, skip_serializing_if = "OfferKind::is_tool")]
    pub kind: OfferKind,
    /// The name of the tool or prompt, or the URI of the resource.
    pub name: String,
    /// The digest of the definition, in hexadecimal digits.
    pub digest: String,
    /// The definition in canonical form, if it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// Whether the definition has more than one reading. The digest is then that of its raw bytes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unreadable: bool,
    /// When a list first named the tool, in milliseconds since 1970.
    pub first_seen_ms: i64,
    /// When a list last named the tool.
    pub last_seen_ms: i64,
    /// The approved definition, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<ApprovedRecord>,
}

/// An approved definition of a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovedRecord {
    /// The digest of the definition, in hexadecimal digits.
    pub digest: String,
    /// The definition in canonical form, if it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// When the definition was approved, in milliseconds since 1970.
    pub at_ms: i64,
}

/// A tool that was added, or whose definition has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolNews {
    /// What kind of offer it is.
    pub kind: OfferKind,
    /// The name of the tool.
    pub name: String,
    /// The current standing of the tool.
    pub standing: ToolStanding,
    /// The digest of the definition.
    pub digest: ToolDigest,
}

/// Why a tool cannot be approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotApproved {
    /// No list has named the tool.
    #[error("no list of the server has named this tool")]
    Unknown,
    /// The definition has changed since the digest was read.
    #[error("its definition has changed since: look at it again")]
    OtherDigest,
    /// The definition has more than one reading.
    #[error("its definition can be read in two ways, as with a name twice in one object: the server has to mend it")]
    Unreadable,
}

impl ToolDigest {
    /// The digest of a definition in canonical form.
    pub(super) fn of(definition: &[u8]) -> ToolDigest {
        ToolDigest(sha256(definition))
    }

    /// Parses 64 hexadecimal digits of a digest.
    #[must_use]
    pub fn parse(text: &str) -> Option<ToolDigest> {
        unhex(text.as_bytes()).map(ToolDigest)
    }
}

/// 64 hexadecimal digits of the digest.
impl fmt::Display for ToolDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hex(&self.0), f)
    }
}

impl fmt::Debug for ToolDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ToolRecord {
    /// The approval status of the tool.
    #[must_use]
    pub fn standing(&self) -> ToolStanding {
        ToolStanding::of(!self.unreadable, &self.digest, self.approved.as_ref().map(|approved| &approved.digest))
    }
}
