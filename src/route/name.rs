use std::fmt;
use std::str::FromStr;

use crate::base::HostPattern;

/// The longest name of a route, in bytes.
pub const ROUTE_NAME_LEN_MAX: usize = 64;

/// The name of a route in metrics, logs and the admin API: 1 to 64 of `A-Z a-z 0-9 . _ - *`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteName(Box<str>);

impl RouteName {
    /// The default name of the route of this host.
    #[must_use]
    pub fn of_host(host: &HostPattern) -> RouteName {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-*".contains(c) { c } else { '_' };
        let name: String = host.to_string().chars().map(plain).take(ROUTE_NAME_LEN_MAX).collect();
        name.parse().expect("it was made of what a name may hold, and a host is not empty")
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The error for a text that is not a valid route name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a route's name is 1 to 64 letters, digits, '.', '_', '-' or '*'")]
pub struct RouteNameError;

impl FromStr for RouteName {
    type Err = RouteNameError;

    fn from_str(text: &str) -> Result<RouteName, RouteNameError> {
        let fits = (1..=ROUTE_NAME_LEN_MAX).contains(&text.len());
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-*".contains(&b));
        if fits && plain { Ok(RouteName(text.into())) } else { Err(RouteNameError) }
    }
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_name_is_plain_and_bounded() {
        assert_eq!("*.mcp.example".parse::<RouteName>().unwrap().as_str(), "*.mcp.example");
        for bad in ["", "a b", "a\"b", "é", &"x".repeat(65)] {
            assert_eq!(bad.parse::<RouteName>(), Err(RouteNameError));
        }
    }
}
