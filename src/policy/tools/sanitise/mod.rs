//! Sanitises texts of messages: removes invisible characters, secrets and personal data.

mod found;
mod invisible;
mod message;
mod numbers;
mod rules;
mod secrets;

pub use found::{SanitiseFound, SanitiseKind};
pub use message::redacted_arguments;
pub(super) use rules::{OwnPattern, SanitiseMode, SanitiseRules};

#[cfg(test)]
mod tests;
