//! Log-ins to the dashboard: one-time codes, and the sessions that they open.
//!
//! A session has two secrets. The cookie cannot be read by scripts, but a browser sends it to every port of its host. The key is
//! kept by the page, and other pages cannot read it or send its header field. A request needs both.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::base::{Secret, SecretHash, Time};
use crate::control::data_dir::DataDirError;

/// How long a one-time code is valid.
pub(in crate::control) const CODE_LIFE: Duration = Duration::from_secs(60);
/// How long a session lasts at most.
pub(in crate::control) const SESSION_LIFE: Duration = Duration::from_secs(8 * 3_600);
/// A session ends when it was not used for this long.
const SESSION_IDLE: Duration = Duration::from_secs(3_600);
/// The most codes at a time. Another one replaces the oldest.
const CODES_MAX: usize = 16;
/// The most sessions at a time. Another one replaces the oldest.
const SESSIONS_MAX: usize = 16;
/// The random bytes of a code, a cookie and a key.
const SECRET_LEN: usize = 32;
/// The random bytes in the name of the cookie.
const NAME_LEN: usize = 6;

/// The codes and sessions of a process. They end with it.
pub(in crate::control) struct DashboardSessions {
    /// The name of the cookie, which differs from that of other processes on this host: browsers do not tell ports apart.
    cookie_name: String,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    codes: VecDeque<Code>,
    sessions: VecDeque<Session>,
}

struct Code {
    hash: SecretHash,
    /// The admin token at that time.
    token: SecretHash,
    ends: Time,
}

struct Session {
    cookie: SecretHash,
    key: SecretHash,
    token: SecretHash,
    ends: Time,
    idle_ends: Time,
}

/// The secrets of a new session.
pub(in crate::control) struct OpenedSession {
    pub(in crate::control) cookie: Zeroizing<String>,
    pub(in crate::control) key: Zeroizing<String>,
}

impl DashboardSessions {
    /// Creates it without codes and sessions.
    pub(in crate::control) fn new() -> Result<DashboardSessions, DataDirError> {
        let name = random::<NAME_LEN>()?;
        Ok(DashboardSessions { cookie_name: format!("adit_{}", *name), held: Mutex::default() })
    }

    /// The name of the cookie.
    pub(in crate::control) fn cookie_name(&self) -> &str {
        &self.cookie_name
    }

    /// Creates a code that opens one session, as long as `token` is the admin token.
    pub(in crate::control) fn new_code(&self, token: SecretHash, now: Time) -> Result<Zeroizing<String>, DataDirError> {
        let code = random::<SECRET_LEN>()?;
        let mut held = self.held(now);
        push_bounded(&mut held.codes, Code { hash: hash(&code), token, ends: now + CODE_LIFE }, CODES_MAX);
        Ok(code)
    }

    /// Uses a code up, and opens a session; `None` if it is not a valid code.
    pub(in crate::control) fn open(
        &self,
        code: &str,
        token: &SecretHash,
        now: Time,
    ) -> Result<Option<OpenedSession>, DataDirError> {
        let (code, opened) =
            (hash(code), OpenedSession { cookie: random::<SECRET_LEN>()?, key: random::<SECRET_LEN>()? });
        let mut held = self.held(now);
        let Some(at) = held.codes.iter().position(|held| held.hash == code) else { return Ok(None) };
        let is_current = held.codes.remove(at).is_some_and(|code| code.token == *token);
        if !is_current {
            return Ok(None);
        }
        let session = Session {
            cookie: hash(&opened.cookie),
            key: hash(&opened.key),
            token: token.clone(),
            ends: now + SESSION_LIFE,
            idle_ends: now + SESSION_IDLE,
        };
        push_bounded(&mut held.sessions, session, SESSIONS_MAX);
        Ok(Some(opened))
    }

    /// Uses a session: how long it lasts if it is valid.
    pub(in crate::control) fn check(&self, cookie: &str, key: &str, token: &SecretHash, now: Time) -> Option<Duration> {
        let (cookie, key) = (hash(cookie), hash(key));
        let mut held = self.held(now);
        let session = held.sessions.iter_mut().find(|session| session.cookie == cookie)?;
        if session.key != key || session.token != *token {
            return None;
        }
        session.idle_ends = now + SESSION_IDLE;
        Some(session.ends - now)
    }

    /// Ends the session with this cookie, if there is one.
    pub(in crate::control) fn close(&self, cookie: &str, now: Time) {
        let cookie = hash(cookie);
        self.held(now).sessions.retain(|session| session.cookie != cookie);
    }

