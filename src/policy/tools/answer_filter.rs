//! Filters the answers to one request: enforces size limits, removes items that the caller may not use from lists, and sanitises
//! texts.

use std::sync::Arc;

use crate::policy::tools::answer_note::{AnswerNote, AnswerWithheld};
use crate::policy::tools::cedar::CedarCaller;
use crate::policy::tools::list_filter::{ListFilter, UnreadableList};
use crate::policy::tools::roles::RoleSet;
use crate::policy::tools::tool_policy::ToolPolicy;

/// The filter for the answers to one request.
#[derive(Clone, Debug)]
pub struct AnswerFilter {
    policy: Arc<ToolPolicy>,
    lists: Option<ListFilter>,
    /// `None` if texts are not scanned and answers have no limit.
    note: Option<AnswerNote>,
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
        (has_lists || note.is_some()).then(|| AnswerFilter { policy: Arc::clone(policy), lists, note })
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

    /// Filters an answer, or the answers of a batch. `None` if nothing changes. The bytes that remain are unchanged.
    ///
    /// # Errors
    ///
    /// If the answer cannot be parsed or exceeds the limit of the rule.
    pub fn apply(&self, answer: &[u8]) -> Result<Option<Vec<u8>>, AnswerWithheld> {
        self.note.as_ref().map_or(Ok(()), |note| note.check_rows(answer))?;
        let listed = self.lists.as_ref().map_or(Ok(None), |lists| lists.apply(answer))?;
        let (Some(rules), Some(note)) = (&self.policy.sanitise, &self.note) else { return Ok(listed) };
        let cleaned = note.finding(|found| rules.apply(listed.as_deref().unwrap_or(answer), found))?;
        Ok(cleaned.or(listed))
    }
}
