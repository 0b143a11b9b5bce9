//! Requests to a collector (OTLP/HTTP), what their answers mean, and how long to pause after a failure.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use prost::Message;
use prost::bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};

use crate::base::Rng;
use crate::control::issuer_http::{content_of, issuer_client};
use crate::control::once::chain;
use crate::control::otlp::counts::Signal;
use crate::control::otlp::messages::{ExportResponse, MetricsRequest, TracesRequest};
use crate::private;

/// The media type of the requests.
const PROTOBUF: &str = "application/x-protobuf";
/// The longest answer that is read, in bytes.
const ANSWER_LEN_MAX: usize = 64 * 1024;
/// The longest file with header fields, in bytes.
pub(super) const HEADERS_LEN_MAX: usize = 16 * 1024;
/// The limits of the pause after a failure.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// The longest pause that a collector can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// A file with header fields, `Name: value` on each line. It is read before each request, so that a credential can be
/// replaced while the process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadersFile(pub PathBuf);

/// Where traces and metrics are sent.
#[derive(Clone)]
pub struct OtlpEndpoint {
    client: Client,
    /// Without the slash at the end.
    base: String,
    headers: Option<HeadersFile>,
    timeout: Duration,
}

/// Why a collector did not accept a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpRefusal {
    /// The reason, as a sentence without secrets.
    pub why: String,
    /// Whether the same request may succeed later.
    pub(super) may_retry: bool,
    /// The pause that the collector asks for.
    pub(super) retry_after: Option<Duration>,
}

/// The pause after failures.
pub(super) struct BackOff {
    failures: u32,
    rng: Rng,
}

impl OtlpEndpoint {
    /// The collector at this URL. Its certificate is verified by the authorities in the file `ca` (path and content), or
    /// by the public ones.
    ///
    /// # Errors
    ///
    /// Why the authorities cannot be used.
    pub fn new(
        url: &str,
        ca: Option<(&Path, &[u8])>,
        headers: Option<HeadersFile>,
        timeout: Duration,
    ) -> Result<OtlpEndpoint, String> {
        let (client, base) = (issuer_client(ca)?, url.trim_end_matches('/').to_owned());
        Ok(OtlpEndpoint { client, base, headers, timeout })
    }

    /// Sends requests without spans and metrics, and returns the refusal of the first that is refused.
    pub async fn probe(&self, traces: bool, metrics: bool) -> Result<(), OtlpRefusal> {
        if traces {
            self.post(Signal::Traces, TracesRequest::default().encode_to_vec().into()).await?;
        }
        if metrics {
            self.post(Signal::Metrics, MetricsRequest::default().encode_to_vec().into()).await?;
        }
        Ok(())
    }

    /// Sends a request. Returns how many spans or points of it were rejected.
    pub(super) async fn post(&self, signal: Signal, body: Bytes) -> Result<u64, OtlpRefusal> {
        let path = match signal {
            Signal::Traces => "traces",
            Signal::Metrics => "metrics",
        };
        let url = format!("{}/v1/{path}", self.base);
        let failed = |why: String| OtlpRefusal { why, may_retry: true, retry_after: None };
        let fields = self.headers.as_ref().map(HeadersFile::read).transpose().map_err(failed)?;
        let request = self.client.post(&url).timeout(self.timeout).headers(fields.unwrap_or_default());
        let answer = request.header(CONTENT_TYPE, PROTOBUF).body(body).send().await;
        let answer = answer.map_err(|error| failed(format!("{url}: {}", chain(&error.without_url()))))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(OtlpRefusal {
                why: format!("{url} answers {status}"),
                may_retry: is_temporary(status),
                retry_after: retry_after(&answer, SystemTime::now()),
            });
        }
        // An answer that cannot be read is that of a server that is no collector, or of an empty body.
        let content = content_of(&url, answer, ANSWER_LEN_MAX).await.map_err(failed)?;
        let answer = ExportResponse::decode(&*content).unwrap_or_default();
        let rejected = answer.partial_success.map_or(0, |partial| partial.rejected);
        Ok(u64::try_from(rejected).unwrap_or_default())
    }
}

