//! The simulated agents: make their calls one after the other and judge each answer.

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use adit::base::{Clock, Rng};
use adit::engine::driver::{Address, SocketOptions};
use adit::engine::{Core, Socket, StreamError};
use futures_lite::future;

use super::http::{Break, Head, Length, Wire, send, send_chunk};
use super::ledger::{Ledger, Outcome};
use super::plan::{Kind, Leaving, Plan, Weather};

/// How long an agent waits for the end of a call. Longer than any plan takes.
const PATIENCE: Duration = Duration::from_secs(20 * 60);
/// How long an agent waits for a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
/// How long an agent waits for `100 Continue` before it goes on without.
const CONTINUE_PATIENCE: Duration = Duration::from_secs(1);

/// One agent.
#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) core: Core,
    pub(crate) ledger: Ledger,
    pub(crate) seed: u64,
    pub(crate) weather: Weather,
    /// Whether it says of some calls how long it waits.
    pub(crate) waits: bool,
    pub(crate) target: SocketAddr,
    pub(crate) host: &'static str,
}

/// How an agent and its connection come out of a call.
enum After {
    Keep(Wire, Outcome),
    Drop(Outcome),
}

impl Agent {
    /// Makes these calls, each so long after the one before.
    pub(crate) async fn run(self, calls: Vec<(u64, Duration)>) {
        let mut kept = None;
        for (id, wait) in calls {
            self.core.sleep(wait).await;
            let plan = Plan::of(self.seed, id, self.weather);
            let after = self.call(&plan, kept.take()).await;
            let outcome = match after {
                After::Keep(wire, outcome) => {
                    kept = Some(wire);
                    outcome
                }
                After::Drop(outcome) => outcome,
            };
            self.ledger.outcome(id, outcome);
        }
    }

    /// Makes one call.
    async fn call(&self, plan: &Plan, kept: Option<Wire>) -> After {
        let staying = async {
            let wire = match kept {
                Some(wire) => wire,
                None => match self.connect().await {
                    Some(wire) => wire,
                    None => return After::Drop(Outcome::Unreached),
                },
            };
            match self.core.timeout(PATIENCE, self.exchange(plan, wire)).await {
                Ok(after) => after,
                Err(_) => After::Drop(Outcome::Silent),
            }
        };
        let leaving = async {
            let Leaving::After(after) = plan.leaving else { pending().await };
            self.core.sleep(after).await;
            self.ledger.left(plan.id, self.core.now());
            After::Drop(Outcome::Left)
        };
        future::or(staying, leaving).await
    }

    async fn connect(&self) -> Option<Wire> {
        let target = Address::Tcp(self.target);
        let connect = self.core.connect(&target, SocketOptions::default());
        let socket = self.core.timeout(CONNECT_PATIENCE, connect).await.ok()?.ok()?;
        Some(Wire::new(socket))
    }

    async fn exchange(&self, plan: &Plan, wire: Wire) -> After {
        let Wire { socket, rest } = wire;
        // Reads on the one side what it may have to know on the other: whether to send the body at all.
        let go_on = std::cell::Cell::new(!plan.expects_continue);
        let mut sent = false;
        let read = {
            let sending = async {
                let result = self.send_request(&socket, plan, &go_on).await;
                sent = result.is_ok();
                pending().await
            };
            let reading = self.read_answer(&socket, rest, plan, &go_on);
            future::or(reading, sending).await
        };
        match read {
            Ok((outcome, keep, rest)) if keep && sent => After::Keep(Wire { socket, rest }, outcome),
            Ok((outcome, ..)) => After::Drop(outcome),
            Err(Break::Nonsense(what)) => {
                self.ledger.fault(format!("call {} was answered with nonsense: {what}", plan.id));
                After::Drop(Outcome::Broken)
            }
            Err(_) => After::Drop(Outcome::Broken),
        }
    }

    /// How long it waits for an answer to this call, if it says so. It waits for the last call of a run as long as it takes.
    fn waits_ms(&self, plan: &Plan) -> Option<u64> {
        let mut rng = Rng::new(self.seed.rotate_left(17) ^ plan.id);
        (self.waits && plan.id < 10_000 && rng.chance(0.5)).then(|| rng.between(50, 5_000))
    }

    async fn send_request(
        &self,
        socket: &Socket,
        plan: &Plan,
        go_on: &std::cell::Cell<bool>,
    ) -> Result<(), StreamError> {
        let (method, id, host) = (plan.method(), plan.id, self.host);
        let mut head = format!("{method} /mcp?call={id} HTTP/1.1\r\nhost: {host}\r\naccept: */*\r\n");
        if plan.method() == "POST" {
            head.push_str("content-type: application/json\r\n");
            if plan.request_chunked {
                head.push_str("transfer-encoding: chunked\r\n");
            } else {
                head.push_str(&format!("content-length: {}\r\n", plan.request.len()));
            }
        }
        if let Some(ms) = self.waits_ms(plan) {
            head.push_str(&format!("x-request-timeout: {ms}ms\r\n"));
        }
        if plan.expects_continue {
            head.push_str("expect: 100-continue\r\n");
        }
        head.push_str("\r\n");
        send(socket, head.as_bytes()).await?;
        let patience = self.core.now() + CONTINUE_PATIENCE;
        while !go_on.get() && self.core.now() < patience {
            self.core.sleep(Duration::from_millis(1)).await;
        }
        for piece in plan.request.chunks(plan.request_piece) {
            if plan.request_chunked {
                send_chunk(socket, piece).await?;
            } else {
                send(socket, piece).await?;
            }
            if !plan.request_gap.is_zero() {
                self.core.sleep(plan.request_gap).await;
            }
        }
        if plan.request_chunked {
            send_chunk(socket, b"").await?;
        }
        Ok(())
    }

