//! Finds parts of a policy that have no effect.

use crate::policy::tools::cedar::CedarRules;
use crate::policy::tools::file_reader::PolicyFault;
use crate::policy::tools::pattern::Patterns;
use crate::policy::tools::roles::RoleSet;
use crate::policy::tools::rule::Rule;
use crate::policy::tools::tool_policy::ToolPolicy;

impl ToolPolicy {
    /// The rules that never decide, and the roles and keys that no rule uses.
    #[must_use]
    pub fn useless(&self) -> Vec<PolicyFault> {
        let mut faults: Vec<PolicyFault> = self.rules.iter().filter_map(|rule| self.useless_rule(rule)).collect();
        let cedar: Vec<(&str, usize)> = self.cedar.iter().flat_map(CedarRules::roles).collect();
        let used = self.rules.iter().fold(RoleSet::default(), |all, rule| all.and(rule.roles));
        for (_, role) in self.roles.iter().enumerate().filter(|(at, _)| !used.contains(*at)) {
            if cedar.iter().any(|(name, _)| **name == *role.name) {
                continue;
            }
            faults.push(PolicyFault { line: role.line, message: format!("no rule names the role {}", role.name) });
        }
        for key in &self.keys {
            let name = &key.identity.subject;
            if self.cedar.is_none() && !self.roles.iter().any(|role| role.keys.matches(name)) {
                faults.push(PolicyFault { line: key.line, message: format!("no role has the key {name}") });
            }
        }
        faults.sort_by_key(|fault| fault.line);
        faults
    }

    /// The names and patterns of tools in rules that match none of these tools of a server.
    #[must_use]
    pub fn unmatched(&self, tools: &[&str]) -> Vec<PolicyFault> {
        let mut faults = Vec::new();
        for rule in &self.rules {
            let is_unknown = |pattern: &&str| {
                let mut one = Patterns::default();
                one.add(pattern);
                !tools.iter().any(|tool| one.matches(tool))
            };
            let mut unknown: Vec<&str> = rule.tools.all().filter(is_unknown).collect();
            unknown.sort_unstable();
            faults.extend(unknown.into_iter().map(|pattern| PolicyFault {
                line: rule.line,
                message: format!("no tool of the server is {pattern:?}, which the rule {} names", rule.id),
            }));
        }
        faults
    }

    /// What is doubtful in the Cedar file, by its lines.
    #[must_use]
    pub fn doubtful_cedar(&self) -> Vec<PolicyFault> {
        let Some(cedar) = &self.cedar else { return Vec::new() };
        let is_known = |name: &str| self.roles.iter().any(|role| *role.name == *name);
        let unknown = cedar.roles().filter(|(name, _)| !is_known(name));
        let unknown = unknown.map(|(name, line)| PolicyFault {
            line,
            message: format!("no [[role]] of the policy file has the name {name:?}"),
        });
        let mut faults: Vec<PolicyFault> = unknown.chain(cedar.warnings().iter().cloned()).collect();
        faults.sort_by_key(|fault| fault.line);
        faults
    }

    fn useless_rule(&self, rule: &Rule) -> Option<PolicyFault> {
        let is_before = |other: &&Rule| other.id.index < rule.id.index && other.effect_rank() == rule.effect_rank();
        let goes_first = |other: &&Rule| other.effect_rank() < rule.effect_rank();
        let by = self.rules.iter().find(|other| (is_before(other) || goes_first(other)) && other.covers(rule))?;
        let what = match (by.is_allow(), by.is_approve() && !rule.is_approve()) {
            (false, _) if rule.is_allow() => "denies all that it allows",
            (true, true) => "asks for approval of all that it allows",
            _ => "decides all that it matches before it",
        };
        let message = format!("the rule {} has no effect: the rule {} (line {}) {what}", rule.id, by.id, by.line);
        Some(PolicyFault { line: rule.line, message })
    }
}
