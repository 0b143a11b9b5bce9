//! A tool of an inventory, as others see it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::{Hex, sha256, unhex};

/// The SHA-256 of what a server says of a tool, in its canonical form.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ToolDigest([u8; 32]);

/// How a tool stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolStanding {
    /// Nobody has approved it.
    New,
    /// Its definition is another one than that which was approved.
    Changed,
    /// It is as it was approved.
    Approved,
    /// Its definition can be read in two ways, so that nobody can approve it.
    Unreadable,
}

impl ToolStanding {
    /// How a tool with this digest stands, if that one was approved.
    pub(super) fn of<D: PartialEq>(is_readable: bool, digest: &D, approved: Option<&D>) -> ToolStanding {
        match approved {
            _ if !is_readable => ToolStanding::Unreadable,
            None => ToolStanding::New,
            Some(approved) if approved == digest => ToolStanding::Approved,
            Some(_) => ToolStanding::Changed,
        }
    }
}

/// A tool, as it is kept in a file and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolRecord {
    /// The name by which it is called.
    pub name: String,
    /// The digest of its definition, in hexadecimal digits.
    pub digest: String,
    /// The definition in its canonical form, if that is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// Whether the definition can be read in two ways. The digest is that of its bytes then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unreadable: bool,
    /// When a list first named it, in milliseconds since 1970.
    pub first_seen_ms: i64,
    /// When a list last named it.
    pub last_seen_ms: i64,
    /// The definition that was approved, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<ApprovedRecord>,
}

/// A definition that was approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovedRecord {
    /// Its digest, in hexadecimal digits.
    pub digest: String,
    /// The definition in its canonical form, if that is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
    /// When it was approved, in milliseconds since 1970.
    pub at_ms: i64,
}

/// A tool that has come, or whose definition has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolNews {
    /// The name by which it is called.
    pub name: String,
    /// How it stands now.
    pub standing: ToolStanding,
    /// The digest of its definition.
    pub digest: ToolDigest,
}

/// Why a tool cannot be approved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotApproved {
    /// No list has named it.
    #[error("no list of the server has named this tool")]
    Unknown,
    /// It has changed since the digest was read.
    #[error("its definition is another one by now: look at it again")]
    OtherDigest,
    /// Readers read its definition in two ways.
    #[error("its definition can be read in two ways, as with a name twice in one object: the server has to mend it")]
    Unreadable,
}

impl ToolDigest {
    /// That of a definition in its canonical form.
    pub(super) fn of(definition: &[u8]) -> ToolDigest {
        ToolDigest(sha256(definition))
    }

    /// Reads it from its 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<ToolDigest> {
        unhex(text.as_bytes()).map(ToolDigest)
    }
}

/// Its 64 hexadecimal digits.
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
    /// How the tool stands.
    #[must_use]
    pub fn standing(&self) -> ToolStanding {
        ToolStanding::of(!self.unreadable, &self.digest, self.approved.as_ref().map(|approved| &approved.digest))
    }
}
