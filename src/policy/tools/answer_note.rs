//! The findings in the answers to a request, for its log line and counters.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use crate::policy::tools::answer_ceiling::{AnswerCeiling, BYTES_KEY, Over, ROWS_KEY};
use crate::policy::tools::answer_cut::Uncut;
use crate::policy::tools::json_text::Unreadable;
use crate::policy::tools::sanitise::SanitiseFound;
use crate::wire::http1::BodyError;

/// The findings in the answers to one request. Copies share the same note.
#[derive(Clone, Debug, Default)]
pub struct AnswerNote(Rc<Note>);

#[derive(Debug, Default)]
struct Note {
    /// The limits for answers, from the rule that allows the request.
    ceiling: Option<Arc<AnswerCeiling>>,
    found: Cell<SanitiseFound>,
    /// The bytes that were received, or passed on where answers are cut.
    bytes: Cell<u64>,
    is_cut: Cell<bool>,
    reached: Cell<Option<&'static str>>,
}

/// Why an answer is withheld.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerWithheld {
    /// The answer cannot be parsed, or has more than one reading.
    Unreadable,
    /// The answer exceeds a limit of the rule.
    OverCeiling,
}

impl From<Unreadable> for AnswerWithheld {
    fn from(Unreadable: Unreadable) -> AnswerWithheld {
        AnswerWithheld::Unreadable
    }
}

impl From<AnswerWithheld> for BodyError {
    fn from(why: AnswerWithheld) -> BodyError {
        match why {
            AnswerWithheld::Unreadable => BodyError::UnreadableList,
            AnswerWithheld::OverCeiling => BodyError::AnswerOverCeiling,
        }
    }
}

impl AnswerNote {
    /// A note for answers with this limit.
    pub(super) fn with(ceiling: Option<Arc<AnswerCeiling>>) -> AnswerNote {
        AnswerNote(Rc::new(Note { ceiling, ..Note::default() }))
    }

    /// The findings in the texts so far.
    #[must_use]
    pub fn found(&self) -> SanitiseFound {
        self.0.found.get()
    }

    /// The key of the limit that an answer exceeded, if any.
    #[must_use]
    pub fn reached(&self) -> Option<&'static str> {
        self.0.reached.get()
    }

    /// Whether an answer was cut because it exceeded a limit.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.0.is_cut.get()
    }

    /// Counts received bytes of an answer.
    pub(super) fn on_bytes(&self, len: usize) -> Result<(), AnswerWithheld> {
        let bytes = self.0.ceiling.as_ref().and_then(|ceiling| ceiling.bytes);
        let Some(bytes) = bytes.filter(|bytes| bytes.over == Over::Refuse) else { return Ok(()) };
        self.count(len, bytes.max)
    }

    /// Counts bytes that are passed on, where an answer is cut.
    pub(super) fn on_passed(&self, len: usize) -> Result<(), AnswerWithheld> {
        let bytes = self.0.ceiling.as_ref().and_then(|ceiling| ceiling.bytes);
        let Some(bytes) = bytes.filter(|bytes| bytes.over == Over::Cut) else { return Ok(()) };
        self.count(len, bytes.max)
    }

    fn count(&self, len: usize, max: u32) -> Result<(), AnswerWithheld> {
        let bytes = self.0.bytes.get() + len as u64;
        self.0.bytes.set(bytes);
        if bytes > u64::from(max) { Err(self.reach(BYTES_KEY)) } else { Ok(()) }
    }

    /// Why an answer is withheld that is too long to be held.
    pub(super) fn too_long(&self) -> AnswerWithheld {
        match &self.0.ceiling {
            Some(ceiling) if ceiling.bytes.is_some() => self.reach(BYTES_KEY),
            _ => AnswerWithheld::Unreadable,
        }
    }

    /// Checks the number of rows of an answer.
    pub(super) fn check_rows(&self, answer: &[u8]) -> Result<(), AnswerWithheld> {
        let Some(ceiling) = &self.0.ceiling else { return Ok(()) };
        if ceiling.is_over_rows(answer)? { Err(self.reach(ROWS_KEY)) } else { Ok(()) }
    }

    /// Cuts an answer, if it exceeds a limit that cuts. `around` is the length of what is sent with it.
    pub(super) fn cut(&self, answer: &[u8], around: usize) -> Result<Option<Vec<u8>>, AnswerWithheld> {
        let Some(ceiling) = self.0.ceiling.as_ref().filter(|ceiling| ceiling.cuts()) else { return Ok(None) };
        let bytes = ceiling.bytes.filter(|bytes| bytes.over == Over::Cut);
        let passed = usize::try_from(self.0.bytes.get()).unwrap_or(usize::MAX).saturating_add(around);
        let room = bytes.map(|bytes| (bytes.max as usize).saturating_sub(passed));
        match ceiling.cut(answer, room) {
            Ok(None) => Ok(None),
            Ok(Some(cut)) => {
                self.0.is_cut.set(true);
                self.0.reached.set(Some(cut.limit));
                Ok(Some(cut.text))
            }
            Err(Uncut::Whole(limit)) => Err(self.reach(limit)),
            Err(Uncut::Unreadable) => Err(AnswerWithheld::Unreadable),
        }
    }

    /// Runs `look` and adds its findings.
    pub(super) fn finding<T>(&self, look: impl FnOnce(&mut SanitiseFound) -> T) -> T {
        let mut found = self.0.found.get();
        let seen = look(&mut found);
        self.0.found.set(found);
        seen
    }

    fn reach(&self, key: &'static str) -> AnswerWithheld {
        self.0.is_cut.set(false);
        self.0.reached.set(Some(key));
        AnswerWithheld::OverCeiling
    }
}
