//! SOCKS5 (RFC 1928), with user and password (RFC 1929).

use std::net::IpAddr;

use super::{ProxyFault, ProxyLogin, ProxyStep};
use crate::base::Secret;

const VERSION: u8 = 5;
/// The version of the negotiation of RFC 1929.
const LOGIN_VERSION: u8 = 1;
const NO_LOGIN: u8 = 0;
const BY_PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;
/// The longest message of a proxy: the reply with a name of 255 bytes.
const MESSAGE_LEN_MAX: usize = 4 + 1 + 255 + 2;

/// The state of a negotiation.
pub(super) struct Socks5 {
    request: Vec<u8>,
    /// The message to send if the proxy requires the login, if there is one.
    login: Option<Secret>,
    stage: Stage,
    /// The message that is being received.
    message: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Method,
    Login,
    Reply,
}

impl Socks5 {
    pub(super) fn new(host: &str, port: u16, login: Option<&ProxyLogin>) -> (Socks5, Secret) {
        let methods: &[u8] =
            if login.is_some() { &[VERSION, 2, NO_LOGIN, BY_PASSWORD] } else { &[VERSION, 1, NO_LOGIN] };
        let login = login.map(|ProxyLogin { user, password }| {
            let mut message = vec![LOGIN_VERSION];
            for part in [user.as_bytes(), password.expose()] {
                message.push(length(part));
                message.extend_from_slice(part);
            }
            Secret::new(message)
        });
        let mut request = vec![VERSION, CONNECT, 0];
        match host.parse() {
            Ok(IpAddr::V4(address)) => {
                request.push(IPV4);
                request.extend_from_slice(&address.octets());
            }
            Ok(IpAddr::V6(address)) => {
                request.push(IPV6);
                request.extend_from_slice(&address.octets());
            }
            Err(_) => {
                request.extend_from_slice(&[NAME, length(host.as_bytes())]);
                request.extend_from_slice(host.as_bytes());
            }
        }
        request.extend_from_slice(&port.to_be_bytes());
        let socks = Socks5 { request, login, stage: Stage::Method, message: Vec::with_capacity(MESSAGE_LEN_MAX) };
        (socks, Secret::new(methods.to_vec()))
    }

    pub(super) fn receive(&mut self, bytes: &[u8]) -> Result<ProxyStep, ProxyFault> {
        for (nth, byte) in bytes.iter().enumerate() {
            self.message.push(*byte);
            let Some(step) = self.advance()? else { continue };
            // At each step the proxy waits for the client, and at the end for the host.
            return if nth + 1 == bytes.len() { Ok(step) } else { Err(ProxyFault::EarlyBytes) };
        }
        Ok(ProxyStep::More)
    }

    /// The next step after the received part of the message; none if it is incomplete.
    fn advance(&mut self) -> Result<Option<ProxyStep>, ProxyFault> {
        let step = match (self.stage, &self.message[..]) {
            (Stage::Method | Stage::Reply, [version, ..]) if *version != VERSION => return Err(ProxyFault::NotSocks5),
            (Stage::Login, [version, ..]) if *version != LOGIN_VERSION => return Err(ProxyFault::NotSocks5),
            (Stage::Method, [_, NO_LOGIN]) => self.ask(),
            (Stage::Method, [_, BY_PASSWORD]) => {
                let login = self.login.take().ok_or(ProxyFault::NotSocks5)?;
                self.stage = Stage::Login;
                ProxyStep::Send(login)
            }
            (Stage::Method, [_, NO_METHOD]) if self.login.is_none() => {
                return Err(ProxyFault::LoginRequired("SOCKS5".into()));
            }
            (Stage::Method, [_, NO_METHOD]) => return Err(ProxyFault::NoMethod),
            (Stage::Method, [_, _]) => return Err(ProxyFault::NotSocks5),
            (Stage::Login, [_, 0]) => self.ask(),
            (Stage::Login, [_, _]) => return Err(ProxyFault::LoginRefused),
            (Stage::Reply, [_, code]) if *code != 0 => return Err(ProxyFault::Reply(meaning(*code))),
            (Stage::Reply, message) if reply_len(message)? == Some(message.len()) => ProxyStep::Done,
            _ => return Ok(None),
        };
        self.message.clear();
        Ok(Some(step))
    }

    fn ask(&mut self) -> ProxyStep {
        self.stage = Stage::Reply;
        ProxyStep::Send(Secret::new(std::mem::take(&mut self.request)))
    }
}

/// The length of a reply, once enough of it was received.
fn reply_len(message: &[u8]) -> Result<Option<usize>, ProxyFault> {
    let address_len = match message {
        [_, _, _, IPV4, ..] => 4,
        [_, _, _, IPV6, ..] => 16,
        [_, _, _, NAME, len, ..] => 1 + usize::from(*len),
        [_, _, _, NAME] | [] | [_] | [_, _] | [_, _, _] => return Ok(None),
        _ => return Err(ProxyFault::NotSocks5),
    };
    Ok(Some(4 + address_len + 2))
}

