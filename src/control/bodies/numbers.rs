//! Deserialization of numbers in requests.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Reads a whole number. A fraction of zero is accepted, because JSON allows it (RFC 8259 section 6).
pub(super) fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = serde_json::Number::deserialize(deserializer)?;
    // Above this limit a fraction could have been lost.
    let exact = |float: &f64| float.fract() == 0.0 && (0.0..=9_007_199_254_740_991.0).contains(float);
    let whole = number.as_u64().or_else(|| number.as_f64().filter(exact).map(|float| float as u64));
    whole.ok_or_else(|| D::Error::custom("expected a whole number, 0 or more"))
}

/// Reads an optional whole number.
pub(super) fn whole_if<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    struct Whole(#[serde(deserialize_with = "whole")] u64);
    Ok(Option::<Whole>::deserialize(deserializer)?.map(|whole| whole.0))
}
