//! Checks the arguments of calls: against the schema of the rule that allows them, and for what the policy looks for in texts.

use std::rc::Rc;

use crate::base::Clock;
use crate::policy::tools::arguments::Misfit;
use crate::policy::tools::ceilings::CeilingReached;
use crate::policy::tools::decision::{Asked, ToolDecision};
use crate::policy::tools::json_text::Unreadable;
use crate::policy::tools::sanitise::{SanitiseFound, SanitiseKind, SanitiseMode, ScanTime, ScanTimer};
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
        self.check_arguments_finding(decision, asked, message, (&mut SanitiseFound::default(), || None))
    }

    /// The same, and adds what is found in the texts of the arguments, within the time of the policy by this clock. They are passed on
    /// as they are, or not at all.
    ///
    /// # Errors
    ///
    /// If servers may read the arguments differently.
    pub fn check_arguments_finding(
        &self,
        decision: ToolDecision,
        asked: &Asked<'_>,
        message: &[u8],
        (all, clock): (&mut SanitiseFound, impl FnOnce() -> Option<Rc<dyn Clock>>),
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
        let time = clock().map_or_else(ScanTime::default, |clock| ScanTime::new(clock, false));
        let look = |timer: &mut ScanTimer<'_>| rules.look_at_arguments(message, timer);
        let found = time.within(rules.scan_time_max, look).map_err(|Unreadable| UnreadableArguments)?;
        all.add_flags(&found);
        if found.changed(SanitiseKind::TooSlow) > 0 {
            return Ok(reached(decision, CeilingReached::Arguments("looking at their texts takes too long".into())));
        }
        match found.changed_kinds() {
            kinds if kinds.is_empty() || rules.arguments == SanitiseMode::Flag => Ok(decision),
            kinds => Ok(reached(decision, CeilingReached::Arguments(format!("they contain {kinds}").into()))),
        }
    }
}
