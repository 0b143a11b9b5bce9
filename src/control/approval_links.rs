//! Signed links to the page on which one can decide about a call that waits for approval.

use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::base::Time;
use crate::control::approval_counts::ApprovalCounts;
use crate::policy::{Approval, ApprovalTicket, Rate};

/// The length of the key that signs links, in bytes.
pub const LINK_KEY_LEN: usize = 32;
/// The path of the pages, below the configured URL.
pub(super) const LINK_PATH: &str = "/approve";
/// What the key signs: links by which one decides, in their first form. Nothing else is signed with it.
const PURPOSE: &str = "adit approval link: decide, 1";
/// The longest second part of a link.
const PROOF_LEN_MAX: usize = 128;
/// How many pages are shown in a minute, and at once. Links that are not valid have a limit of their own, so that who has none
/// cannot lock out who has one.
const PAGES_PER_MINUTE: u64 = 120;
const PAGES_AT_ONCE: u64 = 60;

/// Signs links, and recognises them.
pub struct ApprovalLinks {
    key: hmac::Key,
    /// The configured URL without a slash at its end.
    base: Box<str>,
    shows_arguments: bool,
    counts: Arc<ApprovalCounts>,
    rate: Rate,
    /// The state of the two buckets: of valid links, and of others.
    full_at_ns: Mutex<[u64; 2]>,
}

/// A link with a valid signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ApprovalLink {
    pub(super) ticket: ApprovalTicket,
    /// When approval was first requested. The same call has the same ticket when it is made again, and needs another link then.
    pub(super) asked_ms: u64,
    /// Until when the link may be used, in seconds since 1970.
    ends_s: u64,
}

impl ApprovalLinks {
    /// Links below this URL, signed with this key. Their pages show the arguments of calls only with `shows_arguments`.
    #[must_use]
    pub fn new(
        url: &str,
        key: &[u8; LINK_KEY_LEN],
        shows_arguments: bool,
        counts: Arc<ApprovalCounts>,
    ) -> Arc<ApprovalLinks> {
        let rate = Rate::new(PAGES_PER_MINUTE, PAGES_AT_ONCE).expect("neither number is zero");
        Arc::new(ApprovalLinks {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
            base: url.trim_end_matches('/').into(),
            shows_arguments,
            counts,
            rate,
            full_at_ns: Mutex::default(),
        })
    }

    /// The link of a call that waits, at this time of both clocks.
    pub(super) fn url(&self, call: &Approval, now: Time, unix_s: u64) -> String {
        // Rounded up: the call itself says when its time is over.
        let ends_s = unix_s + (call.ends - now).as_secs() + 1;
        let link = ApprovalLink { ticket: call.ticket, asked_ms: asked_ms(call), ends_s };
        let ApprovalLink { ticket, asked_ms, ends_s } = link;
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&self.key, link.signed().as_bytes()));
        format!("{}{LINK_PATH}/{ticket}/{asked_ms}.{ends_s}.{signature}", self.base)
    }

    /// Reads both parts of a link; `None` if this process has not signed it.
    pub(super) fn read(&self, ticket: &str, proof: &str) -> Option<ApprovalLink> {
        if proof.len() > PROOF_LEN_MAX {
            return None;
        }
        let (numbers, signature) = proof.rsplit_once('.')?;
        let (asked, ends) = numbers.split_once('.')?;
        let link = ApprovalLink { ticket: ticket.parse().ok()?, asked_ms: digits(asked)?, ends_s: digits(ends)? };
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        // Compares in constant time.
        hmac::verify(&self.key, link.signed().as_bytes(), &signature).ok()?;
        Some(link)
    }

    /// Takes a place among the pages of this minute. Returns false if there is none.
    pub(super) fn may_show(&self, is_valid: bool, now: Time) -> bool {
        let mut full_at_ns = self.full_at_ns.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = &mut full_at_ns[usize::from(is_valid)];
        match self.rate.take_from(*bucket, now) {
            Ok(full) => {
                *bucket = full;
                true
            }
            Err(_) => false,
        }
    }

    /// Whether this host, as a request names it, is that of the configured URL.
    pub(super) fn is_at(&self, host: &str) -> bool {
        let (scheme, rest) = self.base.split_once("://").unwrap_or_default();
        let own = rest.split('/').next().unwrap_or_default();
        let port = if scheme == "https" { ":443" } else { ":80" };
        let bare = |host: &str| host.strip_suffix(port).unwrap_or(host).to_ascii_lowercase();
        bare(host) == bare(own)
    }

    pub(super) fn shows_arguments(&self) -> bool {
        self.shows_arguments
    }

    pub(super) fn counts(&self) -> &ApprovalCounts {
        &self.counts
    }
}

impl ApprovalLink {
    pub(super) fn is_over(&self, unix_s: u64) -> bool {
        unix_s > self.ends_s
    }

    /// Whether it is a link of this call, and not of an earlier one that was the same.
    pub(super) fn is_of(&self, call: &Approval) -> bool {
        self.ticket == call.ticket && self.asked_ms == asked_ms(call)
    }

