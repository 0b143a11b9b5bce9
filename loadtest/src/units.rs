//! Times and sizes as people write them.

use std::time::Duration;

/// A time with its unit, such as 250us, 5ms, 1.5s, 2m or 1h.
///
/// # Errors
///
/// If the text is not a valid time.
pub fn time(text: &str) -> Result<Duration, String> {
    let remedy = || format!("'{text}' is not a valid time; write one as 250us, 5ms, 1.5s, 2m or 1h");
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(remedy)?;
    let (number, unit) = text.split_at(split);
    let seconds_per_unit = match unit {
        "ns" => 1e-9,
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err(remedy()),
    };
    let seconds = number.parse::<f64>().map_err(|_| remedy())? * seconds_per_unit;
    Duration::try_from_secs_f64(seconds).map_err(|_| remedy())
}

/// A number of bytes, such as 1024, 64KiB, 1MiB or 2GiB.
///
/// # Errors
///
/// If the text is not a valid size.
pub fn bytes(text: &str) -> Result<u64, String> {
    let remedy = || format!("'{text}' is not a valid size; write one as 1024, 64KiB, 1MiB or 2GiB");
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let bytes_per_unit: u64 = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(remedy()),
    };
    let number: u64 = number.parse().map_err(|_| remedy())?;
    number.checked_mul(bytes_per_unit).ok_or_else(remedy)
}

/// A number of bytes in the largest unit that divides it.
#[must_use]
pub fn show_bytes(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let whole = units.iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| format!("{bytes} B"), |(unit, name)| format!("{} {name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, ns) in [
            ("250us", 250_000),
            ("1.5s", 1_500_000_000),
            ("0s", 0),
            ("2m", 120_000_000_000),
            ("7ns", 7),
            ("1h", 3_600_000_000_000),
        ] {
            assert_eq!(time(text), Ok(Duration::from_nanos(ns)), "{text}");
        }
        for text in ["", "5", "ms", "-1s", "1d", "1.2.3s", "1 s"] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_units_of_1024() {
        for (text, size) in [("0", 0), ("1024", 1024), ("64KiB", 65_536), ("1MiB", 1 << 20), ("2GiB", 1 << 31)] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in ["", "KiB", "-1", "1.5MiB", "1MB", "99999999999GiB"] {
            assert!(bytes(text).is_err(), "{text}");
        }
        assert_eq!(show_bytes(100 << 20), "100 MiB");
        assert_eq!(show_bytes(1_000), "1000 B");
    }
}