    /// Reads and judges the answer; says also whether the connection stays, and gives back what came behind.
    async fn read_answer(
        &self,
        socket: &Socket,
        rest: Vec<u8>,
        plan: &Plan,
        go_on: &std::cell::Cell<bool>,
    ) -> Result<(Outcome, bool, Vec<u8>), Break> {
        let mut reader = super::http::Reader { socket, rest };
        let head = loop {
            let head = reader.head().await?;
            match head.status() {
                100 => go_on.set(true),
                101..200 => {}
                _ => break head,
            }
        };
        let length = match head.length()? {
            Some(length) => length,
            None if head.status() == 204 || head.status() == 304 => Length::Bytes(0),
            None => Length::ToTheEnd,
        };
        let keep = length != Length::ToTheEnd
            && !head.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let expected = plan.whole_answer();
        let mut body = Vec::new();
        let ended = reader.body(length, |bytes| body.extend_from_slice(bytes)).await;
        if ended.is_ok()
            && let Some(outcome) = outcome_of_last_event(plan, &body, &expected)
        {
            return Ok((outcome, keep, reader.rest));
        }
        if head.status() == 200 && !expected.starts_with(&body) {
            self.ledger.fault(format!("call {} was answered with another body", plan.id));
        }
        ended?;
        let outcome = if head.status() == 200 {
            self.judge_answer(plan, &head, &body, &expected, length)
        } else {
            self.judge_refusal(plan, &head, &body);
            Outcome::Refused(head.status())
        };
        Ok((outcome, keep, reader.rest))
    }

    fn judge_answer(&self, plan: &Plan, head: &Head, body: &[u8], expected: &[u8], length: Length) -> Outcome {
        if body.len() < expected.len() {
            // Only a body that ends with its connection may be cut off unseen, and a stream of no call may be ended by a role that
            // drains, between two events.
            if length != Length::ToTheEnd && !plan.may_end_at(body.len()) {
                self.ledger.fault(format!(
                    "call {}: {} of {} bytes came as a whole answer",
                    plan.id,
                    body.len(),
                    expected.len()
                ));
            }
            return Outcome::Broken;
        }
        if head.field("x-call") != Some(plan.id.to_string().as_str()) {
            self.ledger.fault(format!("call {} has another call's head: {head:?}", plan.id));
        }
        if head.field("content-type") != Some(plan.content_type()) {
            self.ledger.fault(format!("call {} has another content type: {head:?}", plan.id));
        }
        Outcome::Whole
    }

    /// An error answer is one that an intermediary may give to a call like this, in JSON.
    fn judge_refusal(&self, plan: &Plan, head: &Head, body: &[u8]) {
        let id = plan.id;
        if !matches!(head.status(), 408 | 502 | 503 | 504) {
            self.ledger.fault(format!(
                "call {id} was refused with {:?}: {}",
                head.start,
                String::from_utf8_lossy(body)
            ));
        }
        if head.status() == 503 && head.field("retry-after").is_none() {
            self.ledger.fault(format!("call {id}: a 503 that does not say when to come again"));
        }
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) else {
            self.ledger.fault(format!("call {id}: an error that is not JSON: {}", String::from_utf8_lossy(body)));
            return;
        };
        let named = json.get("id").and_then(serde_json::Value::as_u64);
        if named.is_some_and(|named| named != id) || (plan.kind == Kind::Watch && named.is_some()) {
            self.ledger.fault(format!("call {id} was refused in another call's name: {json}"));
        }
    }
}

/// How a call failed whose event stream ends as it should, between two events, behind one that says so with the call's id.
fn outcome_of_last_event(plan: &Plan, body: &[u8], expected: &[u8]) -> Option<Outcome> {
    let last = format!("event: message\ndata: {{\"jsonrpc\":\"2.0\",\"id\":{},\"error\":", plan.id);
    let at = body.windows(last.len()).position(|window| window == last.as_bytes())?;
    let is_behind = expected.starts_with(&body[..at]) && (at == 0 || body[..at].ends_with(b"\n\n"));
    let text = String::from_utf8_lossy(&body[at..]);
    let says = |reason: &str| text.contains(&format!("\"reason\":\"{reason}\""));
    let outcome = match () {
        () if says("deadline") || says("caller_timeout") => Outcome::Refused(504),
        () if ["upstream_broken", "link_lost", "slow_reader", "tunnel_failed"].into_iter().any(says) => Outcome::Broken,
        () => return None,
    };
    (plan.kind == Kind::Sse && is_behind).then_some(outcome)
}
