use crate::wire::mux::OpenError;

/// Why a call could not be opened on a carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOpenError {
    /// The carrier is at its limit of calls.
    Full,
    /// It takes no new calls.
    Draining,
    /// The carrier is not ready, or has ended, or its protocol cannot express the call.
    Unusable,
}

impl From<OpenError> for CallOpenError {
    fn from(error: OpenError) -> CallOpenError {
        match error {
            OpenError::StreamLimit => CallOpenError::Full,
            OpenError::Draining => CallOpenError::Draining,
            _ => CallOpenError::Unusable,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_whether_another_link_could_take_the_call() {
        for (error, known) in [
            (OpenError::StreamLimit, CallOpenError::Full),
            (OpenError::Draining, CallOpenError::Draining),
            (OpenError::NotReady, CallOpenError::Unusable),
            (OpenError::Unsendable, CallOpenError::Unusable),
        ] {
            assert_eq!(CallOpenError::from(error), known);
        }
    }
}
