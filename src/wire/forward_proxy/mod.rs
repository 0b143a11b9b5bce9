//! The client's side of two forward proxy protocols: HTTP CONNECT (RFC 9110 section 9.3.6) and SOCKS5 (RFC 1928, RFC
//! 1929).
//!
//! The proxy's bytes arrive in pieces of any size, and the result does not depend on how they are cut. Only a limited
//! number of them is kept.

mod fault;
mod http_connect;
mod socks5;

use crate::base::Secret;

pub use fault::ProxyFault;
use http_connect::HttpConnect;
use socks5::Socks5;

/// The longest user name and the longest password, in bytes (RFC 1929 section 2).
pub const LOGIN_PART_LEN_MAX: usize = 255;

/// The protocol of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// An HTTP proxy, with the method CONNECT.
    Http,
    /// A SOCKS proxy, version 5 (RFC 1928).
    Socks5,
}

/// The user name and the password for a proxy.
#[derive(Clone)]
pub struct ProxyLogin {
    /// The user's name, at most [`LOGIN_PART_LEN_MAX`] bytes.
    pub user: Box<str>,
    /// The password, at most [`LOGIN_PART_LEN_MAX`] bytes.
    pub password: Secret,
}

/// Asks a proxy to connect to a host.
pub struct ProxyHandshake(Kind);

enum Kind {
    Http(Box<HttpConnect>),
    Socks5(Socks5),
}

/// The next step after bytes of the proxy.
pub enum ProxyStep {
    /// More bytes have to be received.
    More,
    /// These bytes have to be sent to the proxy.
    Send(Secret),
    /// The connection leads to the host now.
    Done,
}

impl ProxyHandshake {
    /// A handshake for a connection to `host` (a name, or an address without brackets), and the bytes with which it begins. The
    /// proxy resolves a name.
    ///
    /// # Errors
    ///
    /// If host, user or password are too long.
    pub fn new(
        protocol: ProxyProtocol,
        (host, port): (&str, u16),
        login: Option<&ProxyLogin>,
    ) -> Result<(ProxyHandshake, Secret), ProxyFault> {
        let too_long = |text: &[u8]| text.len() > LOGIN_PART_LEN_MAX;
        if too_long(host.as_bytes())
            || login.is_some_and(|login| too_long(login.user.as_bytes()) || too_long(login.password.expose()))
        {
            return Err(ProxyFault::TooLong);
        }
        Ok(match protocol {
            ProxyProtocol::Http => {
                let (handshake, first) = HttpConnect::new(host, port, login);
                (ProxyHandshake(Kind::Http(Box::new(handshake))), first)
            }
            ProxyProtocol::Socks5 => {
                let (handshake, first) = Socks5::new(host, port, login);
                (ProxyHandshake(Kind::Socks5(handshake)), first)
            }
        })
    }

    /// Processes the next bytes of the proxy; each byte once.
    ///
    /// # Errors
    ///
    /// If the proxy refuses, or violates its protocol. The connection is unusable then.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<ProxyStep, ProxyFault> {
        match &mut self.0 {
            Kind::Http(http) => http.receive(bytes),
            Kind::Socks5(socks) => socks.receive(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that a handshake sends, and its result, if the proxy's bytes arrive in these pieces.
    pub(super) fn play(
        protocol: ProxyProtocol,
        host: &str,
        login: Option<(&str, &str)>,
        pieces: &[&[u8]],
    ) -> (Vec<u8>, Result<bool, ProxyFault>) {
        let login = login.map(|(user, password)| ProxyLogin { user: user.into(), password: Secret::from(password) });
        let (mut handshake, first) = ProxyHandshake::new(protocol, (host, 7844), login.as_ref()).unwrap();
        let mut sent = first.expose().to_vec();
        let mut done = false;
        for piece in pieces {
            assert!(!done, "nothing may follow the end");
            match handshake.receive(piece) {
                Ok(ProxyStep::More) => {}
                Ok(ProxyStep::Send(bytes)) => sent.extend_from_slice(bytes.expose()),
                Ok(ProxyStep::Done) => done = true,
                Err(fault) => return (sent, Err(fault)),
            }
        }
        (sent, Ok(done))
    }

    /// Plays the bytes of a proxy in one piece, in each pair of pieces, and byte by byte; all results must be equal.
    pub(super) fn play_in_every_cut(
        protocol: ProxyProtocol,
        login: Option<(&str, &str)>,
        answers: &[&[u8]],
    ) -> (Vec<u8>, Result<bool, ProxyFault>) {
        let whole = play(protocol, "edge.test", login, answers);
        for (nth, answer) in answers.iter().enumerate() {
            for at in 1..answer.len() {
                let (head, tail) = answer.split_at(at);
                let mut pieces = answers.to_vec();
                pieces.splice(nth..=nth, [head, tail]);
                assert_eq!(play(protocol, "edge.test", login, &pieces), whole, "answer {nth} cut at {at}");
            }
        }
        let bytes: Vec<&[u8]> = answers.iter().flat_map(|answer| answer.chunks(1)).collect();
        assert_eq!(play(protocol, "edge.test", login, &bytes), whole, "byte by byte");
        whole
    }

    #[test]
    fn overlong_values_are_refused_before_anything_is_sent() {
        let long = "x".repeat(LOGIN_PART_LEN_MAX + 1);
        for protocol in [ProxyProtocol::Http, ProxyProtocol::Socks5] {
            let login = ProxyLogin { user: long.as_str().into(), password: Secret::from("p") };
            let made = ProxyHandshake::new(protocol, ("edge.test", 1), Some(&login)).map(|_| ());
            assert_eq!(made, Err(ProxyFault::TooLong));
            assert_eq!(ProxyHandshake::new(protocol, (&long, 1), None).map(|_| ()), Err(ProxyFault::TooLong));
        }
    }
}
