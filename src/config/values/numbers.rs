//! Numbers with units, and prices.

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;

use crate::config::error::quoted;
use crate::config::setting_type::{Raw, SettingType, optional_setting};

/// A duration in milliseconds: a bare number, or a number with `ms`, `s`, `m` or `h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Millis(pub u64);

impl From<Millis> for Duration {
    fn from(millis: Millis) -> Duration {
        Duration::from_millis(millis.0)
    }
}

impl FromStr for Millis {
    type Err = String;

    fn from_str(text: &str) -> Result<Millis, String> {
        Millis::parse(&Raw::Text(text.to_owned()), Path::new(""))
    }
}

impl SettingType for Millis {
    const KIND: &'static str = "duration";

    fn parse(raw: &Raw, _dir: &Path) -> Result<Millis, String> {
        const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
        scaled(raw, "a duration, a number of milliseconds or a text such as \"30s\" or \"100ms\"", &UNITS).map(Millis)
    }

    fn to_json(&self) -> Value {
        Value::from(self.0)
    }

    fn size(&self) -> Option<u64> {
        Some(self.0)
    }
}

/// A number of bytes: a bare number, or a number with `B`, `KiB`, `MiB` or `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl SettingType for Bytes {
    const KIND: &'static str = "size";

    fn parse(raw: &Raw, _dir: &Path) -> Result<Bytes, String> {
        const UNITS: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
        scaled(raw, "a size, a number of bytes or a text such as \"64KiB\" or \"16MiB\"", &UNITS).map(Bytes)
    }

    fn to_json(&self) -> Value {
        Value::from(self.0)
    }

    fn size(&self) -> Option<u64> {
        Some(self.0)
    }
}

/// How long an idle core spins before it sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spin {
    /// As long as recent traffic makes it worthwhile, and not at all if CPUs are scarce.
    Auto,
    /// This many microseconds; 0 for never.
    Micros(u64),
}

impl SettingType for Spin {
    const KIND: &'static str = "auto or duration";

    fn parse(raw: &Raw, _dir: &Path) -> Result<Spin, String> {
        const UNITS: [(&str, u64); 2] = [("us", 1), ("ms", 1_000)];
        match raw {
            Raw::Word(text) | Raw::Text(text) if text == "auto" => Ok(Spin::Auto),
            _ => scaled(raw, "\"auto\", a number of microseconds or a text such as \"50us\"", &UNITS).map(Spin::Micros),
        }
    }

    fn to_json(&self) -> Value {
        match self {
            Spin::Auto => Value::from("auto"),
            Spin::Micros(us) => Value::from(*us),
        }
    }

    fn size(&self) -> Option<u64> {
        match self {
            Spin::Auto => None,
            Spin::Micros(us) => Some(*us),
        }
    }
}

/// An amount of money, in millionths of a unit: a number with up to six decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Price(pub u64);

/// The decimals of a price.
const PRICE_DECIMALS: usize = 6;
/// The most digits of a price before the point.
const PRICE_DIGITS_MAX: usize = 9;

impl SettingType for Price {
    const KIND: &'static str = "price";

    fn parse(raw: &Raw, _dir: &Path) -> Result<Price, String> {
        const EXPECTED: &str = "a price as a text, such as \"3.00\" or \"0.005\"";
        let text = match raw {
            Raw::Integer(whole) => whole.to_string(),
            raw => raw.text(EXPECTED)?.to_owned(),
        };
        let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
        let is_digits = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        let fits = (1..=PRICE_DIGITS_MAX).contains(&whole.len()) && part.len() <= PRICE_DECIMALS;
        if !fits || !is_digits(whole) || !is_digits(part) || text.ends_with('.') {
            return Err(format!("{} is not {EXPECTED}", quoted(&text)));
        }
        let millionths = format!("{whole}{part:0<PRICE_DECIMALS$}");
        millionths.parse().map(Price).map_err(|_| format!("{} is not {EXPECTED}", quoted(&text)))
    }