impl HeadersFile {
    /// Reads the header fields that the file has now.
    ///
    /// # Errors
    ///
    /// Why the file cannot be used, as a sentence without its content.
    pub fn read(&self) -> Result<HeaderMap, String> {
        let content = private::read(&self.0, HEADERS_LEN_MAX).map_err(|error| error.to_string())?;
        let text = std::str::from_utf8(&content).map_err(|_| format!("{} is not text", self.0.display()))?;
        parse_headers(text).map_err(|line| format!("{}, line {line}: it is not `Name: value`", self.0.display()))
    }
}

/// Parses header fields, one on each line. Empty lines and lines that begin with `#` are ignored.
///
/// # Errors
///
/// The number of the first line that is malformed.
pub fn parse_headers(text: &str) -> Result<HeaderMap, usize> {
    let mut fields = HeaderMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let parsed = line.split_once(':').and_then(|(name, value)| {
            let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
            let mut value = HeaderValue::from_str(value.trim()).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        });
        let (name, value) = parsed.ok_or(at + 1)?;
        fields.append(name, value);
    }
    Ok(fields)
}

/// Whether the same request may succeed later (OTLP specification, section "Failures").
fn is_temporary(status: StatusCode) -> bool {
    [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::GATEWAY_TIMEOUT,
    ]
    .contains(&status)
}

/// The pause that an answer asks for, in seconds or until a date (RFC 9110 section 10.2.3).
fn retry_after(answer: &Response, now: SystemTime) -> Option<Duration> {
    let text = answer.headers().get(RETRY_AFTER)?.to_str().ok()?;
    pause_of(text, now)
}

fn pause_of(text: &str, now: SystemTime) -> Option<Duration> {
    let pause = match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(pause.min(RETRY_AFTER_MAX))
}

impl BackOff {
    pub(super) fn new(seed: u64) -> BackOff {
        BackOff { failures: 0, rng: Rng::new(seed) }
    }

    /// A request has succeeded.
    pub(super) fn on_success(&mut self) {
        self.failures = 0;
    }

    /// The pause after another failure: what the collector asks for, or twice the last one, a random part less.
    pub(super) fn pause(&mut self, refusal: &OtlpRefusal) -> Duration {
        let grown = PAUSE_MIN.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        refusal.retry_after.unwrap_or_else(|| grown.mul_f64(1.0 - self.rng.unit() / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_header_fields_is_read_by_line_and_its_content_is_never_shown() {
        let fields = parse_headers("# of the collector\nAuthorization: Bearer a-secret\n\nX-Tenant:team\n").unwrap();
        assert!(fields["authorization"] == "Bearer a-secret" && fields["x-tenant"] == "team");
        assert!(!format!("{fields:?}").contains("a-secret"));
        assert_eq!([parse_headers("A: b\nno field"), parse_headers("a b: c")].map(Result::unwrap_err), [2, 1]);
    }

    #[test]
    fn pauses_grow_up_to_a_minute_unless_the_collector_asks_for_another() {
        let refusal = |retry_after| OtlpRefusal { why: String::new(), may_retry: true, retry_after };
        let mut back_off = BackOff::new(1);
        let pauses: Vec<f64> = (0..9).map(|_| back_off.pause(&refusal(None)).as_secs_f64()).collect();
        for (pause, whole) in pauses.iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]) {
            assert!((whole / 2.0..=whole).contains(pause), "{pauses:?}");
        }
        let asked = Duration::from_secs(7);
        assert_eq!(back_off.pause(&refusal(Some(asked))), asked);
        back_off.on_success();
        assert!(back_off.pause(&refusal(None)) <= PAUSE_MIN);
    }

    #[test]
    fn a_pause_is_in_seconds_or_until_a_date_and_bounded() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let seconds = |text| pause_of(text, now).map(|pause| pause.as_secs());
        assert_eq!(
            (seconds("30"), seconds("Sun, 06 Nov 1994 08:49:47 GMT"), seconds("soon")),
            (Some(30), Some(10), None)
        );
        assert_eq!((seconds("99999"), seconds("Sat, 06 Nov 1993 08:49:47 GMT")), (Some(300), Some(0)));
    }
}
