//! Connects a core to the first address of a host that answers.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::Poll;

use crate::base::{Clock, Time};
use crate::dial::race::Race;
use crate::engine::driver::{Address, SocketOptions};
use crate::engine::{Core, Socket};

/// Why no connection to a host could be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialError {
    /// The failed attempts in order. Those that had not been answered at the deadline come last.
    pub attempts: Vec<Attempt>,
}

/// One failed attempt to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The address that was dialled.
    pub address: Address,
    /// The error of the system as text; `None` if there was no answer before the deadline.
    pub reason: Option<String>,
    /// Whether the connection was refused: nothing listens on the address.
    pub is_refused: bool,
}

impl DialError {
    /// Whether every address refused the connection, so the server is most likely down.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        !self.attempts.is_empty() && self.attempts.iter().all(|attempt| attempt.is_refused)
    }

    /// Whether some address had not answered at the deadline.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.attempts.iter().any(|attempt| attempt.reason.is_none())
    }

    /// The dialled addresses as text.
    #[must_use]
    pub fn addresses(&self) -> String {
        let texts: Vec<String> = self.attempts.iter().map(|attempt| attempt.address.to_string()).collect();
        texts.join(", ")
    }

    /// The reason of each attempt, or one reason if all are the same.
    #[must_use]
    pub fn reasons(&self) -> String {
        let text = |attempt: &Attempt| attempt.reason.clone().unwrap_or_else(|| "no answer".to_owned());
        match &self.attempts[..] {
            [] => "it has no address".to_owned(),
            [first, others @ ..] if others.iter().all(|other| other.reason == first.reason) => text(first),
            all => {
                let each: Vec<String> = all.iter().map(|one| format!("{}: {}", one.address, text(one))).collect();
                each.join("; ")
            }
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.addresses(), self.reasons())
    }
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<Socket>>>>;

/// Connects to the first of `addresses` that answers before `deadline`. The attempts overlap as in RFC 8305. Dropping
/// the future cancels them.
///
/// # Errors
///
/// If no attempt succeeded before `deadline`.
pub async fn connect_first(
    core: &Core,
    addresses: &[SocketAddr],
    options: SocketOptions,
    deadline: Time,
) -> Result<(Socket, SocketAddr), DialError> {
    let mut race = Race::new(addresses);
    let mut running: Vec<(SocketAddr, Connecting)> = Vec::new();
    let mut attempts = Vec::new();
    loop {
        while let Some(address) = race.start(core.now()) {
            let core = core.clone();
            running.push((address, Box::pin(async move { core.connect(&address.into(), options).await })));
        }
        if race.is_lost() {
            return Err(DialError { attempts });
        }
        let until = race.next_at().map_or(deadline, |at| at.min(deadline));
        let mut time = pin!(core.sleep_until(until));
        let ended = poll_fn(|cx| {
            let ended =
                running.iter_mut().enumerate().find_map(|(nth, (_, connecting))| match connecting.as_mut().poll(cx) {
                    Poll::Ready(result) => Some((nth, result)),
                    Poll::Pending => None,
                });
            if ended.is_some() { Poll::Ready(ended) } else { time.as_mut().poll(cx).map(|()| None) }
        })
        .await;
        match ended {
            Some((nth, Ok(socket))) => return Ok((socket, running[nth].0)),
            Some((nth, Err(error))) => {
                attempts.push(Attempt::failed(running.swap_remove(nth).0.into(), &error));
                race.on_failed(core.now());
            }
            None if core.now() >= deadline => {
                attempts.extend(running.iter().map(|(address, _)| Attempt::unanswered((*address).into())));
                return Err(DialError { attempts });
            }
            None => {}
        }
    }
}

/// Connects to one address before `deadline`.
///
/// # Errors
///
/// If it did not answer in time, or the connection failed.
pub async fn connect_one(
    core: &Core,
    address: &Address,
    options: SocketOptions,
    deadline: Time,
) -> Result<Socket, DialError> {
    let failed = match core.timeout_at(deadline, core.connect(address, options)).await {
        Ok(Ok(socket)) => return Ok(socket),
        Ok(Err(error)) => Attempt::failed(address.clone(), &error),
        Err(_) => Attempt::unanswered(address.clone()),
    };
    Err(DialError { attempts: vec![failed] })
}

impl Attempt {
    fn failed(address: Address, error: &io::Error) -> Attempt {
        // A Unix socket that does not exist yet counts as refused: nothing listens on it.
        let is_refused = matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound);
        Attempt { address, reason: Some(error.to_string()), is_refused }
    }

    fn unanswered(address: Address) -> Attempt {
        Attempt { address, reason: None, is_refused: false }
    }
}
