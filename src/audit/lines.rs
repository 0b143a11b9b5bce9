use std::io::Write;
use std::net::IpAddr;
use std::time::Duration;

use crate::audit::hash::LineHash;
use crate::base::{push_decimal, push_hex, text_start};

/// Texts that a caller chooses are cut to this length, in bytes.
const TEXT_LEN_MAX: usize = 256;
/// The longest name and reason of an action, in bytes. The longest accepted ones (`control::given_text`) fit, and are
/// never cut.
const REASON_LEN_MAX: usize = 3_072;
/// The longest arguments in a line, in bytes. Longer than a call may have that are kept, as placeholders may be longer than secrets.
const CONTENT_LEN_MAX: usize = 32 * 1_024;
/// Most lines of calls are no longer, in bytes.
const LINE_LEN: usize = 1_024;
/// How many bytes of a session id's hash are written: enough to distinguish sessions, too few to use one.
pub const SESSION_HASH_LEN: usize = 8;

/// The line of a call. Unknown members are omitted.
#[derive(Clone, Debug, Default)]
pub struct AuditCallLine<'a> {
    /// The role that writes the line.
    pub role: &'a str,
    /// The number of the call, shared by edge and connector.
    pub call: u64,
    /// The id of its tunnel.
    pub tunnel: &'a str,
    /// The name of its route; empty if it has none.
    pub route: &'a str,
    /// The number of the edge's process; only on an edge.
    pub edge: Option<u64>,
    /// The number of the connector that took the call.
    pub connector: Option<u64>,
    /// The address of its agent.
    pub peer: Option<IpAddr>,
    /// The MCP revision that the agent names.
    pub revision: Option<&'a [u8]>,
    /// The style of MCP that the agent uses: `sessions` or `stateless`.
    pub era: &'a str,
    /// The HTTP method of the request.
    pub http: &'a str,
    /// The JSON-RPC method, or the kind of request if it has no message.
    pub method: &'a str,
    /// The name of the tool, prompt, resource or task.
    pub name: Option<&'a str>,
    /// The JSON-RPC id, as JSON text.
    pub id: Option<&'a str>,
    /// The id of the MCP session. Only the start of its hash is written.
    pub session: Option<&'a [u8]>,
    /// The id of its trace.
    pub trace: Option<String>,
    /// The length of the arguments in bytes, as JSON text without white space, and their hash. The hash has no key, so
    /// small arguments can be guessed from it.
    pub arguments: Option<(u64, LineHash)>,
    /// The arguments themselves as JSON text, redacted, if they are written.
    pub content: Option<String>,
    /// The identity of the caller, as far as it was proven.
    pub caller: Option<AuditedCaller<'a>>,
    /// The name of the edge and its authority, by its certificate in the inner TLS session; only on a connector that asks for it.
    pub proven_edge: Option<(&'a str, &'a str)>,
    /// Whether the role allowed the call; `None` if it ended before that was decided.
    pub decision: Option<AuditedDecision>,
    /// The policy that made the decision.
    pub policy: Option<AuditedPolicy<'a>>,
    /// The HTTP status of the response; 0 if there was none.
    pub status: u16,
    /// The name of the outcome. `begun` means that the line was written before the response; the end then has a
    /// [`CallEndLine`].
    pub outcome: &'a str,
    /// The result in the JSON-RPC response.
    pub answer: RpcAnswer,
    /// The length of the response body in bytes.
    pub bytes: u64,
    /// The policy's findings in the texts of the response, as words that need no JSON escapes.
    pub found: Option<String>,
    /// How long the call took.
    pub took: Duration,
    /// The durations of its phases.
    pub phases: Vec<(&'static str, Duration)>,
    /// How often the call was sent again.
    pub retries: u32,
}

/// The result of a call, as its JSON-RPC response states it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RpcAnswer {
    /// The JSON-RPC error code, if it is an error.
    pub code: Option<i64>,
    /// The value of `isError`, if the result has it.
    pub is_error: Option<bool>,
}

/// The identity of a caller, as it is written.
#[derive(Clone, Copy, Debug)]
pub struct AuditedCaller<'a> {
    /// The subject, unique for its issuer.
    pub subject: &'a str,
    /// The issuer that vouches for the caller.
    pub issuer: Option<&'a str>,
    /// The program with which the caller connects.
    pub client: Option<&'a str>,
    /// How the identity was proven.
    pub proof: &'a str,
    /// The edge that has forwarded the identity, and the proof that it has checked.
    pub forwarded: Option<(&'a str, &'a str)>,
}

