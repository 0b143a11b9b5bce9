use std::fmt;

/// The challenge in `WWW-Authenticate` (RFC 6750 section 3, RFC 9728 section 5.1). Its texts must not contain quotes or
/// backslashes.
#[derive(Clone, Copy, Debug, Default)]
pub struct BearerChallenge<'a> {
    /// The URL of the resource metadata, which names the authorization servers.
    pub metadata_url: Option<&'a str>,
    /// The code of the error, if a token was sent.
    pub error: Option<&'a str>,
    /// A description of the error for people.
    pub description: Option<&'a str>,
    /// The scopes that a token needs.
    pub scope: Option<&'a str>,
}

impl BearerChallenge<'_> {
    /// The error code for a token that lacks a scope.
    pub const INSUFFICIENT_SCOPE: &'static str = "insufficient_scope";
    /// The error code for a token that is not valid.
    pub const INVALID_TOKEN: &'static str = "invalid_token";
}

/// Formats the value of the header field.
impl fmt::Display for BearerChallenge<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parameters = [
            ("resource_metadata", self.metadata_url),
            ("error", self.error),
            ("error_description", self.description),
            ("scope", self.scope),
        ];
        let present = parameters.iter().filter_map(|(name, value)| Some((name, (*value)?)));
        f.write_str("Bearer")?;
        present.enumerate().try_for_each(|(at, (name, value))| {
            let separator = if at == 0 { " " } else { ", " };
            write!(f, "{separator}{name}=\"{value}\"")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_parameters_are_left_out() {
        let scope = BearerChallenge { scope: Some("a b"), ..BearerChallenge::default() };
        assert_eq!(scope.to_string(), r#"Bearer scope="a b""#);
        let all = BearerChallenge {
            metadata_url: Some("https://a.test/x"),
            error: Some(BearerChallenge::INVALID_TOKEN),
            description: Some("it has expired"),
            ..scope
        };
        let wanted = r#"Bearer resource_metadata="https://a.test/x", error="invalid_token", error_description="it has expired", scope="a b""#;
        assert_eq!(all.to_string(), wanted);
    }
}
