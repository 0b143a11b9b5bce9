//! Checks texts that operators supply with a change: names and reasons.

/// The maximum length of a reason, in characters. It always fits into the audit log.
pub(super) const REASON_LEN_MAX: usize = 500;
/// The maximum length of an approver's name, in characters.
const BY_LEN_MAX: usize = 128;

/// Why a text cannot be written to the audit log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnfitText {
    /// The text is empty or too long.
    #[error("{what} must have 1 to {len_max} characters")]
    Length {
        /// The name of the member.
        what: &'static str,
        /// The maximum length, in characters.
        len_max: usize,
    },
    /// The text has a control character.
    #[error("{what} must not contain control characters")]
    Control {
        /// The name of the member.
        what: &'static str,
    },
}

/// Checks the member `what` of a request, of at most `len_max` characters.
///
/// # Errors
///
/// If the text is empty, too long, or has a control character.
pub(super) fn checked_text(what: &'static str, text: &str, len_max: usize) -> Result<(), UnfitText> {
    if !(1..=len_max).contains(&text.chars().count()) {
        return Err(UnfitText::Length { what, len_max });
    }
    if text.chars().any(char::is_control) {
        return Err(UnfitText::Control { what });
    }
    Ok(())
}

/// Checks the reason for a change.
///
/// # Errors
///
/// The errors of [`checked_text`].
pub(super) fn checked_reason(reason: Option<&String>) -> Result<(), UnfitText> {
    reason.map_or(Ok(()), |reason| checked_text("reason", reason, REASON_LEN_MAX))
}

/// Checks the name of an approver.
///
/// # Errors
///
/// The errors of [`checked_text`].
pub(super) fn checked_by(by: &str) -> Result<(), UnfitText> {
    checked_text("by", by, BY_LEN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::ActionLine;

    #[test]
    fn the_longest_texts_are_written_to_the_audit_log_to_their_end() {
        let (by, why) = ("\u{10348}".repeat(BY_LEN_MAX), "\u{10348}".repeat(REASON_LEN_MAX - 1) + "!");
        checked_by(&by).unwrap();
        checked_reason(Some(&why)).unwrap();
        for reason in [format!("by {by}: {why}"), format!("sha256 {}: {why}", "0".repeat(64))] {
            let body = ActionLine { action: "a", reason: Some(&reason), ..ActionLine::default() }.body();
            let line = String::from_utf8(body).unwrap();
            assert!(line.contains(&reason), "the line ends before its reason does: {} bytes", line.len());
        }
        let long = "x".repeat(REASON_LEN_MAX + 1);
        assert!(matches!(checked_reason(Some(&long)), Err(UnfitText::Length { what: "reason", len_max: 500 })));
        assert!(checked_reason(Some(&String::new())).is_err() && checked_reason(None).is_ok());
        assert_eq!(checked_by("a\nb"), Err(UnfitText::Control { what: "by" }));
    }
}
