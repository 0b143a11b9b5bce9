//! What becomes of the answers to one request: lists without what the caller may not use, texts without what nobody should see.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use crate::policy::tools::list_filter::{ListFilter, UnreadableList};
use crate::policy::tools::roles::RoleSet;
use crate::policy::tools::sanitise::SanitiseFound;
use crate::policy::tools::tool_policy::ToolPolicy;

/// What is changed of the answers to one request.
#[derive(Clone, Debug)]
pub struct AnswerFilter {
    policy: Arc<ToolPolicy>,
    lists: Option<ListFilter>,
    /// None if texts are not looked at.
    note: Option<AnswerNote>,
}

/// What was noted of the answers to one request. All copies are the same note.
#[derive(Clone, Debug, Default)]
pub struct AnswerNote(Rc<Cell<SanitiseFound>>);

impl AnswerNote {
    /// What was found in their texts so far.
    #[must_use]
    pub fn found(&self) -> SanitiseFound {
        self.0.get()
    }
}

impl AnswerFilter {
    /// A filter for a caller with these roles, of whose answers the lists are filtered or not. What the policy finds in their texts is
    /// added to `note`; without one they are not looked at. None if nothing can change.
    #[must_use]
    pub fn new(
        policy: &Arc<ToolPolicy>,
        roles: RoleSet,
        has_lists: bool,
        note: Option<&AnswerNote>,
    ) -> Option<AnswerFilter> {
        let lists = has_lists.then(|| ListFilter::new(Arc::clone(policy), roles));
        let note = note.filter(|_| policy.sanitise.is_some()).cloned();
        (has_lists || note.is_some()).then(|| AnswerFilter { policy: Arc::clone(policy), lists, note })
    }

    /// Whether the answer may be a list, of which only a part is sent.
    #[must_use]
    pub fn filters_lists(&self) -> bool {
        self.lists.is_some()
    }

    /// The answer, or the answers of a batch, as the caller is sent them. None if there is nothing to change. Of what is left every
    /// byte stays as it is.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or may be read in different ways.
    pub fn apply(&self, answer: &[u8]) -> Result<Option<Vec<u8>>, UnreadableList> {
        let listed = self.lists.as_ref().map_or(Ok(None), |lists| lists.apply(answer))?;
        let (Some(rules), Some(AnswerNote(note))) = (&self.policy.sanitise, &self.note) else { return Ok(listed) };
        let mut found = note.get();
        let cleaned = rules.apply(listed.as_deref().unwrap_or(answer), &mut found);
        note.set(found);
        Ok(cleaned?.or(listed))
    }
}
