//! What a recorded call does not tell.

/// Data of a call that a record lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReplayUnknown {
    /// The scopes and claims of the caller.
    Claims,
    /// The annotations of the tool.
    Annotations,
    /// The arguments, which are recorded only as a hash.
    Arguments,
    /// The time of the call, which policies in Cedar can depend on.
    #[cfg_attr(not(feature = "cedar"), allow(dead_code, reason = "only Cedar asks for it"))]
    Time,
}

impl ReplayUnknown {
    /// The name for people and programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ReplayUnknown::Claims => "claims",
            ReplayUnknown::Annotations => "annotations",
            ReplayUnknown::Arguments => "arguments",
            ReplayUnknown::Time => "time",
        }
    }
}
