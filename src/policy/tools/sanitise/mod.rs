//! Text of messages, cleaned of what nobody sees, of secrets, and of numbers that are nobody else's affair.

mod found;
mod invisible;
mod message;
mod numbers;
mod rules;
mod secrets;

pub use found::{SanitiseFound, SanitiseKind};
pub(super) use rules::{OwnPattern, SanitiseMode, SanitiseRules};

#[cfg(test)]
mod tests;
