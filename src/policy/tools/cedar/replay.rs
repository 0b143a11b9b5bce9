//! What Cedar may have said of a recorded call, of which not everything is known.

use std::collections::BTreeSet;

use crate::policy::tools::cedar::caller::CedarCaller;
use crate::policy::tools::cedar::policy_index::PolicyIndex;
use crate::policy::tools::cedar::replay_policies::ReplayPolicies;
use crate::policy::tools::cedar::rules::CedarRules;
use crate::policy::tools::cedar::verdict::{CedarQuestion, CedarVerdict};
use crate::policy::tools::replay_unknown::ReplayUnknown;

impl CedarRules {
    /// The best and the worst that Cedar may have said of a recorded call, and what of it is not known.
    pub(in crate::policy::tools) fn replay(
        &self,
        caller: &CedarCaller,
        question: &CedarQuestion<'_>,
        has_claims: bool,
    ) -> (Vec<CedarVerdict>, BTreeSet<ReplayUnknown>) {
        let known = &self.0.replayed[usize::from(has_claims)];
        let Some(policies) = known.get_or_init(|| ReplayPolicies::new(&self.0.source, has_claims)) else {
            return (vec![CedarVerdict::NotPermitted], BTreeSet::new());
        };
        if question.asked.method == "completion/complete" {
            return (vec![self.decide_listed(caller, question, None)], BTreeSet::new());
        }
        let verdict = |index: &PolicyIndex| self.decide_with(caller, question, Vec::new(), (index, None), &|_| false);
        let (best, worst) = (verdict(&policies.best), verdict(&policies.worst));
        let is_permitted = |verdict: &CedarVerdict| matches!(verdict, CedarVerdict::Permitted(_));
        if is_permitted(&best) == is_permitted(&worst) {
            return (vec![best], BTreeSet::new());
        }
        (vec![best, worst], policies.unknown.clone())
    }
}
