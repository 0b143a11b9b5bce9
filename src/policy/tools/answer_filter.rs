//! Filters the answers to one request: enforces size limits, removes items that the caller may not use from lists, and sanitises
//! texts.

use std::rc::Rc;
use std::sync::Arc;

use crate::base::Clock;
use crate::policy::tools::answer_note::{AnswerNote, AnswerWithheld};
use crate::policy::tools::cedar::CedarCaller;
use crate::policy::tools::list_filter::{ListFilter, UnreadableList};
use crate::policy::tools::roles::RoleSet;
use crate::policy::tools::sanitise::ScanTime;
use crate::policy::tools::tool_policy::ToolPolicy;

/// The filter for the answers to one request.
#[derive(Clone, Debug)]
pub struct AnswerFilter {
    policy: Arc<ToolPolicy>,
    lists: Option<ListFilter>,
    /// `None` if texts are not scanned and answers have no limit.
    note: Option<AnswerNote>,
    time: ScanTime,
}

impl From<UnreadableList> for AnswerWithheld {
    fn from(UnreadableList: UnreadableList) -> AnswerWithheld {
        AnswerWithheld::Unreadable
    }
}

impl AnswerFilter {
    /// A filter for a caller with these roles, who is prepared for Cedar if the policy has it. `note` sets the limit of the answers and receives the findings in their texts.
    /// `None` if the filter would change nothing.
    #[must_use]
    pub fn new(
        policy: &Arc<ToolPolicy>,
        (roles, cedar): (RoleSet, Option<&Arc<CedarCaller>>),
        has_lists: bool,
        note: Option<&AnswerNote>,
    ) -> Option<AnswerFilter> {
        let lists = has_lists.then(|| ListFilter::new(Arc::clone(policy), roles, cedar.cloned()));
        let note = note.cloned();
        (has_lists || note.is_some()).then(|| AnswerFilter {
            policy: Arc::clone(policy),
            lists,
            note,
            time: ScanTime::default(),
        })
    }

    /// Limits the time for texts by this clock. `is_standing` says that messages of a stream belong to different calls, so that each
    /// has the time for itself.
    #[must_use]
    pub fn timed(self, clock: impl FnOnce() -> Rc<dyn Clock>, is_standing: bool) -> AnswerFilter {
        match self.policy.sanitise {
            Some(_) => AnswerFilter { time: ScanTime::new(clock(), is_standing), ..self },
            None => self,
        }
    }

    /// Whether the answer may be a list that is filtered.
    #[must_use]
    pub fn filters_lists(&self) -> bool {
        self.lists.is_some()
    }

    /// Counts received bytes of an answer.
    ///
    /// # Errors
    ///
    /// If the answer exceeds the limit of the rule.
    pub fn on_bytes(&self, len: usize) -> Result<(), AnswerWithheld> {
        self.note.as_ref().map_or(Ok(()), |note| note.on_bytes(len))
    }

    /// Why an answer is withheld that is too long to be held.
    #[must_use]
    pub fn too_long(&self) -> AnswerWithheld {
        self.note.as_ref().map_or(AnswerWithheld::Unreadable, AnswerNote::too_long)
    }

    /// Filters an answer, or the answers of a batch. `None` if nothing changes. The bytes that remain are unchanged.
    ///
    /// # Errors
    ///
    /// If the answer cannot be parsed or exceeds the limit of the rule.
    pub fn apply(&self, answer: &[u8]) -> Result<Option<Vec<u8>>, AnswerWithheld> {
        self.apply_within(answer, 0)
    }

    /// Filters an answer that is sent with `around` other bytes.
    pub(super) fn apply_within(&self, answer: &[u8], around: usize) -> Result<Option<Vec<u8>>, AnswerWithheld> {
        self.note.as_ref().map_or(Ok(()), |note| note.check_rows(answer))?;
        let listed = self.lists.as_ref().map_or(Ok(None), |lists| lists.apply(answer))?;
        let Some(note) = &self.note else { return Ok(listed) };
        let cleaned = match &self.policy.sanitise {
            Some(rules) => {
                let before = listed.as_deref().unwrap_or(answer);
                let look = || {
                    note.finding(|found| {
                        self.time.within(rules.scan_time_max, |timer| rules.apply(before, found, timer))
                    })
                };
                match look()? {
                    Some(cleaned) => Some(note.fitted(before, cleaned)?),
                    None => listed,
                }
            }
            None => listed,
        };
        // What is cut has been sanitised, so that nothing hides behind the place where it is cut.
        let held = note.hold_results(cleaned.as_deref().unwrap_or(answer))?.or(cleaned);
        let cut = note.cut(held.as_deref().unwrap_or(answer), around)?;
        Ok(cut.or(held))
    }

    /// Counts bytes that are passed on.
    pub(super) fn on_passed(&self, len: usize) -> Result<(), AnswerWithheld> {
        self.note.as_ref().map_or(Ok(()), |note| note.on_passed(len))
    }
}