    fn to_json(&self) -> Value {
        let (whole, part) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let text = format!("{whole}.{part:06}");
        Value::from(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A part of a whole, in millionths: a number from 0 to 1 with up to six decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ratio(pub u32);

impl SettingType for Ratio {
    const KIND: &'static str = "ratio";

    fn parse(raw: &Raw, dir: &Path) -> Result<Ratio, String> {
        const EXPECTED: &str = "a ratio from 0 to 1 as a text, such as \"0.05\"";
        let text = match raw {
            Raw::Integer(whole) => whole.to_string(),
            raw => raw.text(EXPECTED)?.to_owned(),
        };
        let millionths = Price::parse(&Raw::Text(text.clone()), dir).ok().map(|Price(millionths)| millionths);
        let millionths = millionths.and_then(|found| u32::try_from(found).ok()).filter(|found| *found <= 1_000_000);
        millionths.map(Ratio).ok_or_else(|| format!("{} is not {EXPECTED}", quoted(&text)))
    }

    fn to_json(&self) -> Value {
        Price(self.0.into()).to_json()
    }
}

/// Parses a number with its unit. A number without one counts in the first unit.
fn scaled(raw: &Raw, expected: &str, units: &[(&str, u64)]) -> Result<u64, String> {
    let text = match raw.integer_or_text(expected)? {
        Ok(n) => return u64::try_from(n).map_err(|_| format!("expected {expected}, found {n}")),
        Err(text) => text,
    };
    let wrong = || format!("expected {expected}, found {}", quoted(text));
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let scale = match unit {
        "" => Some(1),
        _ => units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale),
    };
    number.checked_mul(scale.ok_or_else(wrong)?).ok_or_else(wrong)
}

optional_setting!(Bytes, Millis);

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<T: SettingType>(text: &str) -> Result<T, String> {
        T::parse(&Raw::Text(text.to_owned()), Path::new(""))
    }

    #[test]
    fn durations_and_sizes_take_bare_numbers_and_units() {
        for (text, ms) in [("0", 0), ("250", 250), ("100ms", 100), ("30s", 30_000), ("2m", 120_000), ("1h", 3_600_000)]
        {
            assert_eq!(parse::<Millis>(text), Ok(Millis(ms)), "{text}");
        }
        assert_eq!(Millis::parse(&Raw::Integer(250), Path::new("")), Ok(Millis(250)));
        for wrong in ["", "s", "-1s", "1.5s", "1 s", "10us", "1d", "99999999999999999999", "18446744073709551615h"] {
            assert!(parse::<Millis>(wrong).is_err(), "{wrong}");
        }
        for (text, bytes) in [("4096", 4096), ("64KiB", 65_536), ("1MiB", 1 << 20), ("2GiB", 2 << 30), ("7B", 7)] {
            assert_eq!(parse::<Bytes>(text), Ok(Bytes(bytes)), "{text}");
        }
        assert!(parse::<Bytes>("64KB").is_err());
        assert!(Bytes::parse(&Raw::Integer(-1), Path::new("")).is_err());
        assert_eq!(parse::<Spin>("auto"), Ok(Spin::Auto));
        assert_eq!(parse::<Spin>("50us"), Ok(Spin::Micros(50)));
    }

    #[test]
    fn a_ratio_is_between_nothing_and_everything() {
        for (text, millionths, shown) in [("0", 0, "0"), ("1", 1_000_000, "1"), ("0.05", 50_000, "0.05")] {
            let ratio = parse::<Ratio>(text).unwrap();
            assert_eq!((ratio, ratio.to_json()), (Ratio(millionths), Value::from(shown)));
        }
        assert!(["1.1", "-0.1", "", "5%", "0.0000001"].iter().all(|text| parse::<Ratio>(text).is_err()));
    }

    #[test]
    fn a_price_is_exact_to_a_millionth() {
        let parse = |text: &str| Price::parse(&Raw::Text(text.to_owned()), Path::new("")).ok().map(|price| price.0);
        for (text, millionths) in [
            ("3", 3_000_000),
            ("3.00", 3_000_000),
            ("0.005", 5_000),
            ("0.000001", 1),
            ("999999999.999999", 999_999_999_999_999),
        ] {
            assert_eq!(parse(text), Some(millionths), "{text}");
        }
        for bad in ["", ".5", "5.", "-1", "+1", "1e3", "1.0000001", "1000000000", "1,5", "1.-1"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(Price::parse(&Raw::Integer(2), Path::new("")), Ok(Price(2_000_000)));
        assert!(Price::parse(&Raw::Integer(-2), Path::new("")).is_err());
        assert_eq!([0, 5_000, 3_000_000].map(|price| Price(price).to_json()), ["0", "0.005", "3"].map(Value::from));
    }
}
