//! The policies for recorded calls, without what a record lacks.

use std::collections::BTreeSet;

use cedar_policy::{Effect, Policy, PolicyId};
use serde_json::{Value, json};

use crate::policy::tools::cedar::expression::{Bound, bounded_policy, conditions, has_operand, reads_context};
use crate::policy::tools::cedar::policy_index::PolicyIndex;
use crate::policy::tools::cedar::statements::statements;
use crate::policy::tools::replay_unknown::ReplayUnknown;

/// The policies for the best and for the worst that may be true of a call, and what they do not know.
pub(super) struct ReplayPolicies {
    pub(super) best: PolicyIndex,
    pub(super) worst: PolicyIndex,
    pub(super) unknown: BTreeSet<ReplayUnknown>,
}

impl ReplayPolicies {
    /// The policies without what a record lacks: `has_claims` tells whether the caller has claims and scopes.
    pub(super) fn new(source: &str, has_claims: bool) -> Option<ReplayPolicies> {
        let (mut best, mut worst, mut unknown) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (at, statement) in statements(source).iter().enumerate() {
            let policy = Policy::parse(Some(PolicyId::new(at.to_string())), statement.text).ok()?;
            let form = policy.to_json().ok()?;
            for (kind, reads) in KINDS {
                if (has_claims || *kind != ReplayUnknown::Claims)
                    && (conditions(&form).any(reads)
                        || (*kind == ReplayUnknown::Claims && names_group(&form["principal"])))
                {
                    unknown.insert(*kind);
                }
            }
            let is_permit = policy.effect() == Effect::Permit;
            let (above, below) = if is_permit { (&mut best, &mut worst) } else { (&mut worst, &mut best) };
            above.extend(bounded(&policy, &form, Bound::Above, has_claims));
            below.extend(bounded(&policy, &form, Bound::Below, has_claims));
        }
        let index = |policies: &[Policy]| PolicyIndex::new(policies).ok();
        Some(ReplayPolicies { best: index(&best)?, worst: index(&worst)?, unknown })
    }
}

/// Whether an expression reads what a record may lack.
type Reads = fn(&Value) -> bool;

const KINDS: &[(ReplayUnknown, Reads)] = &[
    (ReplayUnknown::Claims, reads_claims),
    (ReplayUnknown::Annotations, |expression| reads_context(expression, &["annotations"])),
    (ReplayUnknown::Arguments, |expression| reads_context(expression, &["arguments", "decimals"])),
    (ReplayUnknown::Time, |expression| reads_context(expression, &["time"])),
];

/// Whether an expression reads the tags, the scopes or the groups of the caller.
fn reads_claims(expression: &Value) -> bool {
    has_operand(expression, &|operator, operands| match operator {
        "hasTag" | "getTag" => true,
        "." | "has" => operands["attr"] == "scopes",
        "in" => true,
        "is" => operands.get("in").is_some(),
        _ => false,
    })
}

/// Whether the scope of a policy names a group.
fn names_group(scope: &Value) -> bool {
    [&scope["entity"], &scope["in"]["entity"]].iter().any(|entity| entity["type"] == "Group")
}

/// A bound of a policy; none if it may not apply and this is the bound from below.
fn bounded(policy: &Policy, form: &Value, bound: Bound, has_claims: bool) -> Option<Policy> {
    let depends = |expression: &Value| {
        KINDS.iter().any(|(kind, reads)| (has_claims || *kind != ReplayUnknown::Claims) && reads(expression))
    };
    let mut form = bounded_policy(form, bound, &depends);
    if has_claims && names_group(&form["principal"]) {
        if bound == Bound::Below {
            return None;
        }
        form["principal"] = json!({"op": "All"});
    }
    Policy::from_json(Some(policy.id().clone()), form).ok()
}
