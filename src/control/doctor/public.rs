//! The whole path, as an agent sees it: through the public URL.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reqwest::header::{ACCEPT, DATE, HeaderMap};
use reqwest::{Client, StatusCode};
use tokio::time::timeout;

use crate::control::doctor::mcp::{SESSION, check_mcp_first, end_session, initialize};
use crate::control::doctor::{Findings, McpTarget, PATIENCE};
use crate::control::micros;

/// Clocks that differ by more are told; certificates and tokens of a short life suffer first.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(60);
/// From here on hardly any certificate or token is good on both sides.
const CLOCKS_FAR_APART: Duration = Duration::from_secs(3_600);

/// A public URL to try.
pub struct PublicUrl<'a> {
    /// The URL of the MCP endpoint.
    pub url: &'a str,
    /// The host that agents call.
    pub host: &'a str,
}

/// Calls the public URL: whether it reaches an MCP server, whose clock it is, and whether events come as they are sent.
pub async fn check_public(findings: &mut Findings, client: &Client, public: &PublicUrl<'_>) {
    let target =
        McpTarget { check: "public.mcp", url: public.url, what: public.url.to_owned(), public_host: Some(public.host) };
    let Some(first) = check_mcp_first(findings, client, &target).await else { return };
    check_clock(findings, &first.headers, SystemTime::now());
    if first.status.is_success() {
        check_stream(findings, client, public.url).await;
    }
}

/// Compares this machine's clock with the one in an answer (RFC 9110 section 6.6.1).
fn check_clock(findings: &mut Findings, headers: &HeaderMap, now: SystemTime) {
    const CHECK: &str = "public.clock";
    let date = headers.get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
    let Some(there) = date else {
        return findings.ok(CHECK, "the answer has no Date: clocks were not compared");
    };
    let unix_s = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (here, there) = (unix_s(now), unix_s(there));
    let apart = Duration::from_secs(here.abs_diff(there));
    let told =
        format!("{} s {} the clock of the far side", apart.as_secs(), if here < there { "behind" } else { "ahead of" });
    let remedy = "let both machines keep their clocks by NTP: `timedatectl set-ntp true`";
    if apart > CLOCKS_FAR_APART {
        findings.fail(CHECK, told, remedy);
    } else if apart > CLOCKS_APART_MAX {
        findings.warn(CHECK, told, remedy);
    } else {
        findings.ok(CHECK, told);
    }
}

/// Opens the stream on which a server sends events by itself. Its head is all that has to come: what holds back a stream
/// until there is enough of it holds back the head as well.
async fn check_stream(findings: &mut Findings, client: &Client, url: &str) {
    const CHECK: &str = "public.sse";
    let session = open_session(client, url).await;
    let mut request = client.get(url).header(ACCEPT, "text/event-stream");
    if let Some(session) = &session {
        request = request.header(SESSION, session);
    }
    let began = Instant::now();
    match timeout(PATIENCE, request.send()).await {
        Ok(Ok(answer)) if answer.status().is_success() => {
            findings.ok(CHECK, format!("a stream of events began within {:.0} µs", micros(began.elapsed())));
        }
        Ok(Ok(answer)) if answer.status() == StatusCode::METHOD_NOT_ALLOWED => {
            findings.ok(CHECK, "the server has no stream of its own to try (405)");
        }
        Ok(Ok(answer)) => findings.ok(CHECK, format!("no stream was opened to try ({})", answer.status())),
        Ok(Err(error)) => findings.warn(CHECK, format!("a stream of events broke: {error}"), "try again"),
        Err(_) => findings.fail(
            CHECK,
            format!(
                "a stream of events did not begin within {} s: something on the way holds it back",
                PATIENCE.as_secs()
            ),
            "switch off response buffering in whatever stands in front of the edge (nginx: proxy_buffering off)",
        ),
    }
    if let Some(session) = session {
        end_session(client, url, &session).await;
    }
}

/// A session for the stream, from servers that have sessions.
async fn open_session(client: &Client, url: &str) -> Option<String> {
    let first = initialize(client, url).await.ok()?;
    first.session().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::doctor::Verdict;

    #[test]
    fn clocks_are_compared_both_ways() {
        let judged = |ahead_s: i64| {
            let mut headers = HeaderMap::new();
            headers.insert(DATE, "Sun, 06 Nov 1994 08:49:37 GMT".parse().unwrap());
            let now = UNIX_EPOCH + Duration::from_secs((784_111_777 + ahead_s).unsigned_abs());
            let mut findings = Findings::default();
            check_clock(&mut findings, &headers, now);
            findings.all()[0].verdict
        };
        assert_eq!([judged(0), judged(60), judged(-60)], [Verdict::Ok; 3]);
        assert_eq!([judged(61), judged(-3_600)], [Verdict::Warn; 2]);
        assert_eq!([judged(86_400), judged(-3_601)], [Verdict::Fail; 2]);
    }
}
