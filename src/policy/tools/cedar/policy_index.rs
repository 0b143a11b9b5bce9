//! The policies to evaluate for a resource: those whose scope names it or its kind, and those that name none.

use std::collections::HashMap;

use cedar_policy::{ActionConstraint, EntityUid, Policy, PolicySet, PolicySetError, ResourceConstraint};

use crate::policy::tools::cedar::entities::EntityKind;

/// The most policies that the index has of all resources together. With more, all policies are evaluated for each.
const INDEXED_MAX: usize = 20_000;

/// The kinds of resources that are asked about with one action only.
const KINDS: [(EntityKind, &str); 3] =
    [(EntityKind::Tool, "tools/call"), (EntityKind::Prompt, "prompts/get"), (EntityKind::Resource, "resources/read")];

/// Policies by the resource that their scope names. Policies for other resources cannot match, so they are not evaluated.
#[derive(Clone, Debug, Default)]
pub(super) struct PolicyIndex {
    /// The policies that name no resource.
    general: PolicySet,
    /// Those of them that can match a kind of resource with its action.
    by_kind: [PolicySet; KINDS.len()],
    by_resource: HashMap<EntityUid, PolicySet>,
}

impl PolicyIndex {
    pub(super) fn new(policies: &[Policy]) -> Result<PolicyIndex, Box<PolicySetError>> {
        let named = |policy: &Policy| match policy.resource_constraint() {
            ResourceConstraint::Eq(uid) => Some(uid),
            _ => None,
        };
        let named_count = policies.iter().filter(|policy| named(policy).is_some()).count();
        let is_small = named_count * (policies.len() - named_count) <= INDEXED_MAX;
        let is_general = |policy: &&Policy| !is_small || named(policy).is_none();
        let mut index = PolicyIndex {
            general: set_of(policies.iter().filter(is_general))?,
            by_kind: <[PolicySet; KINDS.len()]>::default(),
            by_resource: HashMap::new(),
        };
        for (set, (kind, action)) in index.by_kind.iter_mut().zip(KINDS) {
            *set = set_of(policies.iter().filter(is_general).filter(|policy| may_match(policy, kind, action)))?;
        }
        for policy in policies.iter().filter(|_| is_small) {
            let Some(uid) = named(policy) else { continue };
            let set = match index.by_resource.get_mut(&uid) {
                Some(set) => set,
                None => {
                    let general = index.general_of(&uid).clone();
                    index.by_resource.entry(uid).or_insert(general)
                }
            };
            set.add(policy.clone()).map_err(Box::new)?;
        }
        Ok(index)
    }

    pub(super) fn of(&self, resource: &EntityUid) -> &PolicySet {
        self.by_resource.get(resource).unwrap_or_else(|| self.general_of(resource))
    }

    fn general_of(&self, resource: &EntityUid) -> &PolicySet {
        let kind = KINDS.iter().position(|(kind, _)| kind.is_of(resource));
        kind.map_or(&self.general, |at| &self.by_kind[at])
    }
}

/// Whether the scope of a policy can match a resource of this kind, which is asked about with this action.
fn may_match(policy: &Policy, kind: EntityKind, action: &str) -> bool {
    let is_action = |uid: &EntityUid| AsRef::<str>::as_ref(uid.id()) == action;
    let of_kind = match policy.resource_constraint() {
        ResourceConstraint::Any | ResourceConstraint::In(_) => true,
        ResourceConstraint::Eq(uid) => kind.is_of(&uid),
        ResourceConstraint::Is(name) | ResourceConstraint::IsIn(name, _) => kind.is_named(&name),
    };
    let of_action = match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(uid) => is_action(&uid),
        // An action is in itself.
        ActionConstraint::In(uids) => uids.iter().any(is_action),
    };
    of_kind && of_action
}

pub(super) fn set_of<'a>(policies: impl Iterator<Item = &'a Policy>) -> Result<PolicySet, Box<PolicySetError>> {
    PolicySet::from_policies(policies.cloned()).map_err(Box::new)
}

#[cfg(test)]
mod tests {
    use cedar_policy::{Authorizer, Context, Entities, Entity, PolicyId, Request};

    use super::*;
    use crate::base::Rng;

    /// A policy with any scope.
    fn any(rng: &mut Rng, nth: usize) -> Policy {
        let mut one_of = |choices: &[&'static str]| choices[rng.below(choices.len() as u64) as usize];
        let effect = one_of(&["permit", "permit", "forbid"]);
        let principal = one_of(&["", "", " == User::\"a\"", " is User", " is Key", " in Role::\"r\""]);
        let actions = [
            "",
            "",
            " == Action::\"tools/call\"",
            " == Action::\"prompts/get\"",
            " in [Action::\"tools/call\", Action::\"resources/read\"]",
            " in Action::\"tools/call\"",
            " in [Action::\"ping\"]",
        ];
        let resources = [
            "",
            " == Tool::\"a\"",
            " == Tool::\"b\"",
            " == Prompt::\"a\"",
            " == Resource::\"a\"",
            " == Route::\"h\"",
            " is Tool",
            " is Prompt in Route::\"h\"",
            " in Route::\"h\"",
            " in Tool::\"a\"",
        ];
        let (action, resource) = (one_of(&actions), one_of(&resources));
        let condition = one_of(&["", "", " when { resource has name }", " unless { context.nothing }"]);
        let text = format!("{effect}(principal{principal}, action{action}, resource{resource}){condition};");
        Policy::parse(Some(PolicyId::new(nth.to_string())), &text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn the_policies_for_a_resource_decide_as_all_policies_together() {
        let (mut rng, authorizer, mut smaller) = (Rng::new(17), Authorizer::new(), 0);
        for _ in 0..300 {
            let policies: Vec<Policy> = (0..1 + rng.below(8)).map(|nth| any(&mut rng, nth as usize)).collect();
            let (index, all) = (PolicyIndex::new(&policies).unwrap(), set_of(policies.iter()).unwrap());
            let asked = [
                (EntityKind::Tool, "tools/call"),
                (EntityKind::Prompt, "prompts/get"),
                (EntityKind::Resource, "resources/read"),
                (EntityKind::Route, "tasks/get"),
            ];
            for (kind, action) in asked {
                let resource = kind.uid(["a", "b", "c", "h"][rng.below(4) as usize]);
                let caller = if rng.chance(0.5) { EntityKind::User.uid("a") } else { EntityKind::Key.uid("b") };
                let action = EntityKind::Action.uid(action);
                let request = Request::new(caller.clone(), action, resource.clone(), Context::empty(), None).unwrap();
                let parent = |uid: EntityUid, parent: EntityUid| Entity::new_no_attrs(uid, [parent].into());
                let caller = parent(caller, EntityKind::Role.uid("r"));
                let entities = match kind {
                    EntityKind::Route => vec![caller],
                    _ => vec![caller, parent(resource.clone(), EntityKind::Route.uid("h"))],
                };
                let entities = Entities::from_entities(entities, None).unwrap();
                let decide = |set: &PolicySet| {
                    let response = authorizer.is_authorized(&request, set, &entities);
                    let mut reasons: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
                    let mut errors: Vec<String> = response.diagnostics().errors().map(ToString::to_string).collect();
                    reasons.sort();
                    errors.sort();
                    (response.decision(), reasons, errors)
                };
                let part = index.of(&resource);
                assert_eq!(decide(part), decide(&all), "{all}\n{request:?}");
                smaller += usize::from(part.policies().count() < policies.len());
            }
        }
        assert!(smaller > 300, "{smaller}");
    }
}