    fn signed(&self) -> String {
        let ApprovalLink { ticket, asked_ms, ends_s } = self;
        format!("{PURPOSE}\n{ticket}\n{asked_ms}\n{ends_s}")
    }
}

fn asked_ms(call: &Approval) -> u64 {
    u64::try_from(call.asked.as_millis()).unwrap_or(u64::MAX)
}

/// A number in the one way in which it is written.
fn digits(text: &str) -> Option<u64> {
    u64::from_str(text).ok().filter(|number| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::{Approvals, Asked, CountedCaller, QuotaTime, RoleSet, ToolPolicy};

    const KEY: [u8; LINK_KEY_LEN] = [7; LINK_KEY_LEN];

    fn links(key: u8) -> Arc<ApprovalLinks> {
        ApprovalLinks::new("https://adit.example/ops/", &[key; LINK_KEY_LEN], false, Arc::default())
    }

    fn waiting(unix_s: u64) -> Approval {
        let mut policy = ToolPolicy::parse("[[rule]]\nname = 'r'\neffect = 'approve'\ntools = ['*']\n").unwrap();
        let approvals = Arc::<Approvals>::default();
        policy.count_in(&Arc::default(), &approvals, "a.test");
        let (asked, caller) = (Asked::tool("pay"), CountedCaller { identity: None, address: None });
        let time = QuotaTime { now: Time::ZERO, unix: Duration::from_secs(unix_s) };
        let message = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay"}}"#;
        policy.ask_approval(policy.decide(RoleSet::default(), &asked), &asked, &caller, time, (None, message)).unwrap();
        approvals.all(Time::ZERO).remove(0)
    }

    /// The two parts behind the path.
    fn parts(url: &str) -> (String, String) {
        let rest = url.strip_prefix("https://adit.example/ops/approve/").unwrap();
        let (ticket, proof) = rest.split_once('/').unwrap();
        (ticket.to_owned(), proof.to_owned())
    }

    #[test]
    fn a_link_is_of_one_call_and_one_time_and_nothing_of_it_can_be_changed() {
        let (links, call) = (links(KEY[0]), waiting(1_000));
        let (ticket, proof) = parts(&links.url(&call, Time::ZERO, 1_000));
        let link = links.read(&ticket, &proof).unwrap();
        assert!(link.is_of(&call) && !link.is_over(1_000));
        assert!(!link.is_of(&waiting(1_001)), "the same call, made again later");
        let hour = 3_600;
        assert!(!link.is_over(1_000 + hour) && link.is_over(1_002 + hour), "as long as the call waits");
        for at in 0..proof.len() {
            for with in ["0", "1", "A", "b", ".", "=", ""] {
                let changed = [&proof[..at], with, &proof[at + 1..]].concat();
                // The last character of Base64 has bits that mean nothing, which the decoder refuses.
                assert!(changed == proof || links.read(&ticket, &changed).is_none(), "{changed}");
            }
        }
        let other = ticket.replace(&ticket[4..6], if &ticket[4..6] == "00" { "11" } else { "00" });
        for (ticket, proof) in [
            (&*other, &*proof),
            (&*ticket.to_uppercase(), &proof),
            (&*ticket, &format!("0{proof}")),
            (&*ticket, &format!("+{proof}")),
            (&*ticket, &format!("{proof}=")),
            (&*ticket, &"1.1.".repeat(64)),
            (&*ticket, ".."),
            (&*ticket, ""),
        ] {
            assert!(links.read(ticket, proof).is_none(), "{ticket} {proof}");
        }
        assert!(super::tests::links(8).read(&ticket, &proof).is_none(), "of another process");
    }

    #[test]
    fn links_that_are_not_valid_take_no_place_from_those_that_are() {
        let links = links(1);
        let shown = |is_valid, now| (0..1_000).filter(|_| links.may_show(is_valid, now)).count() as u64;
        assert_eq!(shown(false, Time::ZERO), PAGES_AT_ONCE);
        assert_eq!(shown(true, Time::ZERO), PAGES_AT_ONCE);
        assert_eq!(shown(true, Time::ZERO + Duration::from_secs(1)), PAGES_PER_MINUTE / 60);
    }

    #[test]
    fn the_host_of_the_configured_url_is_known_with_and_without_its_port() {
        let at = |url, host| ApprovalLinks::new(url, &KEY, false, Arc::default()).is_at(host);
        for (url, host, is_known) in [
            ("https://adit.example/ops", "adit.example", true),
            ("https://adit.example", "ADIT.example:443", true),
            ("https://adit.example", "adit.example:80", false),
            ("https://adit.example", "evil.example", false),
            ("https://adit.example", "", false),
            ("https://adit.example:8443", "adit.example", false),
            ("https://adit.example:8443", "adit.example:8443", true),
        ] {
            assert_eq!(at(url, host), is_known, "{url} {host}");
        }
    }
}
