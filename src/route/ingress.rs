use std::borrow::Cow;

use regex::{Regex, RegexBuilder};

use crate::base::Hostname;

/// The most rules of one table.
pub const INGRESS_RULES_MAX: usize = 1_000;
/// How large a compiled expression for paths may be, in bytes.
const EXPRESSION_SIZE_MAX: usize = 256 * 1024;

/// Which requests a rule is for.
#[derive(Clone, Debug, Default)]
pub struct IngressMatch {
    host: Option<IngressHost>,
    path: Option<Regex>,
}

/// The hosts of a rule.
#[derive(Clone, Debug)]
enum IngressHost {
    Exact(Box<Hostname>),
    /// Hosts that end with this text, which begins with a dot.
    Below(Box<str>),
}

/// Why a rule is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IngressError {
    /// The host is not one.
    #[error("`{0}` is not a hostname, nor `*.` and a hostname")]
    Host(String),
    /// The expression for paths is not one.
    #[error("the path `{0}` is not a regular expression: {1}")]
    Path(String, String),
    /// The last rule does not match all requests, or another one does.
    #[error("the last rule, and only that, must match all requests: leave out its hostname and path")]
    CatchAll,
    /// There are no rules, or too many.
    #[error("there must be 1 to {INGRESS_RULES_MAX} rules")]
    Count,
}

/// Rules that are tried in order. The first one that matches a request decides.
#[derive(Clone, Debug)]
pub struct IngressTable<T> {
    rules: Vec<(IngressMatch, T)>,
    /// Whether any rule looks at the path.
    reads_paths: bool,
}

impl IngressMatch {
    /// Requests for a host, or for hosts below `*.`, whose path contains a match of the expression. Both may be empty.
    ///
    /// # Errors
    ///
    /// If either is malformed.
    pub fn new(host: &str, path: &str) -> Result<IngressMatch, IngressError> {
        let bad_host = || IngressError::Host(host.to_owned());
        let host = match host.strip_prefix("*.") {
            _ if matches!(host, "" | "*") => None,
            Some(parent) => {
                let parent: Hostname = parent.parse().map_err(|_| bad_host())?;
                Some(IngressHost::Below(format!(".{parent}").into()))
            }
            None => Some(IngressHost::Exact(Box::new(host.parse().map_err(|_| bad_host())?))),
        };
        let compile = |path: &str| RegexBuilder::new(path).size_limit(EXPRESSION_SIZE_MAX).build();
        let compiled = Some(path).filter(|path| !path.is_empty()).map(compile).transpose();
        let path = compiled.map_err(|error| IngressError::Path(path.to_owned(), error.to_string()))?;
        Ok(IngressMatch { host, path })
    }

    fn is_catch_all(&self) -> bool {
        self.host.is_none() && self.path.is_none()
    }

    fn matches(&self, host: &Hostname, path: &str) -> bool {
        let is_host = match &self.host {
            None => true,
            Some(IngressHost::Exact(own)) => **own == *host,
            Some(IngressHost::Below(end)) => host.as_str().ends_with(&**end),
        };
        is_host && self.path.as_ref().is_none_or(|expression| expression.is_match(path))
    }
}

impl<T> IngressTable<T> {
    /// A table of these rules, of which the last one must match all requests.
    ///
    /// # Errors
    ///
    /// If another one does, or the last one does not.
    pub fn new(rules: Vec<(IngressMatch, T)>) -> Result<IngressTable<T>, IngressError> {
        let Some((last, others)) = rules.split_last().filter(|_| rules.len() <= INGRESS_RULES_MAX) else {
            return Err(IngressError::Count);
        };
        if !last.0.is_catch_all() || others.iter().any(|(rule, _)| rule.is_catch_all()) {
            return Err(IngressError::CatchAll);
        }
        let reads_paths = others.iter().any(|(rule, _)| rule.path.is_some());
        Ok(IngressTable { rules, reads_paths })
    }

    /// The target for a request. `target` is its path, with or without a query.
    #[must_use]
    pub fn lookup(&self, host: &Hostname, target: &[u8]) -> Option<&T> {
        let path = if self.reads_paths { decoded_path(target) } else { Cow::Borrowed("") };
        self.rules.iter().find(|(rule, _)| rule.matches(host, &path)).map(|(_, target)| target)
    }

    /// The targets of all rules, in order.
    pub fn targets(&self) -> impl Iterator<Item = &T> {
        self.rules.iter().map(|(_, target)| target)
    }
}

/// The path of a target without its query, percent-decoded. What is not UTF-8 then is replaced.
fn decoded_path(target: &[u8]) -> Cow<'_, str> {
    let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
    if !path.contains(&b'%') {
        return String::from_utf8_lossy(path);
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [byte, tail @ ..] = rest {
        let digit = |at: usize| tail.get(at).and_then(|digit| (*digit as char).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high << 4 | low) as u8);
                rest = &tail[2..];
            }
            _ => {
                decoded.push(*byte);
                rest = tail;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rules: &[(&str, &str)]) -> Result<IngressTable<usize>, IngressError> {
        let rules = rules.iter().enumerate().map(|(nth, (host, path))| Ok((IngressMatch::new(host, path)?, nth)));
        IngressTable::new(rules.collect::<Result<_, IngressError>>()?)
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules =
            [("mcp.test", r"^/api/\d+$"), ("MCP.test", ""), ("*.mcp.test", "sse|events"), ("", "^/open"), ("*", "")];
        let table = table(&rules).unwrap();
        for (host, path, rule) in [
            ("mcp.test", "/api/12", 0),
            ("mcp.test", "/api/12?x=/y", 0),
            ("mcp.test", "/%61pi/%312", 0),
            ("mcp.test", "/api/", 1),
            ("a.mcp.test", "/x/sse", 2),
            ("b.a.mcp.test", "/events", 2),
            ("a.mcp.test", "/x", 4),
            ("other.test", "/open%", 3),
            ("xmcp.test", "/", 4),
        ] {
            assert_eq!(table.lookup(&host.parse().unwrap(), path.as_bytes()), Some(&rule), "{host}{path}");
        }
    }

    #[test]
    fn rules_that_no_request_would_reach_are_refused() {
        assert_eq!(table(&[]).err(), Some(IngressError::Count));
        assert_eq!(table(&[("a.test", "")]).err(), Some(IngressError::CatchAll));
        assert_eq!(table(&[("", ""), ("", "")]).err(), Some(IngressError::CatchAll));
        assert_eq!(table(&[("*", "/x")]).err(), Some(IngressError::CatchAll));
        assert!(matches!(table(&[("a.*.test", ""), ("", "")]), Err(IngressError::Host(_))));
        assert!(matches!(table(&[("a.test:80", ""), ("", "")]), Err(IngressError::Host(_))));
        assert!(matches!(table(&[("", "("), ("", "")]), Err(IngressError::Path(..))));
        assert!(matches!(table(&[("", "(a{1000}){1000}"), ("", "")]), Err(IngressError::Path(..))));
    }
}