/// Whether a call was let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditedDecision {
    /// The role passed the call on, or tried to.
    Allowed,
    /// The policy of the route denied the call, or the caller was not sufficiently authenticated.
    Denied,
}

/// The policy that decided about a call, as it is written.
#[derive(Clone, Debug)]
pub struct AuditedPolicy<'a> {
    /// The digest of the policy file.
    pub digest: LineHash,
    /// The name of the rule that decided, or its index if it has no name; `None` if no rule did.
    pub rule: Option<&'a str>,
    /// The key of that rule whose ceiling is reached.
    pub limit: Option<&'a str>,
    /// The approval ticket that the call waits for, or was approved with.
    pub approval: Option<String>,
}

/// The line for the end of a call whose [`AuditCallLine`] was written before its response.
#[derive(Clone, Debug, Default)]
pub struct CallEndLine<'a> {
    /// The role that writes the line.
    pub role: &'a str,
    /// The number of the call.
    pub call: u64,
    /// The name of the outcome.
    pub outcome: &'a str,
    /// The result in the last JSON-RPC message of the response.
    pub answer: RpcAnswer,
    /// The length of the response body in bytes.
    pub bytes: u64,
    /// The policy's findings in the texts of the response, as words that need no JSON escapes.
    pub found: Option<String>,
    /// The key of the ceiling that the response reached, as in the policy file.
    pub limit: Option<&'a str>,
    /// How long the call took.
    pub took: Duration,
}

/// What is written of a session id: the start of its hash.
#[must_use]
pub fn session_hash(session: &[u8]) -> [u8; SESSION_HASH_LEN] {
    let mut start = [0; SESSION_HASH_LEN];
    start.copy_from_slice(&LineHash::of(session).0[..SESSION_HASH_LEN]);
    start
}

/// The line of a management action.
#[derive(Clone, Debug, Default)]
pub struct ActionLine<'a> {
    /// The name of the action, such as `tunnel.created`.
    pub action: &'a str,
    /// The tunnel that the action concerns.
    pub tunnel: Option<&'a str>,
    /// The credential, certificate or provisioning key that the action concerns.
    pub subject: Option<&'a str>,
    /// The reason that the operator gave.
    pub reason: Option<&'a str>,
}

impl AuditCallLine<'_> {
    /// The body of the line: everything after `time`.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let mut line = Members::begin("call");
        line.text("role", self.role);
        line.hex("call", self.call);
        line.text_if("tunnel", self.tunnel);
        line.text_if("route", self.route);
        if let Some(edge) = self.edge {
            line.hex("edge", edge);
        }
        if let Some(connector) = self.connector {
            line.hex("connector", connector);
        }
        if let Some(peer) = self.peer {
            line.shown("peer", &peer);
        }
        if let Some(revision) = self.revision {
            line.text("revision", &String::from_utf8_lossy(revision));
        }
        line.text_if("era", self.era);
        line.text_if("http", self.http);
        line.text_if("method", self.method);
        line.text_if("name", self.name.unwrap_or_default());
        line.text_if("id", self.id.unwrap_or_default());
        if let Some(session) = self.session {
            line.hash("session", &session_hash(session));
        }
        line.text_if("trace", self.trace.as_deref().unwrap_or_default());
        if let Some((bytes, hash)) = self.arguments {
            line.number("argument_bytes", bytes);
            line.hash("argument_sha256", &hash.0);
        }
        if let Some(content) = &self.content {
            line.text_of("arguments", content, CONTENT_LEN_MAX);
        }
        if let Some(caller) = &self.caller {
            line.text("caller", caller.subject);
            line.text_if("issuer", caller.issuer.unwrap_or_default());
            line.text_if("client", caller.client.unwrap_or_default());
            line.text("proof", caller.proof);
            if let Some((edge, proof)) = caller.forwarded {
                line.text("forwarded_by", edge);
                line.text("forwarded_proof", proof);
            }
        }
        if let Some((name, authority)) = self.proven_edge {
            line.text("edge_name", name);
            line.text("edge_authority", authority);
        }
        if let Some(decision) = self.decision {
            line.text("decision", decision.name());
        }
        if let Some(policy) = &self.policy {
            line.hash("policy", &policy.digest.0);
            line.text_if("rule", policy.rule.unwrap_or_default());
            line.text_if("limit", policy.limit.unwrap_or_default());
            line.text_if("approval", policy.approval.as_deref().unwrap_or_default());
        }
        if self.status > 0 {
            line.number("status", self.status.into());
        }
        line.ended(self.outcome, self.answer, self.bytes, self.took);
        if let Some(found) = &self.found {
            line.shown("found", found);
        }
        if self.retries > 0 {
            line.number("retries", self.retries.into());
        }
        if !self.phases.is_empty() {
            line.name("phases_us");
            for (nth, (name, took)) in self.phases.iter().enumerate() {
                line.0.extend_from_slice(if nth == 0 { b"{\"" } else { b",\"" });
                line.0.extend_from_slice(name.as_bytes());
                line.0.extend_from_slice(b"\":");
                push_decimal(&mut line.0, micros(*took));
            }
            line.0.push(b'}');
        }
        line.end()
    }
}

