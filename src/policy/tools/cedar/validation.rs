//! Validates policies with the tools of a server.

use cedar_policy::{ActionConstraint, PolicySet, ResourceConstraint, Schema, ValidationMode, Validator};
use serde_json::Value;

use crate::policy::tools::cedar::entities::EntityKind;
use crate::policy::tools::cedar::reader::fault_of;
use crate::policy::tools::cedar::rules::CedarRules;
use crate::policy::tools::cedar::schema::{groups, schema_of};
use crate::policy::tools::cedar::statements::statements;
use crate::policy::tools::file_reader::PolicyFault;

impl CedarRules {
    /// All faults and warnings that the policies have with these tools, each of which is an element of `tools/list`.
    ///
    /// # Errors
    ///
    /// If no schema can be made of the tools.
    pub fn validate(&self, tools: &[Value]) -> Result<Vec<PolicyFault>, String> {
        let found = statements(self.source());
        let mut faults = Vec::new();
        for (names, types) in groups(tools) {
            let schema = Schema::from_json_value(schema_of(&types)).map_err(|error| error.to_string())?;
            let validator = Validator::new(schema);
            for (at, policy) in self.policies_of_tools() {
                let is_of_group = match policy.resource_constraint() {
                    ResourceConstraint::Eq(uid) => names.iter().any(|name| EntityKind::Tool.uid(name) == uid),
                    _ => true,
                };
                let (Some(statement), Ok(set)) = (found.get(at), PolicySet::from_policies([policy])) else { continue };
                if is_of_group {
                    let result = validator.validate(&set, ValidationMode::Strict);
                    faults.extend(result.validation_errors().map(|error| fault_of(error, statement)));
                    faults.extend(result.validation_warnings().map(|warning| fault_of(warning, statement)));
                }
            }
        }
        let known: Vec<_> = tools.iter().filter_map(|tool| tool["name"].as_str()).collect();
        for (at, policy) in self.policies_of_tools() {
            for uid in policy.entity_literals().iter().filter(|uid| EntityKind::Tool.is_of(uid)) {
                let name: &str = uid.id().as_ref();
                if !known.contains(&name) {
                    let line = found.get(at).map_or(1, |statement| statement.line);
                    faults.push(PolicyFault { line, message: format!("the server has no tool {name:?}") });
                }
            }
        }
        faults.sort_by(|one, other| (one.line, &one.message).cmp(&(other.line, &other.message)));
        faults.dedup();
        Ok(faults)
    }

    /// The policies that may apply to calls of tools, by their place in the file.
    fn policies_of_tools(&self) -> impl Iterator<Item = (usize, cedar_policy::Policy)> {
        let call = EntityKind::Action.uid("tools/call");
        let all = statements(self.source())
            .into_iter()
            .enumerate()
            .filter_map(|(at, statement)| Some((at, cedar_policy::Policy::parse(None, statement.text).ok()?)));
        let all: Vec<_> = all.collect();
        all.into_iter().filter(move |(_, policy)| match policy.action_constraint() {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(action) => action == call,
            ActionConstraint::In(actions) => actions.contains(&call),
        })
    }
}
