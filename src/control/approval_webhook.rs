//! Notifies a web server of calls that wait for approval, as Standard Webhooks (<https://www.standardwebhooks.com>).

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, header};
use serde_json::json;

use crate::base::{Clock, Secret, Time, Trouble};
use crate::control::approval_counts::{ApprovalCounts, DeliveryOutcome};
use crate::control::approval_links::ApprovalLinks;
use crate::control::bodies::ApprovalInfo;
use crate::control::issuer_http::issuer_client;
use crate::control::once::chain;
use crate::control::wall_time::WallTime;
use crate::engine::MonotonicClock;
use crate::policy::{Approval, ApprovalTicket, Approvals};

/// The timeout of a request.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// How often new calls are polled, and the limits of the pause after a failure.
const PACE: Pace =
    Pace { look_every: Duration::from_secs(1), pause_min: Duration::from_secs(2), pause_max: Duration::from_secs(300) };
/// The prefix of Base64 secrets in Standard Webhooks.
const ENCODED_SECRET: &str = "whsec_";

/// A web server that is notified of calls that wait for approval. Decisions are made with the admin API.
pub struct ApprovalWebhook {
    url: Box<str>,
    client: Client,
    key: hmac::Key,
    shows_arguments: bool,
    links: Option<Arc<ApprovalLinks>>,
    counts: Arc<ApprovalCounts>,
    pace: Pace,
}

#[derive(Clone, Copy)]
struct Pace {
    look_every: Duration,
    pause_min: Duration,
    pause_max: Duration,
}

/// The notifications sent so far, for pending calls only.
#[derive(Default)]
struct Deliveries {
    /// The calls, by ticket and time of the first request.
    calls: HashSet<(ApprovalTicket, Duration)>,
    /// The calls that wait and have no notification yet.
    pending: HashSet<(ApprovalTicket, Duration)>,
    /// The number of failed notifications per call.
    failed: HashMap<ApprovalTicket, u32>,
    /// The length of the current pause, and its end.
    pause: Option<(Duration, Time)>,
}

impl ApprovalWebhook {
    /// A server at this URL, with the secret that signs the messages. Its certificate is verified by the authorities in the file
    /// `ca` (path and content), or by the public ones.
    ///
    /// # Errors
    ///
    /// Why the secret or the file cannot be used, as a sentence.
    pub fn new(
        url: &str,
        secret: &Secret,
        ca: Option<(&Path, &[u8])>,
        shows_arguments: bool,
        counts: Arc<ApprovalCounts>,
    ) -> Result<ApprovalWebhook, String> {
        let client = issuer_client(ca)?;
        let encoded = std::str::from_utf8(secret.expose()).ok().and_then(|text| text.strip_prefix(ENCODED_SECRET));
        let decoded = encoded.map(|text| STANDARD.decode(text).map(Secret::new));
        let decoded = decoded.transpose().map_err(|_| format!("what follows {ENCODED_SECRET} is not Base64"))?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, decoded.as_ref().unwrap_or(secret).expose());
        Ok(ApprovalWebhook { url: url.into(), client, key, shows_arguments, links: None, counts, pace: PACE })
    }

    /// Sends a link with each notification, by which one can decide about the call.
    #[must_use]
    pub fn with_links(self, links: Option<Arc<ApprovalLinks>>) -> ApprovalWebhook {
        ApprovalWebhook { links, ..self }
    }

    /// Sends notifications until the future is dropped. A failed one is retried until the call is no longer pending.
    pub async fn keep(self, approvals: Arc<Approvals>) {
        let (mut deliveries, mut trouble, mut seen) = (Deliveries::default(), Trouble::default(), None);
        loop {
            tokio::time::sleep(self.pace.look_every).await;
            let changes = approvals.changes();
            if seen == Some(changes) && !trouble.is_on() {
                continue;
            }
            seen = Some(changes);
            let (calls, dropped) = deliveries.next(approvals.all(MonotonicClock.now()));
            (0..dropped).for_each(|_| self.counts.on_delivery(DeliveryOutcome::Dropped));
            if deliveries.pauses(MonotonicClock.now()) {
                continue;
            }
            for call in calls {
                match self.deliver(&call).await {
                    Ok(()) => {
                        self.counts.on_delivery(DeliveryOutcome::Delivered);
                        deliveries.succeeded(&call);
                        if trouble.ends() {
                            tracing::info!("the approval webhook is reached again");
                        }
                    }
                    Err(why) => {
                        self.counts.on_delivery(DeliveryOutcome::Failed);
                        deliveries.failed(&call, self.pace, MonotonicClock.now());
                        if trouble.begins() {
                            tracing::warn!(
                                why,
                                "approvals.webhook_url cannot be told of a call that waits for approval; adit will retry"
                            );
                        }
                        break;
                    }
                }
            }
        }
    }

    async fn deliver(&self, call: &Approval) -> Result<(), String> {
        let mut info = ApprovalInfo::of(call);
        info.arguments = info.arguments.filter(|_| self.shows_arguments);
        let now = WallTime::now();
        let mut data = json!(info);
        if let Some(links) = &self.links {
            data["approval_url"] = json!(links.url(call, MonotonicClock.now(), now.as_unix().as_secs()));
        }
        let body = json!({"type": "approval.waiting", "timestamp": now.to_string(), "data": data}).to_string();
        // The id is the same for each retry, so that the server can drop duplicates.
        let id = format!("{}_{}", call.ticket, call.asked.as_secs());
        let time = now.as_unix().as_secs();
        let signature = hmac::sign(&self.key, format!("{id}.{time}.{body}").as_bytes());
        let request = self.client.post(&*self.url).timeout(ANSWERED_WITHIN);
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let request = request.header("webhook-id", id).header("webhook-timestamp", time);
        let request = request.header("webhook-signature", format!("v1,{}", STANDARD.encode(signature.as_ref())));
        let answer = request.body(body).send().await.map_err(|error| chain(&error.without_url()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("it answers {status}")),
        }
    }
}