impl AuditedDecision {
    /// The name that lines contain.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            AuditedDecision::Allowed => "allowed",
            AuditedDecision::Denied => "denied",
        }
    }
}

impl CallEndLine<'_> {
    /// The body of the line: everything after `time`.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let mut line = Members::begin("call_end");
        line.text("role", self.role);
        line.hex("call", self.call);
        line.ended(self.outcome, self.answer, self.bytes, self.took);
        line.text_if("limit", self.limit.unwrap_or_default());
        if let Some(found) = &self.found {
            line.shown("found", found);
        }
        line.end()
    }
}

impl ActionLine<'_> {
    /// The body of the line: everything after `time`.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let mut line = Members::begin("action");
        line.text("action", self.action);
        line.text_if("tunnel", self.tunnel.unwrap_or_default());
        line.text_if("subject", self.subject.unwrap_or_default());
        if let Some(reason) = self.reason.filter(|reason| !reason.is_empty()) {
            line.text_of("reason", reason, REASON_LEN_MAX);
        }
        line.end()
    }
}

/// The members of a line.
struct Members(Vec<u8>);

impl Members {
    fn begin(kind: &str) -> Members {
        let mut line = Members(Vec::with_capacity(LINE_LEN));
        line.0.extend_from_slice(b"\"kind\":\"");
        line.0.extend_from_slice(kind.as_bytes());
        line.0.push(b'"');
        line
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }

    fn put(&mut self, value: &impl std::fmt::Display) {
        write!(self.0, "{value}").expect("a vector takes all that is written");
    }

    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn text(&mut self, name: &str, text: &str) {
        self.text_of(name, text, TEXT_LEN_MAX);
    }

    fn text_of(&mut self, name: &str, text: &str, len_max: usize) {
        self.name(name);
        serde_json::to_writer(&mut self.0, text_start(text, len_max)).expect("a vector takes all that is written");
    }

