//! Evaluates a policy for a recorded call.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::identity::{AgentIdentity, IdentityProof};
use crate::policy::tools::cedar::{CallerFacts, CedarQuestion, CedarVerdict};
use crate::policy::tools::decision::{Asked, Target, ToolDecision};
use crate::policy::tools::hints::ToolHints;
use crate::policy::tools::replay_unknown::ReplayUnknown;
use crate::policy::tools::roles::{CallerOrigin, RoleSet};
use crate::policy::tools::tool_policy::ToolPolicy;

/// The maximum number of uncertain roles for which every combination is tried.
const UNSURE_ROLES_MAX: u32 = 8;

/// A recorded call: it has no scopes, claims or arguments, and no annotations of its tool.
#[derive(Clone, Debug)]
pub struct RecordedCall<'a> {
    /// The request of the call.
    pub asked: Asked<'a>,
    /// The address of the caller.
    pub address: Option<IpAddr>,
    /// The name of the edge, as its certificate has proven it.
    pub edge: Option<&'a str>,
    /// The identity of the caller, without scopes and claims.
    pub identity: Option<AgentIdentity>,
}

/// The outcome of a call, apart from limits that depend on earlier calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallFate {
    /// The call is passed on.
    Allowed,
    /// The call waits for approval.
    NeedsApproval,
    /// The call is denied and reaches no server.
    Denied,
}

/// The possible outcomes of a recorded call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplayedCall {
    /// All possible outcomes, each with the deciding rule. There is more than one if the outcome depends on data that the record
    /// lacks.
    pub possible: BTreeSet<(CallFate, Option<Arc<str>>)>,
    /// The missing data that the outcome depends on.
    pub depends_on: BTreeSet<ReplayUnknown>,
}

impl RecordedCall<'_> {
    fn origin(&self) -> CallerOrigin<'_> {
        CallerOrigin { address: self.address, edge: self.edge }
    }
}

impl CallFate {
    /// The name for people and programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            CallFate::Allowed => "allowed",
            CallFate::NeedsApproval => "approval",
            CallFate::Denied => "denied",
        }
    }
}

impl ToolPolicy {
    /// The possible outcomes of a recorded call. Rates, counts and tool approvals are not evaluated.
    #[must_use]
    pub fn replay(&self, call: &RecordedCall<'_>) -> ReplayedCall {
        let mut replayed = ReplayedCall::default();
        let sure = self.roles_of(call.origin(), call.identity.as_ref());
        let unsure: Vec<RoleSet> = self.unsure_roles(call, sure);
        if unsure.len() > UNSURE_ROLES_MAX as usize {
            let all = [CallFate::Allowed, CallFate::NeedsApproval, CallFate::Denied];
            replayed.possible.extend(all.map(|fate| (fate, None)));
            replayed.depends_on.insert(ReplayUnknown::Claims);
            return replayed;
        }
        let mut of_first_roles = None;
        for chosen in 0..1_u32 << unsure.len() {
            let has = |(at, _): &(usize, &RoleSet)| chosen >> at & 1 == 1;
            let roles = unsure.iter().enumerate().filter(has).fold(sure, |all, (_, role)| all.and(*role));
            let mut of_roles = BTreeSet::new();
            for hints in self.possible_hints(&call.asked) {
                let decision = self.decide_with(roles, &call.asked, |_| hints);
                let fates = self.replay_cedar(call, roles, &decision, &mut replayed.depends_on);
                match &fates[..] {
                    [] => drop(of_roles.insert(self.fate_of(&decision))),
                    [fate] => drop(of_roles.insert(fate.clone())),
                    // What Cedar does not know has been said.
                    unsure => replayed.possible.extend(unsure.iter().cloned()),
                }
                if self.checks_arguments(&decision, &call.asked) {
                    replayed.depends_on.insert(ReplayUnknown::Arguments);
                    replayed.possible.insert((CallFate::Denied, decision.rule().map(|rule| Arc::clone(&rule.name))));
                }
            }
            if of_roles.len() > 1 {
                replayed.depends_on.insert(ReplayUnknown::Annotations);
            }
            if *of_first_roles.get_or_insert_with(|| of_roles.clone()) != of_roles {
                replayed.depends_on.insert(ReplayUnknown::Claims);
            }
            replayed.possible.extend(of_roles);
        }
        replayed
    }

