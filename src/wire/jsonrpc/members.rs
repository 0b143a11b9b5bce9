//! The members of a message that are watched, and the texts that are kept of them.

use crate::wire::jsonrpc::{ID_LEN_MAX, METHOD_LEN_MAX, MessageMember, NAME_LEN_MAX};

/// The longest `traceparent` that is kept, in bytes. Version 00 has 55.
pub(super) const TRACEPARENT_LEN_MAX: usize = 64;
/// Longer than any watched key, in any spelling that folds to it.
const KEY_LEN_MAX: usize = 16;

/// An object within `params` whose members are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inner {
    Nothing,
    Meta,
    /// The reference of a completion. Its members count as those of `params`.
    Ref,
}

/// A member that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Method,
    Id,
    Params,
    Result,
    Error,
    Name,
    Uri,
    TaskId,
    Arguments,
    Meta,
    Ref,
    Traceparent,
    Other,
}

/// Where a text is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Key,
    Method,
    Id,
    Name,
    Uri,
    TaskId,
    Traceparent,
    Nowhere,
}

/// How many texts are kept.
pub(super) const SLOTS: usize = Slot::Nowhere as usize;

#[derive(Debug, Default)]
pub(super) struct Text {
    pub(super) bytes: Vec<u8>,
    pub(super) stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    Absent,
    Open,
    Whole,
    /// Too long, or of the wrong type.
    Unusable,
}

impl MessageMember {
    pub(super) const fn place(self) -> (Key, Slot) {
        match self {
            MessageMember::Method => (Key::Method, Slot::Method),
            MessageMember::Name => (Key::Name, Slot::Name),
            MessageMember::Uri => (Key::Uri, Slot::Uri),
            MessageMember::TaskId => (Key::TaskId, Slot::TaskId),
        }
    }
}

impl Key {
    pub(super) const fn bit(self) -> u16 {
        1 << self as u16
    }

    /// The member with this name at this place, and whether the name is exact or only folds to it.
    pub(super) fn of(name: &[u8], depth: u32, inner: Inner) -> (Key, bool) {
        const IN_MESSAGE: &[(&[u8], Key)] = &[
            (b"method", Key::Method),
            (b"id", Key::Id),
            (b"params", Key::Params),
            (b"result", Key::Result),
            (b"error", Key::Error),
        ];
        const IN_PARAMS: &[(&[u8], Key)] = &[
            (b"name", Key::Name),
            (b"uri", Key::Uri),
            (b"taskId", Key::TaskId),
            (b"arguments", Key::Arguments),
            (b"_meta", Key::Meta),
            (b"ref", Key::Ref),
        ];
        const IN_META: &[(&[u8], Key)] = &[(b"traceparent", Key::Traceparent)];
        const IN_REF: &[(&[u8], Key)] = &[(b"name", Key::Name), (b"uri", Key::Uri)];
        let keys = match (depth, inner) {
            (1, _) => IN_MESSAGE,
            (2, _) => IN_PARAMS,
            (_, Inner::Ref) => IN_REF,
            _ => IN_META,
        };
        // No watched name begins with a letter that has other variants than its two cases.
        let Some(first) = name.first().map(u8::to_ascii_lowercase) else { return (Key::Other, true) };
        let fits = |wanted: &[u8]| wanted == name || folds_to(name, wanted);
        let found = keys.iter().find(|(wanted, _)| wanted[0] == first && fits(wanted));
        found.map_or((Key::Other, true), |(wanted, key)| (*key, *wanted == name))
    }

    pub(super) const fn slot(self) -> Slot {
        match self {
            Key::Method => Slot::Method,
            Key::Id => Slot::Id,
            Key::Name => Slot::Name,
            Key::Uri => Slot::Uri,
            Key::TaskId => Slot::TaskId,
            Key::Traceparent => Slot::Traceparent,
            Key::Params | Key::Result | Key::Error | Key::Arguments | Key::Meta | Key::Ref | Key::Other => {
                Slot::Nowhere
            }
        }
    }
}

impl Slot {
    pub(super) const fn len_max(self) -> usize {
        match self {
            Slot::Key => KEY_LEN_MAX,
            Slot::Method => METHOD_LEN_MAX,
            Slot::Id => ID_LEN_MAX,
            Slot::Name | Slot::Uri | Slot::TaskId => NAME_LEN_MAX,
            Slot::Traceparent => TRACEPARENT_LEN_MAX,
            Slot::Nowhere => 0,
        }
    }
}

impl Text {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.stage = Stage::Absent;
    }

    pub(super) fn push(&mut self, bytes: &[u8], len_max: usize) {
        match self.stage {
            Stage::Open if self.bytes.len() + bytes.len() <= len_max => self.bytes.extend_from_slice(bytes),
            _ => self.stage = Stage::Unusable,
        }
    }

    pub(super) fn close(&mut self) {
        if self.stage == Stage::Open {
            self.stage = Stage::Whole;
        }
    }
}

/// Whether two names are equal except for case, by the rules of Go's `encoding/json`, which also matches the long s
/// (U+017F) with s and the Kelvin sign (U+212A) with k.
#[must_use]
pub fn folds_to(name: &[u8], wanted: &[u8]) -> bool {
    let mut rest = name;
    for letter in wanted {
        let taken = match (letter.to_ascii_lowercase(), rest) {
            (b's', [0xc5, 0xbf, ..]) => 2,
            (b'k', [0xe2, 0x84, 0xaa, ..]) => 3,
            (lower, [byte, ..]) if byte.to_ascii_lowercase() == lower => 1,
            _ => return false,
        };
        rest = &rest[taken..];
    }
    rest.is_empty()
}
