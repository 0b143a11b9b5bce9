//! JSON numbers as servers may read them: exactly as written, or as the nearest double (IEEE 754).

use std::cmp::Ordering;

use crate::policy::tools::json_text::Unreadable;

/// The maximum length of a number, in bytes.
const NUMBER_LEN_MAX: usize = 1_024;
/// Exponents are clamped to this, far beyond the range of doubles and far from overflow.
const EXPONENT_MAX: i64 = 1 << 40;

/// A number as written.
#[derive(Clone, Debug)]
pub(super) struct Number {
    is_negative: bool,
    /// The digits without leading and trailing zeros; empty for zero.
    digits: Box<[u8]>,
    /// The value is `0.digits` times ten to this power.
    exponent: i64,
    double: f64,
}

impl Number {
    /// Parses a number (RFC 8259 section 6).
    pub(super) fn parse(text: &[u8]) -> Result<Number, Unreadable> {
        let (is_negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let (whole, rest) = split_digits(rest);
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => split_digits(rest),
            rest => (&b"0"[..], rest),
        };
        let (is_small, power) = match rest {
            [] => (false, &b"0"[..]),
            [b'e' | b'E', b'-', power @ ..] => (true, power),
            [b'e' | b'E', b'+', power @ ..] | [b'e' | b'E', power @ ..] => (false, power),
            _ => return Err(Unreadable),
        };
        let has_leading_zero = whole.len() > 1 && whole[0] == b'0';
        let is_power = !power.is_empty() && power.iter().all(u8::is_ascii_digit);
        if text.len() > NUMBER_LEN_MAX || whole.is_empty() || has_leading_zero || fraction.is_empty() || !is_power {
            return Err(Unreadable);
        }
        let add = |sum: i64, digit: &u8| (sum * 10 + i64::from(digit - b'0')).min(EXPONENT_MAX);
        let power = power.iter().fold(0, add) * if is_small { -1 } else { 1 };
        let all = [whole, fraction].concat();
        let leading = all.iter().take_while(|digit| **digit == b'0').count();
        let trailing = all[leading..].iter().rev().take_while(|digit| **digit == b'0').count();
        let digits: Box<[u8]> = all[leading..all.len() - trailing].into();
        let exponent = if digits.is_empty() { 0 } else { power + whole.len() as i64 - leading as i64 };
        let double = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Unreadable)?;
        Ok(Number { is_negative: is_negative && !digits.is_empty(), digits, exponent, double })
    }

    /// Compares the values of two numbers.
    ///
    /// # Errors
    ///
    /// If the nearest doubles compare differently, because servers may then see either order.
    pub(super) fn compare(&self, other: &Number) -> Result<Ordering, Unreadable> {
        let exactly = self.compare_exactly(other);
        if self.double.partial_cmp(&other.double) == Some(exactly) { Ok(exactly) } else { Err(Unreadable) }
    }

    /// Compares two numbers exactly as written.
    pub(super) fn compare_exactly(&self, other: &Number) -> Ordering {
        let sign = |number: &Number| match (number.digits.is_empty(), number.is_negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        let size = self.exponent.cmp(&other.exponent).then_with(|| self.digits.cmp(&other.digits));
        match sign(self).cmp(&sign(other)) {
            Ordering::Equal if self.is_negative => size.reverse(),
            Ordering::Equal => size,
            different => different,
        }
    }

    /// Whether the number has no fractional part. `1.0` has none.
    ///
    /// # Errors
    ///
    /// If the nearest double differs in this.
    pub(super) fn is_whole(&self) -> Result<bool, Unreadable> {
        let exactly = self.digits.is_empty() || self.exponent >= self.digits.len() as i64;
        let by_double = !self.double.is_finite() || self.double.fract() == 0.0;
        if exactly == by_double { Ok(exactly) } else { Err(Unreadable) }
    }
    /// The number as an `i64`, if it is one and its nearest double is the same number.
    ///
    /// # Errors
    ///
    /// If it is an `i64`, but servers that read doubles see another number.
    #[cfg(feature = "cedar")]
    pub(super) fn as_long(&self) -> Result<Option<i64>, Unreadable> {
        let zeros = usize::try_from(self.exponent).ok().and_then(|whole| whole.checked_sub(self.digits.len()));
        let zeros = if self.digits.is_empty() { Some(0) } else { zeros };
        // The longest has 19 digits.
        let Some(zeros) = zeros.filter(|zeros| self.digits.len() + zeros <= 19) else { return Ok(None) };
        let mut text = if self.is_negative { "-".to_owned() } else { String::new() };
        text.push_str(&String::from_utf8_lossy(&self.digits));
        text.extend(std::iter::repeat_n('0', if self.digits.is_empty() { 1 } else { zeros }));
        let Ok(long) = text.parse::<i64>() else { return Ok(None) };
        if self.double as i128 == i128::from(long) { Ok(Some(long)) } else { Err(Unreadable) }
    }

    /// The number as a decimal of Cedar: with at most four places, and so few digits that no double is between it and the next.
    #[cfg(feature = "cedar")]
    pub(super) fn as_decimal(&self) -> Option<String> {
        const DIGITS_MAX: i64 = 15;
        const PLACES_MAX: i64 = 4;
        let (digits, len) = (String::from_utf8_lossy(&self.digits), self.digits.len() as i64);
        let places = (len - self.exponent).max(0);
        if len > DIGITS_MAX || places > PLACES_MAX || self.exponent > DIGITS_MAX || self.exponent < -PLACES_MAX {
            return None;
        }
        let zeros = |count: i64| "0".repeat(usize::try_from(count).unwrap_or_default());
        let all = format!("{}{digits}{}", zeros(-self.exponent), zeros(self.exponent - len));
        let (whole, fraction) = all.split_at(all.len() - usize::try_from(places).unwrap_or_default());
        let or_zero = |text: &str| if text.is_empty() { "0".to_owned() } else { text.to_owned() };
        let sign = if self.is_negative { "-" } else { "" };
        Some(format!("{sign}{}.{}", or_zero(whole), or_zero(fraction)))
    }
}

fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;

    fn number(text: &str) -> Number {
        Number::parse(text.as_bytes()).unwrap_or_else(|Unreadable| panic!("{text}"))
    }

    #[test]
    fn numbers_compare_as_they_are_written() {
        let equal = [("500", "5e2"), ("500", "500.000"), ("-0", "0.0e7"), ("0.05", "5E-2"), ("1e2", "1000e-1")];
        for (one, other) in equal {
            assert_eq!(number(one).compare(&number(other)), Ok(Ordering::Equal), "{one} {other}");
        }
        let rising = ["-1e400", "-501", "-500", "-0.5", "0", "0.5", "499.99", "500", "500.01", "5000", "1e300"];
        for (nth, one) in rising.iter().enumerate() {
            for (other_nth, other) in rising.iter().enumerate() {
                assert_eq!(number(one).compare(&number(other)), Ok(nth.cmp(&other_nth)), "{one} {other}");
            }
        }
        assert_eq!(number("1e400").compare(&number("500")), Ok(Ordering::Greater));
        let long = format!("1{}", "0".repeat(400));
        assert_eq!(number(&long).compare(&number("500")), Ok(Ordering::Greater));
        assert_eq!(number("1e99999999999999999999").compare(&number("500")), Ok(Ordering::Greater));
    }

    #[test]
    fn numbers_that_parsers_may_round_are_not_compared() {
        for (one, other) in [
            ("500.00000000000000000001", "500"),
            ("499.99999999999999999999", "500"),
            ("1e-400", "0"),
            ("9007199254740993", "9007199254740992"),
            ("1e400", "1e401"),
        ] {
            assert_eq!(number(one).compare(&number(other)), Err(Unreadable), "{one} {other}");
        }
        assert_eq!(number("4.0").is_whole(), Ok(true));
        assert_eq!(number("4.5").is_whole(), Ok(false));
        assert_eq!(number("1e400").is_whole(), Ok(true));
        assert_eq!(number("4.00000000000000000000001").is_whole(), Err(Unreadable));
    }

    #[cfg(feature = "cedar")]
    #[test]
    fn a_number_is_a_long_or_a_decimal_of_cedar_only_if_it_stays_the_same() {
        let long = |text: &str| number(text).as_long();
        for (text, value) in
            [("0", 0), ("-0.0", 0), ("5e2", 500), ("1.0", 1), ("-70", -70), ("4611686018427387904", 1 << 62)]
        {
            assert_eq!(long(text), Ok(Some(value)), "{text}");
        }
        for text in ["1.5", "1e-3", "1e19", "9223372036854775808", "-1e400"] {
            assert_eq!(long(text), Ok(None), "{text}");
        }
        assert_eq!(long("9007199254740993"), Err(Unreadable));
        let decimal = |text: &str| number(text).as_decimal();
        for (text, value) in [
            ("0", "0.0"),
            ("500", "500.0"),
            ("-1.5", "-1.5"),
            ("0.0625", "0.0625"),
            ("1e-4", "0.0001"),
            ("12.3400", "12.34"),
            ("1e3", "1000.0"),
            ("-0.5", "-0.5"),
        ] {
            assert_eq!(decimal(text).as_deref(), Some(value), "{text}");
        }
        for text in ["0.00001", "1e16", "1.23456", "1234567890123456", "1e-400"] {
            assert_eq!(decimal(text), None, "{text}");
        }
    }

    #[test]
    fn invalid_numbers_are_refused() {
        for text in ["", "-", "01", "1.", ".5", "+1", "1e", "1e+", "0x1", "-Infinity", "1_0", "1e1.5", "--1", "1.-2"] {
            assert!(Number::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Number::parse("1".repeat(NUMBER_LEN_MAX + 1).as_bytes()).is_err());
    }

    #[test]
    fn short_numbers_compare_as_doubles_do() {
        let mut rng = Rng::new(5);
        let mut any = || format!("{}{}e{}", if rng.chance(0.5) { "-" } else { "" }, rng.below(1 << 40), rng.below(9));
        for _ in 0..5_000 {
            let (one, other) = (any(), any());
            let by_double = one.parse::<f64>().unwrap().partial_cmp(&other.parse().unwrap());
            assert_eq!(number(&one).compare(&number(&other)).ok(), by_double, "{one} {other}");
        }
    }
}
