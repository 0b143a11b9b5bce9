//! Which caller may call which tool, by the rules of a route.

mod case;
mod check;
mod decision;
mod file;
mod file_reader;
mod hints;
mod pattern;
mod roles;
mod rule;
mod tool_policy;
mod uri;

pub use case::CaseOutcome;
pub use decision::{Asked, Denial, PolicyDigest, RuleId, Target, ToolDecision};
pub use file::POLICY_FILE_LEN_MAX;
pub use file_reader::PolicyFault;
pub use hints::ToolHints;
pub use roles::RoleSet;
pub use tool_policy::{MethodDefault, ToolPolicy};

#[cfg(test)]
mod tests;
