//! Checks whether the collector takes traces and metrics.

use crate::config::OtlpConfig;
use crate::process::doctor::finding::Findings;
use crate::process::telemetry::{endpoint_of, metrics_interval};

const CHECK: &str = "otlp";
const REMEDY: &str = "check otlp.endpoint, otlp.headers_file and the receiver of the collector (OTLP over HTTP, usually port 4318); calls \
                      do not depend on it";

/// Sends requests without spans and metrics.
pub(super) async fn check_otlp(findings: &mut Findings, otlp: &OtlpConfig) {
    let endpoint = match endpoint_of(otlp) {
        Ok(Some(endpoint)) => endpoint,
        Ok(None) => return,
        Err(error) => return findings.add_error(CHECK, &error),
    };
    let metrics = metrics_interval(otlp).is_some();
    match endpoint.probe(otlp.traces, metrics).await {
        Ok(()) if !otlp.traces && !metrics => {
            findings.warn(
                CHECK,
                "nothing is exported: neither traces nor metrics",
                "set otlp.traces or remove otlp.endpoint",
            );
        }
        Ok(()) => findings.ok(CHECK, "the collector takes what is exported"),
        Err(refusal) => findings.fail(CHECK, refusal.why, REMEDY),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::config::{Config, FileText, Purpose, Sources};

    fn checked(url: &str) -> String {
        let text = format!("[otlp]\nendpoint = '{url}'\ntimeout_ms = 5000\n");
        let file = FileText { path: "a.toml".into(), text };
        let sources = Sources {
            purpose: Purpose::Check,
            profile: None,
            file: Some(file),
            env: BTreeMap::new(),
            flags: Vec::new(),
            credentials: Vec::new(),
        };
        let config = Config::load(&sources).unwrap();
        let mut findings = Findings::default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check_otlp(&mut findings, &config.otlp));
        findings.to_string()
    }

    #[test]
    fn a_collector_is_asked_for_both_signals() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            ["200 OK", "200 OK", "401 Unauthorized"].map(|answer| {
                let (mut socket, _) = listener.accept().unwrap();
                let mut head = [0; 4096];
                let len = socket.read(&mut head).unwrap();
                write!(socket, "HTTP/1.1 {answer}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
                String::from_utf8_lossy(&head[..len]).lines().next().unwrap_or_default().to_owned()
            })
        });
        assert!(checked(&url).starts_with("OK    otlp  the collector takes"));
        let refused = checked(&url);
        assert!(refused.starts_with("FAIL  otlp  http://127.0.0.1:") && refused.contains("answers 401"), "{refused}");
        let asked = server.join().unwrap();
        assert_eq!(asked, ["POST /v1/traces HTTP/1.1", "POST /v1/metrics HTTP/1.1", "POST /v1/traces HTTP/1.1"]);
        assert!(checked("http://127.0.0.1:9").starts_with("FAIL  otlp"));
    }
}
