//! Checks the whole path as an agent sees it, through the public URL.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::Client;
use reqwest::header::{DATE, HeaderMap};

use crate::process::doctor::clock::check_clock_skew;
use crate::process::doctor::finding::Findings;
use crate::process::doctor::mcp::{McpTarget, check_mcp};
use crate::process::doctor::stream::{EventSource, check_stream};

/// A public URL to check.
pub(super) struct PublicEndpoint<'a> {
    /// The URL of the MCP endpoint.
    pub(super) url: &'a str,
    /// The host that agents call.
    pub(super) host: &'a str,
    /// The MCP server behind it, if it can also be called directly.
    pub(super) near: Option<&'a EventSource<'a>>,
}

/// Calls the public URL: whether it reaches an MCP server, whether the clocks agree, and whether events arrive as they
/// are sent.
pub(super) async fn check_public(findings: &mut Findings, client: &Client, public: &PublicEndpoint<'_>) {
    let target = McpTarget {
        check: "public.mcp",
        url: public.url,
        what: public.url.to_owned(),
        ca_flag: Some("--url-ca-file"),
        public_host: Some(public.host),
        addresses: None,
    };
    let Some(first) = check_mcp(findings, client, &target).await else { return };
    check_clock(findings, &first.headers, SystemTime::now());
    if first.status.is_success() {
        let far = EventSource { check: "public.sse", client, url: public.url };
        check_stream(findings, &far, public.near).await;
    }
}

/// Compares this machine's clock with the `Date` of a response (RFC 9110 section 6.6.1).
fn check_clock(findings: &mut Findings, headers: &HeaderMap, now: SystemTime) {
    const CHECK: &str = "public.clock";
    let date = headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let Some(there) = date else {
        return findings.ok(CHECK, "the answer has no Date: clocks were not compared");
    };
    let unix_s = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (here, there) = (unix_s(now), unix_s(there));
    let apart = Duration::from_secs(here.abs_diff(there));
    check_clock_skew(findings, CHECK, "the far side", here > there, apart);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::doctor::Verdict;

    #[test]
    fn the_clock_of_an_answer_is_its_date() {
        let judged = |ahead_s: i64| {
            let mut headers = HeaderMap::new();
            headers.insert(DATE, "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
            let now = UNIX_EPOCH + Duration::from_secs((784_111_777 + ahead_s).unsigned_abs());
            let mut findings = Findings::default();
            check_clock(&mut findings, &headers, now);
            (findings.all()[0].verdict, findings.all()[0].found.clone())
        };
        assert_eq!(judged(0).0, Verdict::Ok);
        assert_eq!(judged(-3_600), (Verdict::Warn, "3600 s behind the clock of the far side".to_owned()));
        assert_eq!(judged(3_601).0, Verdict::Fail);
    }
}
