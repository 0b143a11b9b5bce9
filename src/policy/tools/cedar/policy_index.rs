//! The policies to evaluate for a resource: those whose scope names it, and those that name none.

use std::collections::HashMap;

use cedar_policy::{EntityUid, Policy, PolicySet, PolicySetError, ResourceConstraint};

/// The most policies that the index has of all resources together. With more, all policies are evaluated for each.
const INDEXED_MAX: usize = 20_000;

/// Policies by the resource that their scope names. Policies for other resources cannot match, so they are not evaluated.
#[derive(Clone, Debug, Default)]
pub(super) struct PolicyIndex {
    general: PolicySet,
    by_resource: HashMap<EntityUid, PolicySet>,
}

impl PolicyIndex {
    pub(super) fn new(policies: &[Policy]) -> Result<PolicyIndex, Box<PolicySetError>> {
        let named = |policy: &Policy| match policy.resource_constraint() {
            ResourceConstraint::Eq(uid) => Some(uid),
            _ => None,
        };
        let general = set_of(policies.iter().filter(|policy| named(policy).is_none()))?;
        if (policies.len() - general.num_of_policies()) * general.num_of_policies() > INDEXED_MAX {
            return Ok(PolicyIndex { general: set_of(policies.iter())?, by_resource: HashMap::new() });
        }
        let mut by_resource = HashMap::new();
        for policy in policies {
            let Some(uid) = named(policy) else { continue };
            let set = by_resource.entry(uid).or_insert_with(|| general.clone());
            set.add(policy.clone()).map_err(Box::new)?;
        }
        Ok(PolicyIndex { general, by_resource })
    }

    pub(super) fn of(&self, resource: &EntityUid) -> &PolicySet {
        self.by_resource.get(resource).unwrap_or(&self.general)
    }
}

pub(super) fn set_of<'a>(policies: impl Iterator<Item = &'a Policy>) -> Result<PolicySet, Box<PolicySetError>> {
    PolicySet::from_policies(policies.cloned()).map_err(Box::new)
}
