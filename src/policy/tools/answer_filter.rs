//! What becomes of the answers to one request: they may be too large, lists are passed on without what the caller may not use, and
//! texts without what nobody should see.

use std::sync::Arc;

use crate::policy::tools::answer_note::{AnswerNote, AnswerWithheld};
use crate::policy::tools::list_filter::{ListFilter, UnreadableList};
use crate::policy::tools::roles::RoleSet;
use crate::policy::tools::tool_policy::ToolPolicy;

/// What is changed of the answers to one request.
#[derive(Clone, Debug)]
pub struct AnswerFilter {
    policy: Arc<ToolPolicy>,
    lists: Option<ListFilter>,
    /// None if texts are not looked at, and answers may be of any size.
    note: Option<AnswerNote>,
}

impl From<UnreadableList> for AnswerWithheld {
    fn from(UnreadableList: UnreadableList) -> AnswerWithheld {
        AnswerWithheld::Unreadable
    }
}

impl AnswerFilter {
    /// A filter for a caller with these roles, of whose answers the lists are filtered or not. With a `note` the answers are held to its
    /// ceiling, and what the policy finds in their texts is added to it. None if nothing can change.
    #[must_use]
    pub fn new(
        policy: &Arc<ToolPolicy>,
        roles: RoleSet,
        has_lists: bool,
        note: Option<&AnswerNote>,
    ) -> Option<AnswerFilter> {
        let lists = has_lists.then(|| ListFilter::new(Arc::clone(policy), roles));
        let note = note.cloned();
        (has_lists || note.is_some()).then(|| AnswerFilter { policy: Arc::clone(policy), lists, note })
    }

    /// Whether the answer may be a list, of which only a part is sent.
    #[must_use]
    pub fn filters_lists(&self) -> bool {
        self.lists.is_some()
    }

    /// Counts bytes of an answer that are received.
    ///
    /// # Errors
    ///
    /// If they are more than the rule lets it have.
    pub fn on_bytes(&self, len: usize) -> Result<(), AnswerWithheld> {
        self.note.as_ref().map_or(Ok(()), |note| note.on_bytes(len))
    }

    /// The answer, or the answers of a batch, as the caller is sent them. None if there is nothing to change. Of what is left every
    /// byte stays as it is.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or has more than the rule lets it have.
    pub fn apply(&self, answer: &[u8]) -> Result<Option<Vec<u8>>, AnswerWithheld> {
        self.note.as_ref().map_or(Ok(()), |note| note.check_rows(answer))?;
        let listed = self.lists.as_ref().map_or(Ok(None), |lists| lists.apply(answer))?;
        let (Some(rules), Some(note)) = (&self.policy.sanitise, &self.note) else { return Ok(listed) };
        let cleaned = note.finding(|found| rules.apply(listed.as_deref().unwrap_or(answer), found))?;
        Ok(cleaned.or(listed))
    }
}
