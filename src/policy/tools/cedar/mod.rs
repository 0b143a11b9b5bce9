//! Policies in Cedar, the second tier of a route's policy. A build without the feature `cedar` refuses their files.
//!
//! A request passes if the lists allow it and Cedar allows it too. What Cedar reads is built by its API, never from text, so no
//! name can change the meaning of a policy.

#[cfg(not(feature = "cedar"))]
mod absent;
#[cfg(feature = "cedar")]
mod argument_values;
#[cfg(feature = "cedar")]
mod caller;
#[cfg(feature = "cedar")]
mod entities;
#[cfg(feature = "cedar")]
mod expression;
#[cfg(feature = "cedar")]
mod known_entities;
#[cfg(feature = "cedar")]
mod policy_index;
#[cfg(feature = "cedar")]
mod prepared;
#[cfg(feature = "cedar")]
mod principal;
#[cfg(feature = "cedar")]
mod reader;
#[cfg(feature = "cedar")]
mod replay;
#[cfg(feature = "cedar")]
mod replay_policies;
#[cfg(feature = "cedar")]
mod rules;
#[cfg(feature = "cedar")]
mod schema;
#[cfg(feature = "cedar")]
mod statements;
#[cfg(feature = "cedar")]
mod validation;
mod verdict;

#[cfg(not(feature = "cedar"))]
pub(super) use absent::AbsentEntities as KnownEntities;
#[cfg(not(feature = "cedar"))]
pub use absent::{AbsentCaller as CedarCaller, AbsentRules as CedarRules, CEDAR_ABSENT, cedar_schema};
#[cfg(feature = "cedar")]
pub use caller::CedarCaller;
#[cfg(feature = "cedar")]
pub(super) use known_entities::KnownEntities;
#[cfg(feature = "cedar")]
pub use rules::CedarRules;
#[cfg(feature = "cedar")]
pub use schema::cedar_schema;
pub use verdict::CallerFacts;
pub(super) use verdict::{CedarQuestion, CedarVerdict};

/// Why this build reads no Cedar files, if it does not.
#[cfg(feature = "cedar")]
pub const CEDAR_ABSENT: Option<&str> = None;

#[cfg(feature = "cedar")]
#[cfg(test)]
mod tests;
