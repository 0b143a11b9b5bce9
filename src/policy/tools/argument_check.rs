//! Checks the arguments of calls: against the schema of the rule that allows them, and for what the policy looks for in texts.

use crate::policy::tools::arguments::Misfit;
use crate::policy::tools::ceilings::CeilingReached;
use crate::policy::tools::decision::{Asked, ToolDecision};
use crate::policy::tools::json_text::Unreadable;
use crate::policy::tools::sanitise::{SanitiseFound, SanitiseMode};
use crate::policy::tools::tool_policy::{ToolPolicy, UnreadableArguments, reached};

impl ToolPolicy {
    /// Checks the arguments of an allowed request against the rule that allows it. `message` is the complete message.
    ///
    /// # Errors
    ///
    /// If servers may read the arguments differently.
    pub fn check_arguments(
        &self,
        decision: ToolDecision,
        asked: &Asked<'_>,
        message: &[u8],
    ) -> Result<ToolDecision, UnreadableArguments> {
        self.check_arguments_finding(decision, asked, message, &mut SanitiseFound::default())
    }

    /// The same, and adds what is found in the texts of the arguments. They are passed on as they are, or not at all.
    ///
    /// # Errors
    ///
    /// If servers may read the arguments differently.
    pub fn check_arguments_finding(
        &self,
        decision: ToolDecision,
        asked: &Asked<'_>,
        message: &[u8],
        all: &mut SanitiseFound,
    ) -> Result<ToolDecision, UnreadableArguments> {
        let ceilings = self.ceilings_of(&decision).filter(|_| asked.has_arguments());
        let schema = ceilings.and_then(|ceilings| ceilings.arguments.as_ref());
        match schema.map_or(Ok(()), |schema| schema.check_message(message)) {
            Ok(()) => {}
            Err(Misfit::Unreadable) => return Err(UnreadableArguments),
            Err(Misfit::Wrong(why)) => return Ok(reached(decision, CeilingReached::Arguments(why.into()))),
        }
        let rules = self.sanitise.as_ref().filter(|_| decision.is_allowed() && self.looks_at_arguments(asked));
        let Some(rules) = rules else { return Ok(decision) };
        let found = rules.look_at_arguments(message).map_err(|Unreadable| UnreadableArguments)?;
        all.add_flags(&found);
        match found.changed_kinds() {
            kinds if kinds.is_empty() || rules.arguments == SanitiseMode::Flag => Ok(decision),
            kinds => Ok(reached(decision, CeilingReached::Arguments(format!("they contain {kinds}").into()))),
        }
    }
}