impl Deliveries {
    fn pauses(&self, now: Time) -> bool {
        self.pause.is_some_and(|(_, until)| until > now)
    }

    /// The pending calls that were not notified yet, those with the fewest failures first; and how many calls have stopped waiting
    /// since the last time that were never notified.
    fn next(&mut self, all: Vec<Approval>) -> (Vec<Approval>, usize) {
        let waiting: HashSet<_> =
            all.iter().filter(|one| one.is_waiting()).map(|one| (one.ticket, one.asked)).collect();
        self.calls.retain(|call| waiting.contains(call));
        let dropped = self.pending.difference(&waiting).count();
        self.failed.retain(|ticket, _| waiting.iter().any(|(one, _)| one == ticket));
        let is_new = |one: &Approval| one.is_waiting() && !self.calls.contains(&(one.ticket, one.asked));
        let mut new: Vec<Approval> = all.into_iter().filter(is_new).collect();
        new.sort_by_key(|one| self.failed.get(&one.ticket).copied().unwrap_or_default());
        self.pending = new.iter().map(|one| (one.ticket, one.asked)).collect();
        (new, dropped)
    }

    fn succeeded(&mut self, call: &Approval) {
        self.calls.insert((call.ticket, call.asked));
        self.pending.remove(&(call.ticket, call.asked));
        self.failed.remove(&call.ticket);
        self.pause = None;
    }

