//! HTTP CONNECT (RFC 9110 section 9.3.6), with Basic authentication (RFC 7617).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::fault::{authority, words};
use super::{ProxyFault, ProxyLogin, ProxyStep};
use crate::base::Secret;
use crate::wire::http1::{Method, Progress, ResponseHead};

/// The most interim (1xx) answers.
const INTERIM_MAX: u32 = 16;
const AUTHENTICATION_REQUIRED: u16 = 407;

/// A CONNECT request that waits for its answer.
pub(super) struct HttpConnect {
    head: ResponseHead,
    interim: u32,
    has_login: bool,
}

impl HttpConnect {
    pub(super) fn new(host: &str, port: u16, login: Option<&ProxyLogin>) -> (HttpConnect, Secret) {
        let authority = authority(host, port);
        let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
        if let Some(ProxyLogin { user, password }) = login {
            let mut pair = Zeroizing::new(format!("{user}:").into_bytes());
            pair.extend_from_slice(password.expose());
            let pair = Zeroizing::new(STANDARD.encode(&*pair));
            request.extend_from_slice(b"Proxy-Authorization: Basic ");
            request.extend_from_slice(pair.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        let connect = HttpConnect { head: ResponseHead::new(), interim: 0, has_login: login.is_some() };
        (connect, Secret::new(request))
    }

    pub(super) fn receive(&mut self, mut bytes: &[u8]) -> Result<ProxyStep, ProxyFault> {
        while !bytes.is_empty() {
            // The answer is parsed as that of any method but HEAD: only its head matters.
            let Progress::Complete { len } = self.head.feed(bytes, Method::Other).map_err(ProxyFault::NotHttp)? else {
                break;
            };
            bytes = &bytes[len..];
            match self.head.status() {
                100..200 if self.interim == INTERIM_MAX => return Err(ProxyFault::Interim),
                100..200 => self.interim += 1,
                200..300 if bytes.is_empty() => return Ok(ProxyStep::Done),
                200..300 => return Err(ProxyFault::EarlyBytes),
                AUTHENTICATION_REQUIRED => return Err(self.login_fault()),
                status => return Err(ProxyFault::Status { status, words: words(self.head.reason()) }),
            }
        }
        Ok(ProxyStep::More)
    }

    fn login_fault(&self) -> ProxyFault {
        let schemes: Vec<&[u8]> = self.head.proxy_challenges().map(scheme).collect();
        let is_basic = schemes.is_empty() || schemes.iter().any(|scheme| scheme.eq_ignore_ascii_case(b"basic"));
        let named = words(&schemes.join(&b", "[..]));
        match (is_basic, self.has_login) {
            (false, _) => ProxyFault::LoginUnsupported(named),
            (true, true) => ProxyFault::LoginRefused,
            (true, false) => ProxyFault::LoginRequired(if named.is_empty() { "407".into() } else { named }),
        }
    }
}

/// The first word of a challenge: its authentication scheme.
fn scheme(challenge: &[u8]) -> &[u8] {
    let end = challenge.iter().position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'-');
    &challenge[..end.unwrap_or(challenge.len())]
}

#[cfg(test)]
mod tests {
    use super::super::tests::{play, play_in_every_cut};
    use super::super::{ProxyFault, ProxyProtocol};
    use crate::wire::http1::{HEAD_LEN_MAX, HeadError};

    fn answered(login: Option<(&str, &str)>, answer: &str) -> Result<bool, ProxyFault> {
        play_in_every_cut(ProxyProtocol::Http, login, &[answer.as_bytes()]).1
    }

    #[test]
    fn the_request_names_the_host_and_bears_the_login() {
        let (sent, _) = play(ProxyProtocol::Http, "edge.test", None, &[]);
        assert_eq!(sent, b"CONNECT edge.test:7844 HTTP/1.1\r\nHost: edge.test:7844\r\n\r\n");
        let (sent, _) = play(ProxyProtocol::Http, "2001:db8::1", None, &[]);
        assert!(sent.starts_with(b"CONNECT [2001:db8::1]:7844 HTTP/1.1\r\n"));
        // The example of RFC 7617, section 2.
        let (sent, _) = play(ProxyProtocol::Http, "edge.test", Some(("Aladdin", "open sesame")), &[]);
        let text = String::from_utf8(sent).unwrap();
        assert!(text.ends_with("\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"), "{text}");
    }

    #[test]
    fn success_is_seen_in_every_cut() {
        for answer in [
            "HTTP/1.1 200 Connection established\r\n\r\n",
            "HTTP/1.0 200\r\nProxy-Agent: x\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        ] {
            assert_eq!(answered(None, answer), Ok(true), "{answer}");
        }
        assert_eq!(answered(None, "HTTP/1.1 200 OK\r\n"), Ok(false));
    }

    #[test]
    fn each_refusal_has_a_remedy() {
        let denied = answered(None, "HTTP/1.1 403 Forbidden\x01\r\n\r\n");
        assert_eq!(denied, Err(ProxyFault::NotHttp(HeadError::ControlByte)));
        let denied = answered(None, "HTTP/1.1 403 Forbidden by policy\r\n\r\n");
        assert_eq!(denied, Err(ProxyFault::Status { status: 403, words: "Forbidden by policy".into() }));
        let basic =
            "HTTP/1.1 407 Login\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n";
        assert_eq!(answered(None, basic), Err(ProxyFault::LoginRequired("Negotiate, Basic".into())));
        assert_eq!(answered(Some(("u", "p")), basic), Err(ProxyFault::LoginRefused));
        let ntlm = "HTTP/1.1 407 Login\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n\r\n";
        let refused = answered(Some(("u", "p")), ntlm).unwrap_err();
        assert_eq!(refused, ProxyFault::LoginUnsupported("NTLM, Negotiate".into()));
        assert!(refused.to_string().contains("only Basic is supported"));
        assert_eq!(answered(None, "\x05\x00"), Err(ProxyFault::NotHttp(HeadError::BadStatusLine)));
    }

    #[test]
    fn bytes_behind_the_answer_and_endless_answers_are_refused() {
        let early: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0";
        assert_eq!(play(ProxyProtocol::Http, "edge.test", None, &[early]).1, Err(ProxyFault::EarlyBytes));
        let interim = "HTTP/1.1 102 Processing\r\n\r\n".repeat(20);
        assert_eq!(answered(None, &interim), Err(ProxyFault::Interim));
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(HEAD_LEN_MAX));
        let (_, ended) = play(ProxyProtocol::Http, "edge.test", None, &[endless.as_bytes()]);
        assert_eq!(ended, Err(ProxyFault::NotHttp(HeadError::TooLong)));
    }
}
