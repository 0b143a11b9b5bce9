//! Checks of `otlp`: the collector has a URL that can be used, and secrets are sent only where nobody else reads them.

use crate::config::checks::Checker;
use crate::config::identity_checks::is_safe_url;
use crate::config::table::OtlpConfig;

const ENDPOINT: &str = "otlp.endpoint";

impl Checker<'_> {
    pub(super) fn otlp(&mut self, otlp: &OtlpConfig) {
        let Some(endpoint) = &otlp.endpoint else {
            let idle = [("otlp.headers_file", otlp.headers_file.is_some()), ("otlp.ca_file", otlp.ca_file.is_some())];
            for (key, _) in idle.into_iter().filter(|(_, is_set)| *is_set) {
                self.fault(key, &[ENDPOINT], "it has no effect without endpoint");
            }
            return;
        };
        let is_url = ["http://", "https://"].iter().any(|scheme| {
            let rest = endpoint.0.strip_prefix(scheme).unwrap_or_default();
            !rest.is_empty() && !rest.starts_with('/') && !rest.contains(['?', '#', '@'])
        });
        if !is_url {
            let why = "expected an http or https URL without user, query and fragment, such as http://127.0.0.1:4318";
            self.fault(ENDPOINT, &[], why);
        } else if otlp.headers_file.is_some() && !is_safe_url(&endpoint.0) {
            let why = "the header fields may be secrets, which needs an https URL, or an http URL on this machine";
            self.fault(ENDPOINT, &["otlp.headers_file"], why);
        }
        for signal in ["/v1/traces", "/v1/metrics"] {
            if endpoint.0.trim_end_matches('/').ends_with(signal) {
                let why = format!("adit adds {signal} itself: leave it out");
                self.fault(ENDPOINT, &[], &why);
            }
        }
    }
}