    fn failed(&mut self, call: &Approval, pace: Pace, now: Time) {
        *self.failed.entry(call.ticket).or_default() += 1;
        let pause = self.pause.map_or(pace.pause_min, |(pause, _)| (pause * 2).min(pace.pause_max));
        self.pause = Some((pause, now + pause));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::policy::{Asked, CountedCaller, QuotaTime, RoleSet, ToolPolicy};

    fn ask(approvals: &Arc<Approvals>, tool: &str) {
        let mut policy = ToolPolicy::parse("[[rule]]\nname = 'r'\neffect = 'approve'\ntools = ['*']\n").unwrap();
        policy.count_in(&Arc::default(), approvals, "a.test");
        let (asked, caller) = (Asked::tool(tool), CountedCaller { identity: None, address: None });
        let time = QuotaTime { now: MonotonicClock.now(), unix: Duration::from_secs(1_800_000_000) };
        let decision = policy.decide(RoleSet::default(), &asked);
        let message = br#"{"method":"tools/call","params":{"arguments":{"secret":1}}}"#;
        policy.ask_approval(decision, &asked, &caller, time, (Some((12, [1; 32])), message)).unwrap();
    }

    /// Reads a request: its head and its body.
    fn request(socket: &mut impl Read) -> (String, String) {
        let (mut reader, mut head) = (BufReader::new(socket), String::new());
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0);
        }
        let len = field(&head, "content-length").parse().unwrap();
        let mut body = vec![0; len];
        reader.read_exact(&mut body).unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    fn field<'a>(head: &'a str, name: &str) -> &'a str {
        let named = head.lines().filter_map(|line| line.split_once(": "));
        named.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).next().unwrap()
    }

    #[test]
    fn a_webhook_is_retried_until_the_server_acknowledges_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let answers = ["500 Internal Server Error", "204 No Content", "200 OK"];
            answers.map(|answer| {
                let (mut socket, _) = listener.accept().unwrap();
                let got = request(&mut socket);
                let close = "Connection: close\r\nContent-Length: 0\r\n\r\n";
                socket.write_all(format!("HTTP/1.1 {answer}\r\n{close}").as_bytes()).unwrap();
                got
            })
        });
        let approvals = Arc::<Approvals>::default();
        ask(&approvals, "one");
        let counts = Arc::<ApprovalCounts>::default();
        let secret = Secret::from("whsec_MDEyMzQ1Njc4OWFiY2RlZg==");
        let webhook = ApprovalWebhook::new(&url, &secret, None, false, Arc::clone(&counts)).unwrap();
        let quick = Duration::from_millis(5);
        let webhook =
            ApprovalWebhook { pace: Pace { look_every: quick, pause_min: quick, pause_max: quick }, ..webhook };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (of, told_of) = (Arc::clone(&approvals), Arc::clone(&counts));
        let got = runtime.block_on(async move {
            let keeper = tokio::spawn(webhook.keep(Arc::clone(&of)));
            let got = tokio::task::spawn_blocking(move || {
                // The second call arrives while the first is being sent.
                ask(&of, "two");
                server.join().unwrap()
            });
            let got = got.await.unwrap();
            while told_of.reading().deliveries[0].1 < 2 {
                tokio::task::yield_now().await;
            }
            keeper.abort();
            got
        });
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"0123456789abcdef");
        let mut names = Vec::new();
        for (head, body) in &got {
            let (id, time) = (field(head, "webhook-id"), field(head, "webhook-timestamp"));
            let signature = STANDARD.encode(hmac::sign(&key, format!("{id}.{time}.{body}").as_bytes()).as_ref());
            let shown = field(head, "webhook-signature").strip_prefix("v1,").unwrap();
            assert_eq!(shown, signature);
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!((&body["type"], &body["data"]["arguments"]), (&json!("approval.waiting"), &json!(null)));
            assert_eq!(body["data"]["argument_bytes"], 12);
            names.push(body["data"]["name"].as_str().unwrap().to_owned());
        }
        names.remove(0);
        names.sort();
        assert_eq!(names, ["one", "two"], "each once it answers that it knows");
        assert_eq!(counts.reading().deliveries, [("delivered", 2), ("failed", 1), ("dropped", 0)]);
    }

    #[test]
    fn retries_back_off_and_do_not_delay_other_messages() {
        let approvals = Arc::<Approvals>::default();
        ask(&approvals, "one");
        ask(&approvals, "two");
        let (mut deliveries, now) = (Deliveries::default(), Time::ZERO);
        let all = || approvals.all(Time::ZERO);
        let first = deliveries.next(all()).0.remove(0);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            deliveries.failed(&first, PACE, now);
            pauses.push(deliveries.pause.unwrap().0.as_secs());
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 300]);
        assert!(deliveries.pauses(now) && !deliveries.pauses(now + PACE.pause_max));
        let next = deliveries.next(all()).0;
        assert_eq!((next.len(), next[1].ticket), (2, first.ticket));
        deliveries.succeeded(&next[0]);
        assert!(!deliveries.pauses(now) && deliveries.next(all()).0.len() == 1);
        approvals.decide(first.ticket, true, "bob", Time::ZERO).unwrap();
        assert_eq!(deliveries.next(all()).1, 1, "it was decided before anybody was told");
        assert!(deliveries.next(all()) == (Vec::new(), 0) && deliveries.failed.is_empty());
    }

    #[test]
    fn a_secret_with_the_base64_prefix_must_be_valid_base64() {
        assert!(
            ApprovalWebhook::new("http://localhost/", &Secret::from("whsec_!"), None, true, Arc::default()).is_err()
        );
    }
}
