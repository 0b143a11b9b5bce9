//! The service time of an upstream.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use adit::base::Rng;

use super::SERVICE_MAX;
use crate::units::time;

/// A distribution of service times.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ServiceTime {
    /// The same time for every call.
    Fixed(Duration),
    /// Exponential, with this mean.
    Exponential(Duration),
    /// One of two times, drawn for each call.
    Bimodal {
        /// The time of most calls.
        fast: Duration,
        /// The time of the slow calls.
        slow: Duration,
        /// The share of slow calls, from 0 to 1.
        slow_share: f64,
    },
}

impl Default for ServiceTime {
    fn default() -> ServiceTime {
        ServiceTime::Fixed(Duration::ZERO)
    }
}

impl ServiceTime {
    /// The service time of the next call, at most [`SERVICE_MAX`].
    #[must_use]
    pub fn draw(&self, rng: &mut Rng) -> Duration {
        let drawn = match *self {
            ServiceTime::Fixed(time) => time,
            ServiceTime::Exponential(mean) => mean.mul_f64(-(1.0 - rng.unit()).ln()),
            ServiceTime::Bimodal { slow, slow_share, .. } if rng.chance(slow_share) => slow,
            ServiceTime::Bimodal { fast, .. } => fast,
        };
        drawn.min(SERVICE_MAX)
    }
}

/// The error for an invalid distribution.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a valid service time of at most 60 s; write one as 20ms, exp:20ms or bimodal:1ms,200ms,0.05 (fast, slow, share of slow)"
)]
pub struct ServiceTimeError(String);

impl FromStr for ServiceTime {
    type Err = ServiceTimeError;

    fn from_str(text: &str) -> Result<ServiceTime, ServiceTimeError> {
        let fault = || ServiceTimeError(text.to_owned());
        let time = |text: &str| time(text.trim()).ok().filter(|time| *time <= SERVICE_MAX).ok_or_else(fault);
        match text.split_once(':') {
            None => Ok(ServiceTime::Fixed(time(text)?)),
            Some(("fixed", fixed)) => Ok(ServiceTime::Fixed(time(fixed)?)),
            Some(("exp", mean)) => Ok(ServiceTime::Exponential(time(mean)?)),
            Some(("bimodal", parts)) => {
                let mut parts = parts.split(',');
                let (Some(fast), Some(slow), Some(share), None) =
                    (parts.next(), parts.next(), parts.next(), parts.next())
                else {
                    return Err(fault());
                };
                let slow_share = share.trim().parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
                let slow_share = slow_share.ok_or_else(fault)?;
                Ok(ServiceTime::Bimodal { fast: time(fast)?, slow: time(slow)?, slow_share })
            }
            Some(_) => Err(fault()),
        }
    }
}

impl fmt::Display for ServiceTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceTime::Fixed(time) => write!(f, "{time:?}"),
            ServiceTime::Exponential(mean) => write!(f, "exp:{mean:?}"),
            ServiceTime::Bimodal { fast, slow, slow_share } => write!(f, "bimodal:{fast:?},{slow:?},{slow_share}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(service: &ServiceTime) -> Duration {
        let mut rng = Rng::new(3);
        (0..20_000).map(|_| service.draw(&mut rng)).sum::<Duration>() / 20_000
    }

    #[test]
    fn each_distribution_has_its_mean() {
        let ms = Duration::from_millis;
        assert_eq!(mean(&ServiceTime::Fixed(ms(20))), ms(20));
        let exponential = mean(&ServiceTime::Exponential(ms(20)));
        assert!(exponential.abs_diff(ms(20)) < ms(1), "{exponential:?}");
        let bimodal = mean(&ServiceTime::Bimodal { fast: ms(1), slow: ms(101), slow_share: 0.1 });
        assert!(bimodal.abs_diff(ms(11)) < ms(1), "{bimodal:?}");
        assert!(
            (0..1_000).all(|seed| { ServiceTime::Exponential(SERVICE_MAX).draw(&mut Rng::new(seed)) <= SERVICE_MAX })
        );
    }

    #[test]
    fn printed_values_parse_to_the_same_and_nonsense_is_refused() {
        for text in ["0s", "20ms", "exp:1.5ms", "bimodal:1ms,200ms,0.05", "fixed:3us", "bimodal: 1ms, 2ms, 1"] {
            let parsed: ServiceTime = text.parse().unwrap();
            assert_eq!(parsed.to_string().parse(), Ok(parsed), "{text}");
        }
        for text in
            ["", "20", "exp:", "gauss:1ms", "bimodal:1ms,2ms", "bimodal:1ms,2ms,2", "bimodal:1ms,2ms,0,0", "61s"]
        {
            assert!(text.parse::<ServiceTime>().is_err(), "{text}");
        }
    }
}