    /// The outcomes that Cedar leaves of a call that the lists allow; none if it says nothing.
    fn replay_cedar(
        &self,
        call: &RecordedCall<'_>,
        roles: RoleSet,
        decision: &ToolDecision,
        depends_on: &mut BTreeSet<ReplayUnknown>,
    ) -> Vec<(CallFate, Option<Arc<str>>)> {
        let identity = call.identity.as_ref();
        let facts = CallerFacts { identity, address: call.address, unix: Duration::ZERO };
        let caller = if decision.is_allowed() { self.cedar_caller(roles, &facts) } else { None };
        let (Some(cedar), Some(caller)) = (&self.cedar, caller) else { return Vec::new() };
        let question = CedarQuestion { asked: call.asked, place: &self.place, hints: None };
        let has_claims = identity.is_some_and(|identity| identity.proof != IdentityProof::Key);
        let (verdicts, unknown) = cedar.replay(&caller, &question, has_claims);
        depends_on.extend(unknown);
        let fate = |verdict| match verdict {
            CedarVerdict::Permitted(rule) => {
                let (fate, own) = self.fate_of(decision);
                (fate, own.or(rule.map(|rule| rule.name)))
            }
            CedarVerdict::Forbidden { rule, .. } | CedarVerdict::Failed { rule, .. } => {
                (CallFate::Denied, Some(rule.name))
            }
            CedarVerdict::NotPermitted => (CallFate::Denied, None),
        };
        verdicts.into_iter().map(fate).collect()
    }

    /// The sets of roles that the caller may have, depending on its scopes and claims.
    fn unsure_roles(&self, call: &RecordedCall<'_>, sure: RoleSet) -> Vec<RoleSet> {
        let roles = self.roles.iter().enumerate().filter(|(at, _)| !sure.contains(*at));
        let may = roles.filter(|(_, role)| role.may_be_of(call.origin(), call.identity.as_ref()));
        let may = may.map(|(at, _)| RoleSet::one(at));
        let has_scopes = call.identity.as_ref().is_some_and(|identity| identity.proof != IdentityProof::Key);
        let scopes = if has_scopes { self.scopes.len() } else { 0 };
        may.chain((0..scopes).map(RoleSet::one_granted)).collect()
    }

    /// The annotations that the tool may have, if a rule depends on any.
    fn possible_hints(&self, asked: &Asked<'_>) -> Vec<ToolHints> {
        if !self.uses_annotations() || !matches!(asked.target, Target::Tool(_)) {
            return vec![ToolHints::default()];
        }
        let is = |hints: u8, bit: u8| hints >> bit & 1 == 1;
        let hints = (0..16).map(|hints| ToolHints {
            read_only_hint: is(hints, 0),
            destructive_hint: is(hints, 1),
            idempotent_hint: is(hints, 2),
            open_world_hint: is(hints, 3),
        });
        hints.collect()
    }