    fn text_if(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            self.text(name, text);
        }
    }

    fn shown(&mut self, name: &str, value: &impl std::fmt::Display) {
        self.name(name);
        self.0.push(b'"');
        self.put(value);
        self.0.push(b'"');
    }

    /// A number in hexadecimal digits, as a text.
    fn hex(&mut self, name: &str, number: u64) {
        self.name(name);
        self.0.push(b'"');
        let start = self.0.len();
        push_hex(&mut self.0, &number.to_be_bytes());
        let zeros = self.0[start..].iter().take(15).take_while(|digit| **digit == b'0').count();
        self.0.drain(start..start + zeros);
        self.0.push(b'"');
    }

    fn hash(&mut self, name: &str, hash: &[u8]) {
        self.name(name);
        self.0.push(b'"');
        push_hex(&mut self.0, hash);
        self.0.push(b'"');
    }

    fn number(&mut self, name: &str, number: u64) {
        self.name(name);
        push_decimal(&mut self.0, number);
    }

    fn ended(&mut self, outcome: &str, answer: RpcAnswer, bytes: u64, took: Duration) {
        self.text("outcome", outcome);
        if let Some(code) = answer.code {
            self.name("rpc_code");
            self.put(&code);
        }
        if let Some(is_error) = answer.is_error {
            self.name("is_error");
            self.put(&is_error);
        }
        self.number("bytes", bytes);
        self.number("took_us", micros(took));
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::audit::Chain;

    fn parsed(body: &[u8]) -> Value {
        let mut out = Vec::new();
        Chain::new().append("2026-11-29T19:00:00Z", body, &mut out);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1, "one line: {}", out.escape_ascii());
        serde_json::from_slice(&out).unwrap()
    }

    #[test]
    fn a_line_is_valid_json_for_any_name_that_an_agent_sends() {
        let call = AuditCallLine {
            role: "edge",
            call: 0x1f,
            tunnel: "tnl_a",
            route: "a",
            edge: Some(7),
            connector: Some(8),
            peer: "192.0.2.1".parse().ok(),
            revision: Some(b"2025-11-25\xff"),
            era: "sessions",
            http: "POST",
            method: "tools/call",
            name: Some("a\"\n\u{7}\u{2028}b"),
            id: Some("\"x\""),
            session: Some(b"secret"),
            trace: Some("4bf9".into()),
            arguments: Some((2, LineHash::of(b"{}"))),
            content: Some("{\"a\":\"\\u0007\"}".into()),
            caller: Some(AuditedCaller {
                subject: "alice\n",
                issuer: Some("https://login.example"),
                client: None,
                proof: "forwarded",
                forwarded: Some(("front", "jwt")),
            }),
            proven_edge: Some(("edge.example", "x509:edges")),
            decision: Some(AuditedDecision::Denied),
            policy: Some(AuditedPolicy {
                digest: LineHash::of(b"{}"),
                rule: Some("no-deletes"),
                limit: None,
                approval: None,
            }),
            status: 200,
            outcome: "ok",
            answer: RpcAnswer { code: Some(-1), is_error: Some(true) },
            bytes: 10,
            found: Some("cards changed 1".into()),
            took: Duration::from_micros(1_500),
            phases: vec![("edge", Duration::from_micros(20)), ("upstream", Duration::from_millis(1))],
            retries: 1,
        };
        let line = parsed(&call.body());
        assert_eq!(line["name"], "a\"\n\u{7}\u{2028}b");
        assert_eq!((&line["call"], &line["id"], &line["took_us"]), (&json!("1f"), &json!("\"x\""), &json!(1_500)));
        assert_eq!(line["phases_us"], json!({"edge": 20, "upstream": 1_000}));
        assert_eq!((&line["rpc_code"], &line["is_error"]), (&json!(-1), &json!(true)));
        assert_eq!(line["found"], "cards changed 1");
        assert_eq!(line["arguments"], "{\"a\":\"\\u0007\"}");
        assert_eq!((&line["edge"], &line["edge_name"]), (&json!("7"), &json!("edge.example")));
        assert_eq!(line["edge_authority"], "x509:edges");
        let sha = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!((&line["argument_bytes"], &line["argument_sha256"]), (&json!(2), &json!(sha)));
        assert_eq!((&line["decision"], &line["rule"]), (&json!("denied"), &json!("no-deletes")));
        assert_eq!(line["policy"], sha);
        assert_eq!((&line["caller"], &line["proof"]), (&json!("alice\n"), &json!("forwarded")));
        assert_eq!((&line["forwarded_by"], &line["forwarded_proof"]), (&json!("front"), &json!("jwt")));
        assert_eq!((&line["issuer"], line.get("client")), (&json!("https://login.example"), None));
        assert!(!line.to_string().contains("secret"), "{line}");
        let least = parsed(&AuditCallLine { role: "edge", outcome: "offline", ..AuditCallLine::default() }.body());
        assert_eq!(least["outcome"], "offline");
        assert!(["status", "name", "decision", "policy", "rule"].iter().all(|name| least.get(*name).is_none()));
    }

    #[test]
    fn no_text_of_an_agent_makes_a_line_long() {
        let long = "\u{e9}".repeat(100_000);
        let call = AuditCallLine { name: Some(&long), method: &long, id: Some(&long), ..AuditCallLine::default() };
        assert!(call.body().len() < 4_096);
        let name = parsed(&call.body())["name"].as_str().unwrap().len();
        assert!(name <= TEXT_LEN_MAX && name > TEXT_LEN_MAX - 2);
    }

    #[test]
    fn the_other_lines_are_json_too() {
        let found = Some("cards flagged 2".into());
        let end = CallEndLine { role: "connector", call: 1, outcome: "ok", found, ..CallEndLine::default() };
        let end = parsed(&end.body());
        assert_eq!((&end["kind"], &end["found"]), (&json!("call_end"), &json!("cards flagged 2")));
        let action = ActionLine { action: "tunnel.created", reason: Some("because \"so\""), ..ActionLine::default() };
        assert_eq!(parsed(&action.body())["reason"], "because \"so\"");
    }
}
