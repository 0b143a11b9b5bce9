//! What requests of the dashboard's page carry: the secrets of its session, and the proof that they come from that page.

use std::time::Duration;

use axum::http::header::{COOKIE, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, Method};

use crate::base::{Clock, SecretHash};
use crate::control::dashboard::sessions::DashboardSessions;
use crate::engine::MonotonicClock;

/// The field with the key of a session. Pages of other origins cannot send it.
pub(in crate::control) const SESSION_FIELD: HeaderName = HeaderName::from_static("x-adit-session");
/// The field in which browsers say where a request comes from.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The requests of the admin API that a session may make: method, and path with `*` for one segment.
const SESSION_PATHS: [(Method, &str); 5] = [
    (Method::GET, "/v1/approvals"),
    (Method::POST, "/v1/approvals/*/approve"),
    (Method::POST, "/v1/approvals/*/deny"),
    (Method::GET, "/v1/tunnels"),
    (Method::POST, "/v1/breakers"),
];

/// Whether a session may make this request of the admin API. All others need the admin token itself.
pub(in crate::control) fn is_of_sessions(method: &Method, path: &str) -> bool {
    let fits = |pattern: &str| {
        let (mut parts, mut wanted) = (path.split('/'), pattern.split('/'));
        loop {
            match (parts.next(), wanted.next()) {
                (None, None) => return true,
                (Some(part), Some(wanted)) if wanted == "*" || part == wanted => {}
                _ => return false,
            }
        }
    };
    SESSION_PATHS.iter().any(|(allowed, pattern)| allowed == method && fits(pattern))
}

/// How long the session of a request lasts; `None` if it has no valid one.
pub(in crate::control) fn session_of(
    sessions: &DashboardSessions,
    method: &Method,
    headers: &HeaderMap,
    token: &SecretHash,
) -> Option<Duration> {
    if !is_same_origin(method, headers) {
        return None;
    }
    let key = headers.get(SESSION_FIELD)?.to_str().ok()?;
    sessions.check(cookie_of(sessions, headers)?, key, token, MonotonicClock.now())
}

/// The session's cookie of a request.
pub(super) fn cookie_of<'a>(sessions: &DashboardSessions, headers: &'a HeaderMap) -> Option<&'a str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|field| field.to_str().ok());
    let mut pairs = cookies.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == sessions.cookie_name()).map(|(_, value)| value)
}

/// Whether a request can come from the dashboard's own page. A request that changes something must say so.
pub(super) fn is_same_origin(method: &Method, headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_own = |origin: &str| {
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
    };
    let origin_fits = match headers.get(ORIGIN) {
        Some(origin) => origin.to_str().is_ok_and(is_own),
        None => method.is_safe(),
    };
    let site_fits = match headers.get(FETCH_SITE).map(|site| site.as_bytes()) {
        None | Some(b"same-origin") => true,
        // The address bar.
        Some(b"none") => method.is_safe(),
        Some(_) => false,
    };
    origin_fits && site_fits
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::base::{Secret, Time};

    fn headers(fields: &[(HeaderName, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn only_the_own_page_may_change_anything() {
        let host = (HOST, "127.0.0.1:9443");
        let fits = |method, more: &[(HeaderName, &str)]| {
            is_same_origin(&method, &headers(&[std::slice::from_ref(&host), more].concat()))
        };
        assert!(fits(Method::GET, &[]) && !fits(Method::POST, &[]), "without any mark");
        for (origin, site, may_read, may_write) in [
            ("http://127.0.0.1:9443", "same-origin", true, true),
            ("https://127.0.0.1:9443", "same-origin", true, true),
            ("http://127.0.0.1:9443", "none", true, false),
            ("http://127.0.0.1:9444", "same-site", false, false),
            ("http://127.0.0.1:9444", "same-origin", false, false),
            ("http://127.0.0.1:9443", "cross-site", false, false),
            ("http://evil.test", "cross-site", false, false),
            ("null", "same-origin", false, false),
            ("", "same-origin", false, false),
        ] {
            let fields = [(ORIGIN, origin), (FETCH_SITE, site)];
            assert_eq!(fits(Method::GET, &fields), may_read, "{origin} {site}");
            assert_eq!(fits(Method::POST, &fields), may_write, "{origin} {site}");
        }
        assert!(!fits(Method::GET, &[(FETCH_SITE, "cross-site")]));
    }

    #[test]
    fn a_session_is_found_by_its_cookie_and_its_key() {
        let (sessions, token) = (DashboardSessions::new().unwrap(), SecretHash::of(&Secret::from("token")));
        let now: Time = MonotonicClock.now();
        let code = sessions.new_code(token.clone(), now).unwrap();
        let opened = sessions.open(&code, &token, now).unwrap().unwrap();
        let cookie = format!("a=b; {}={}; c=d", sessions.cookie_name(), *opened.cookie);
        let own = (ORIGIN, "http://localhost");
        let check = |fields: &[(HeaderName, &str)]| {
            let fields = headers(&[&[(HOST, "localhost")], fields].concat());
            session_of(&sessions, &Method::POST, &fields, &token).is_some()
        };
        assert!(check(&[own.clone(), (COOKIE, &cookie), (SESSION_FIELD, &opened.key)]));
        assert!(!check(&[(COOKIE, &cookie), (SESSION_FIELD, &opened.key)]), "no origin");
        assert!(!check(&[own.clone(), (COOKIE, &cookie)]), "no key");
        assert!(!check(&[own.clone(), (SESSION_FIELD, &opened.key)]), "no cookie");
        assert!(!check(&[own, (COOKIE, &cookie), (SESSION_FIELD, &opened.cookie)]), "another key");
    }

    #[test]
    fn a_session_may_do_little() {
        for (method, path) in [
            (Method::GET, "/v1/approvals"),
            (Method::POST, "/v1/approvals/apr_1/approve"),
            (Method::POST, "/v1/breakers"),
        ] {
            assert!(is_of_sessions(&method, path), "{method} {path}");
        }
        for (method, path) in [
            (Method::POST, "/v1/tunnels"),
            (Method::POST, "/v1/tunnels/tnl_a/reveal_token"),
            (Method::POST, "/v1/dashboard/codes"),
            (Method::POST, "/v1/approvals/a/b/approve"),
            (Method::POST, "/v1/approvals/approve"),
            (Method::DELETE, "/v1/breakers"),
            (Method::GET, "/v1/approvals/"),
        ] {
            assert!(!is_of_sessions(&method, path), "{method} {path}");
        }
    }
}