/// The meaning of a code in a reply (RFC 1928 section 6), with a remedy.
fn meaning(code: u8) -> &'static str {
    match code {
        1 => "general failure, see the proxy's log",
        2 => "its rules do not allow this host and port, ask its operator",
        3 => "the network of the host is unreachable from it",
        4 => "the host is unreachable from it, or it cannot resolve the name",
        5 => "the host refused its connection, check that `adit edge` runs there",
        6 => "the host did not answer it in time",
        7 => "it does not support CONNECT",
        8 => "it does not support this kind of address",
        _ => "it gave a reason that RFC 1928 does not know",
    }
}

/// The length of a part that was checked to be at most 255 bytes long.
fn length(part: &[u8]) -> u8 {
    u8::try_from(part.len()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{play, play_in_every_cut};
    use super::super::{ProxyFault, ProxyProtocol};

    const LOGIN: Option<(&str, &str)> = Some(("user", "pass"));
    const DONE: &[u8] = &[5, 0, 0, 1, 192, 0, 2, 1, 0, 80];

    fn ended(login: Option<(&str, &str)>, answers: &[&[u8]]) -> Result<bool, ProxyFault> {
        play_in_every_cut(ProxyProtocol::Socks5, login, answers).1
    }

    #[test]
    fn a_connection_is_made_with_and_without_a_login_in_every_cut() {
        let request = b"\x05\x01\x00\x03\x09edge.test\x1e\xa4";
        let (sent, done) = play_in_every_cut(ProxyProtocol::Socks5, None, &[&[5, 0], DONE]);
        assert_eq!((sent, done), ([&b"\x05\x01\x00"[..], request].concat(), Ok(true)));
        let (sent, done) = play_in_every_cut(ProxyProtocol::Socks5, LOGIN, &[&[5, 2], &[1, 0], DONE]);
        let login = b"\x01\x04user\x04pass";
        assert_eq!((sent, done), ([&b"\x05\x02\x00\x02"[..], login, request].concat(), Ok(true)));
        // The login is not sent to a proxy that does not require it.
        let (sent, done) = play_in_every_cut(ProxyProtocol::Socks5, LOGIN, &[&[5, 0], DONE]);
        assert_eq!((sent, done), ([&b"\x05\x02\x00\x02"[..], request].concat(), Ok(true)));
    }

    #[test]
    fn addresses_are_sent_as_such_and_every_kind_of_reply_is_read() {
        let (sent, _) = play(ProxyProtocol::Socks5, "192.0.2.7", None, &[&[5, 0]]);
        assert!(sent.ends_with(&[1, 192, 0, 2, 7, 0x1e, 0xa4]));
        let (sent, _) = play(ProxyProtocol::Socks5, "::1", None, &[&[5, 0]]);
        assert!(sent.ends_with(&[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x1e, 0xa4]));
        let v6 = [&[5, 0, 0, 4][..], &[0; 18]].concat();
        let named = [&[5, 0, 0, 3, 255][..], &[b'x'; 255], &[0, 80]].concat();
        let nameless = [5, 0, 0, 3, 0, 0, 80];
        for reply in [&v6[..], &named, &nameless] {
            assert_eq!(ended(None, &[&[5, 0], reply]), Ok(true));
            assert_eq!(ended(None, &[&[5, 0], &reply[..reply.len() - 1]]), Ok(false));
        }
    }

    #[test]
    fn each_refusal_has_a_remedy() {
        assert_eq!(ended(None, &[&[5, 0xff]]), Err(ProxyFault::LoginRequired("SOCKS5".into())));
        assert_eq!(ended(LOGIN, &[&[5, 0xff]]), Err(ProxyFault::NoMethod));
        assert_eq!(ended(LOGIN, &[&[5, 2], &[1, 1]]), Err(ProxyFault::LoginRefused));
        for (code, text) in [(2, "rules"), (4, "unreachable"), (5, "refused"), (99, "does not know")] {
            let refused = ended(None, &[&[5, 0], &[5, code]]).unwrap_err().to_string();
            assert!(refused.contains(text), "{refused}");
        }
    }

    #[test]
    fn other_protocols_and_early_bytes_are_refused() {
        for (login, answers) in [
            (None, vec![&b"H"[..]]),
            (None, vec![&[5, 2]]),
            (None, vec![&[5, 7]]),
            (None, vec![&[5, 0], &[4]]),
            (None, vec![&[5, 0], &[5, 0, 0, 2]]),
            (LOGIN, vec![&[5, 2], &[5]]),
        ] {
            assert_eq!(ended(login, &answers), Err(ProxyFault::NotSocks5), "{answers:?}");
        }
        let early = [DONE, &[22]].concat();
        assert_eq!(play(ProxyProtocol::Socks5, "edge.test", None, &[&[5, 0], &early]).1, Err(ProxyFault::EarlyBytes));
        assert_eq!(play(ProxyProtocol::Socks5, "edge.test", None, &[&[5, 0, 5]]).1, Err(ProxyFault::EarlyBytes));
    }
}