    /// What has not ended.
    fn held(&self, now: Time) -> MutexGuard<'_, Held> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.codes.retain(|code| now < code.ends);
        held.sessions.retain(|session| now < session.ends && now < session.idle_ends);
        held
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, max: usize) {
    if queue.len() == max {
        queue.pop_front();
    }
    queue.push_back(item);
}

fn hash(text: &str) -> SecretHash {
    SecretHash::of(&Secret::from(text))
}

fn random<const N: usize>() -> Result<Zeroizing<String>, DataDirError> {
    let mut bytes = Zeroizing::new([0; N]);
    aws_lc_rs::rand::fill(bytes.as_mut()).map_err(|_| DataDirError::NoRandom)?;
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Time {
        Time::ZERO + Duration::from_secs(s)
    }

    fn opened(sessions: &DashboardSessions, now: Time) -> OpenedSession {
        let code = sessions.new_code(hash("token"), now).unwrap();
        sessions.open(&code, &hash("token"), now).unwrap().unwrap()
    }

    #[test]
    fn a_code_opens_one_session_within_a_minute() {
        let sessions = DashboardSessions::new().unwrap();
        let code = sessions.new_code(hash("token"), at(0)).unwrap();
        assert!(sessions.open("x", &hash("token"), at(1)).unwrap().is_none());
        assert!(sessions.open(&code, &hash("token"), at(59)).unwrap().is_some());
        assert!(sessions.open(&code, &hash("token"), at(59)).unwrap().is_none(), "a second time");
        let late = sessions.new_code(hash("token"), at(0)).unwrap();
        assert!(sessions.open(&late, &hash("token"), at(60)).unwrap().is_none(), "too late");
        let before = sessions.new_code(hash("token"), at(0)).unwrap();
        assert!(sessions.open(&before, &hash("other"), at(1)).unwrap().is_none(), "the admin token was replaced");
    }

    #[test]
    fn a_session_needs_both_secrets_and_the_admin_token_of_its_beginning() {
        let sessions = DashboardSessions::new().unwrap();
        let (one, other) = (opened(&sessions, at(0)), opened(&sessions, at(0)));
        let check = |cookie: &str, key: &str, token| sessions.check(cookie, key, &hash(token), at(1)).is_some();
        assert!(check(&one.cookie, &one.key, "token") && check(&other.cookie, &other.key, "token"));
        for (cookie, key, token) in
            [(&one.cookie, &other.key, "token"), (&one.key, &one.cookie, "token"), (&one.cookie, &one.key, "other")]
        {
            assert!(!check(cookie, key, token));
        }
        assert!(!check("", "", "token"));
        sessions.close(&one.cookie, at(1));
        assert!(!check(&one.cookie, &one.key, "token") && check(&other.cookie, &other.key, "token"));
    }

    #[test]
    fn a_session_ends_when_it_is_idle_or_old() {
        let sessions = DashboardSessions::new().unwrap();
        let session = opened(&sessions, at(0));
        let left = |s| sessions.check(&session.cookie, &session.key, &hash("token"), at(s)).map(|left| left.as_secs());
        for half_hour in 0..16 {
            assert_eq!(left(half_hour * 1_800), Some(8 * 3_600 - half_hour * 1_800));
        }
        assert_eq!(left(8 * 3_600), None);
        let idle = opened(&sessions, at(0));
        assert!(sessions.check(&idle.cookie, &idle.key, &hash("token"), at(3_600)).is_none());
    }

    #[test]
    fn codes_and_sessions_are_bounded_and_the_oldest_goes_first() {
        let sessions = DashboardSessions::new().unwrap();
        let all: Vec<_> = (0..SESSIONS_MAX + 2).map(|_| opened(&sessions, at(0))).collect();
        let valid = |one: &OpenedSession| sessions.check(&one.cookie, &one.key, &hash("token"), at(1)).is_some();
        assert_eq!(all.iter().filter(|one| valid(one)).count(), SESSIONS_MAX);
        assert!(!valid(&all[0]) && valid(&all[SESSIONS_MAX + 1]));
        let codes: Vec<_> = (0..CODES_MAX + 3).map(|_| sessions.new_code(hash("token"), at(0)).unwrap()).collect();
        let good = codes.iter().filter(|code| sessions.open(code, &hash("token"), at(1)).unwrap().is_some());
        assert_eq!(good.count(), CODES_MAX);
    }
}
