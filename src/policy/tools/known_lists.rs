//! A cache of long lists and how they were filtered, because a server sends the same list to everybody.
//!
//! An entry is valid for callers with the same roles, until something is learned on which its decisions depend.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::policy::tools::changes::Changes;
use crate::policy::tools::json_text::Value;
use crate::policy::tools::roles::RoleSet;
use crate::policy::tools::tool_record::OfferKind;

/// The most lists that a policy caches.
const LISTS_MAX: usize = 4;
/// The lengths of the answers that are cached, in bytes. Filtering a shorter one is cheap.
const LIST_LENS: Range<usize> = 16 * 1_024..1 << 20;
/// The longest id of a message, in bytes.
const ID_LEN_MAX: usize = 64;

/// The lists kept for a policy, the last used first. They are shared by all cores.
#[derive(Debug, Default)]
pub(super) struct KnownLists(Mutex<Vec<Arc<KnownList>>>);

/// What decisions about the elements of a list depend on besides the list, the roles and the rules: a count of the changes of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LearnedCounts {
    pub(super) hints: u64,
    pub(super) schemas: u64,
    pub(super) inventory: u64,
}

/// An answer with lists that was filtered.
#[derive(Debug)]
pub(super) struct KnownList {
    roles: RoleSet,
    learned: LearnedCounts,
    answer: Box<[u8]>,
    /// Where the id of its message is, which differs from answer to answer.
    id: Range<usize>,
    changes: Changes<'static>,
    /// The elements, for an inventory.
    pub(super) offers: Box<[(OfferKind, Box<str>)]>,
    /// Up to which stamp the inventory knows that they were listed again.
    listed: AtomicU64,
}

impl KnownLists {
    /// Whether an answer of this length may be kept.
    pub(super) fn may_keep(len: usize) -> bool {
        LIST_LENS.contains(&len)
    }

    /// The list of this answer, if it is known.
    pub(super) fn find(&self, roles: RoleSet, learned: LearnedCounts, answer: &[u8]) -> Option<Arc<KnownList>> {
        let is_same = |list: &KnownList| list.roles == roles && list.learned == learned && list.id_in(answer).is_some();
        let kept: Vec<Arc<KnownList>> = self.lock().clone();
        // The texts are compared without the lock.
        let found = kept.into_iter().find(|list| is_same(list))?;
        let mut kept = self.lock();
        if let Some(at) = kept.iter().position(|list| Arc::ptr_eq(list, &found)) {
            kept[..=at].rotate_right(1);
        }
        Some(found)
    }

    /// Keeps a list, in the place of the one that was not used for the longest time.
    pub(super) fn keep(&self, list: KnownList) {
        let mut kept = self.lock();
        // What was learned before is never right again.
        kept.retain(|known| known.learned == list.learned);
        kept.truncate(LISTS_MAX - 1);
        kept.insert(0, Arc::new(list));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<KnownList>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KnownList {
    /// An answer and the changes to it. `offers` are its elements, if there is an inventory. `None` if it is not one message
    /// with an id, or if the id is changed.
    pub(super) fn new(
        roles: RoleSet,
        learned: LearnedCounts,
        (answer, message): (&[u8], &Value<'_>),
        changes: Changes<'static>,
        offers: Vec<(OfferKind, Box<str>)>,
    ) -> Option<KnownList> {
        let id = message.member("id").ok()??.value.range();
        let is_apart = |part: &Range<usize>| part.end <= id.start || part.start >= id.end;
        let is_kept = changes.parts().all(is_apart) && id_len(&answer[id.start..]) == Some(id.len());
        let (offers, answer) = (offers.into(), answer.into());
        is_kept.then(|| KnownList { roles, learned, answer, id, changes, offers, listed: AtomicU64::new(0) })
    }

    /// Where the id of an answer is, if the answer is this one with any id.
    fn id_in(&self, answer: &[u8]) -> Option<Range<usize>> {
        let (before, behind) = (self.answer.get(..self.id.start)?, self.answer.get(self.id.end..)?);
        let rest = answer.strip_prefix(before)?;
        let len = id_len(rest)?;
        (rest[len..] == *behind).then(|| before.len()..before.len() + len)
    }

    /// What becomes of an answer that is this one with any id; `None` if it stays as it is.
    pub(super) fn filtered(&self, answer: &[u8]) -> Option<Vec<u8>> {
        let id = self.id_in(answer)?;
        self.changes.moved(self.id.end, id.end).apply(answer)
    }

    /// Whether its elements have not been listed since this stamp of the inventory. From now on they have.
    pub(super) fn is_listed_anew(&self, stamp: u64) -> bool {
        self.listed.swap(stamp, Ordering::Relaxed) != stamp
    }
}

/// The length of the id at the start: an integer, or a text without escapes.
fn id_len(text: &[u8]) -> Option<usize> {
    let text = &text[..text.len().min(ID_LEN_MAX)];
    if text.first() == Some(&b'"') {
        let is_plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        let len = 1 + text[1..].iter().take_while(|byte| is_plain(byte)).count();
        return (text.get(len) == Some(&b'"')).then_some(len + 1);
    }
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    // Behind the digits of an integer is nothing that belongs to a number.
    let ends = !text.get(digits).is_none_or(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-'));
    (digits > 0 && ends).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_id_is_certain() {
        for (text, want) in [
            ("17,", Some(2)),
            ("0}", Some(1)),
            ("\"a-1\",", Some(5)),
            ("\"\"}", Some(2)),
            ("1.5,", None),
            ("1e3,", None),
            ("-1,", None),
            ("null,", None),
            ("17", None),
            ("\"a\\\"b\",", None),
            ("\"\u{e9}\",", None),
            ("\"a", None),
            ("", None),
        ] {
            assert_eq!(id_len(text.as_bytes()), want, "{text}");
        }
        assert_eq!(id_len(format!("{}1,", "1".repeat(ID_LEN_MAX)).as_bytes()), None);
    }
}