    fn fate_of(&self, decision: &ToolDecision) -> (CallFate, Option<Arc<str>>) {
        let fate = match decision.is_allowed() {
            true if self.needs_approval(decision) => CallFate::NeedsApproval,
            true => CallFate::Allowed,
            false => CallFate::Denied,
        };
        (fate, decision.rule().map(|rule| Arc::clone(&rule.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::IdentityProof;

    fn call<'a>(asked: Asked<'a>, subject: Option<&str>) -> RecordedCall<'a> {
        let identity = subject.map(|subject| AgentIdentity {
            subject: subject.into(),
            issuer: Some("https://i".into()),
            client: None,
            proof: IdentityProof::Jwt,
            scopes: Arc::new([]),
            claims: Arc::default(),
        });
        RecordedCall { asked, address: Some([10, 0, 0, 1].into()), edge: Some("front.example"), identity }
    }

    fn replay(policy: &str, asked: Asked<'_>, subject: Option<&str>) -> (Vec<(CallFate, String)>, Vec<&'static str>) {
        let policy = ToolPolicy::parse(policy).unwrap_or_else(|faults| panic!("{faults:?}"));
        let call = call(asked, subject);
        let ReplayedCall { possible, depends_on } = policy.replay(&call);
        let with_rule_name =
            |(fate, rule): (_, Option<Arc<str>>)| (fate, rule.map(|rule| rule.to_string()).unwrap_or_default());
        (possible.into_iter().map(with_rule_name).collect(), depends_on.into_iter().map(ReplayUnknown::name).collect())
    }

    #[test]
    fn a_complete_record_gives_one_decision() {
        let policy = "[[role]]\nname='near'\nnetworks=['10.0.0.0/8']\n[[role]]\nname='alice'\nissuer='https://i'\nsubjects=['alice']\n\
                      [[rule]]\nname='near'\neffect='allow'\ntools=['a']\nroles=['near']\n\
                      [[rule]]\nname='hers'\neffect='approve'\ntools=['b']\nroles=['alice']\n";
        let sure = |fate, rule: &str| (vec![(fate, rule.to_owned())], vec![]);
        assert_eq!(replay(policy, Asked::tool("a"), None), sure(CallFate::Allowed, "near"));
        assert_eq!(replay(policy, Asked::tool("b"), None), sure(CallFate::Denied, ""));
        assert_eq!(replay(policy, Asked::tool("b"), Some("alice")), sure(CallFate::NeedsApproval, "hers"));
        assert_eq!(replay(policy, Asked::tool("b"), Some("bob")), sure(CallFate::Denied, ""));
    }

    #[test]
    fn missing_fields_of_a_record_leave_all_possible_decisions() {
        let policy = "[policy]\ntrust_annotations=true\n\
                      [[role]]\nname='staff'\nissuer='https://i'\nclaims={groups='staff'}\n\
                      [[role]]\nname='guest'\nissuer='https://i'\nscopes=['guest']\n\
                      [[rule]]\nname='no-guests'\neffect='deny'\ntools=['s*']\nroles=['guest']\n\
                      [[rule]]\nname='staff'\neffect='allow'\ntools=['s*']\nroles=['staff']\n\
                      [[rule]]\nname='reads'\neffect='allow'\nannotations={read_only=true}\n\
                      [[rule]]\nname='pays'\neffect='allow'\ntools=['pay']\n[rule.arguments]\nproperties.amount.maximum=5\n";
        let rule = |fate, rule: &str| (fate, rule.to_owned());
        let (possible, depends_on) = replay(policy, Asked::tool("s"), Some("alice"));
        let all = [
            rule(CallFate::Allowed, "reads"),
            rule(CallFate::Allowed, "staff"),
            rule(CallFate::Denied, ""),
            rule(CallFate::Denied, "no-guests"),
        ];
        assert_eq!((&possible[..], &depends_on[..]), (&all[..], &["claims", "annotations"][..]));
        // An anonymous caller has no claims.
        assert_eq!(replay(policy, Asked::tool("s"), None).1, ["annotations"]);
        assert_eq!(replay(policy, Asked::prompt("s"), None), (vec![rule(CallFate::Denied, "")], vec![]));
        let (possible, depends_on) = replay(policy, Asked::tool("pay"), None);
        let all = [rule(CallFate::Allowed, "pays"), rule(CallFate::Allowed, "reads"), rule(CallFate::Denied, "pays")];
        assert_eq!((&possible[..], &depends_on[..]), (&all[..], &["annotations", "arguments"][..]));
    }

    #[cfg(feature = "cedar")]
    #[test]
    fn cedar_leaves_all_decisions_possible_for_missing_fields() {
        let cedar = "@id(\"small\") permit(principal, action == Action::\"tools/call\", resource == Tool::\"pay\") when { context.arguments has n && context.arguments.n < 5 };\n\
                     @id(\"staff\") permit(principal in Group::\"https://i|staff\", action, resource == Tool::\"s\");\n\
                     @id(\"alice\") permit(principal == User::\"https://i|alice\", action, resource == Tool::\"a\");\n\
                     @id(\"night\") forbid(principal, action, resource == Tool::\"a\") when { context.time.hour < 6 };\n";
        let rules = crate::policy::CedarRules::parse(cedar).unwrap_or_else(|faults| panic!("{faults:?}"));
        let policy = ToolPolicy::parse_with("", Some(rules)).unwrap();
        let replay = |tool: &str, subject: Option<&str>| {
            let replayed = policy.replay(&call(Asked::tool(tool), subject));
            let possible = replayed.possible.into_iter().map(|(fate, rule)| (fate, rule.map(|rule| rule.to_string())));
            let depends: Vec<_> = replayed.depends_on.into_iter().map(ReplayUnknown::name).collect();
            (possible.collect::<Vec<_>>(), depends)
        };
        let by = |fate, rule: &str| (fate, Some(rule.to_owned()));
        let denied = (CallFate::Denied, None);
        let unknown = vec!["claims", "arguments", "time"];
        let both = |rule| (vec![by(CallFate::Allowed, rule), denied.clone()], unknown.clone());
        assert_eq!(replay("pay", Some("bob")), both("small"));
        assert_eq!(replay("s", Some("bob")), both("staff"));
        assert_eq!(replay("s", None), (vec![denied.clone()], vec![]), "who is nobody is in no group");
        assert_eq!(replay("a", Some("bob")), (vec![denied.clone()], vec![]));
        let night = (vec![by(CallFate::Allowed, "alice"), by(CallFate::Denied, "night")], unknown.clone());
        assert_eq!(replay("a", Some("alice")), night);
        assert_eq!(replay("other", Some("alice")), (vec![denied.clone()], vec![]));
    }

    #[test]
    fn more_roles_than_can_be_tried_leave_everything_possible() {
        let roles: String =
            (0..9).map(|n| format!("[[role]]\nname='r{n}'\nissuer='https://i'\nscopes=['{n}']\n")).collect();
        let policy = format!("{roles}[[rule]]\neffect='allow'\ntools=['a']\n");
        let (possible, depends_on) = replay(&policy, Asked::tool("a"), Some("alice"));
        assert_eq!((possible.len(), &depends_on[..]), (3, &["claims"][..]));
        assert_eq!(replay(&policy, Asked::tool("a"), None).0, [(CallFate::Allowed, "#1".to_owned())]);
    }
}
