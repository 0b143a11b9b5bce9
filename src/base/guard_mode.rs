use std::fmt;
use std::str::FromStr;

/// The mode of deadlines and circuit breakers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum GuardMode {
    /// Nothing is learned, and no call is ended or refused.
    Off,
    /// Calls that would be ended or refused are counted.
    #[default]
    Observe,
    /// Calls are ended or refused.
    Enforce,
}

/// The error for a text that names no mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a guard is off, observe or enforce")]
pub struct GuardModeError;

impl GuardMode {
    /// All modes, in the order of declaration.
    pub const ALL: [GuardMode; 3] = [GuardMode::Off, GuardMode::Observe, GuardMode::Enforce];

    /// The name in settings and the API. It does not change between releases.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            GuardMode::Off => "off",
            GuardMode::Observe => "observe",
            GuardMode::Enforce => "enforce",
        }
    }
}

impl fmt::Display for GuardMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for GuardMode {
    type Err = GuardModeError;

    fn from_str(text: &str) -> Result<GuardMode, GuardModeError> {
        GuardMode::ALL.into_iter().find(|mode| mode.name() == text).ok_or(GuardModeError)
    }
}
