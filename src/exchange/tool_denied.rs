//! The response to a request that the policy of its route denies.

use std::fmt::Display;

use serde_json::json;

use crate::base::BearerChallenge;
use crate::exchange::approval_task_answer::approval_task_result;
use crate::exchange::caller_refused::CallerRefused;
use crate::exchange::ceiling_answer::{EVALUATION_LISTED, ceiling_answer, ceiling_listed};
use crate::latency::OwnAnswer;
use crate::policy::{ApprovalTask, Asked, CeilingReached, Denial, Target};
use crate::wire::http1::{Answer, Cors};

/// The JSON-RPC code for invalid parameters. Servers use it for an unknown tool or prompt name.
const INVALID_PARAMS: i32 = -32_602;
/// The JSON-RPC code for an unknown method.
const UNKNOWN_METHOD: i32 = -32_601;
/// The code of servers before MCP revision 2026-07-28 for an unknown resource.
const UNKNOWN_RESOURCE: i32 = -32_002;
/// The code of a denied notification, which has no id and gets no JSON-RPC response.
const CODE_DENIED: &str = "denied_by_policy";

/// The text in the list of calls about a tool in quarantine.
const PINNED_LISTED: &str = "nobody has approved the tool as the server describes it now: `adit tools diff` shows it, `adit tools approve` lets it pass";
/// The text in the list of calls.
const LISTED: &str = "the policy of the route denies it: `adit policy explain` says by which rule";

/// The response to a denied request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolDenied {
    status: u16,
    rpc_code: i32,
    code: &'static str,
    message: String,
    /// The value of `WWW-Authenticate`, if the caller can get access by authorizing.
    challenge: Option<String>,
    retry_after_s: Option<u32>,
    /// More members of the data of the JSON-RPC error, each behind a comma.
    data: String,
    /// The text in the list of calls.
    listed: &'static str,
    is_notification: bool,
    /// The result that the response has in place of the error, as JSON.
    result: Option<String>,
}

impl ToolDenied {
    /// The response to a denied request. `is_stateless` tells an MCP revision without sessions from an older one.
    /// `metadata_url` names the authorization servers of the route.
    #[must_use]
    pub fn new(asked: &Asked<'_>, how: &Denial, is_stateless: bool, metadata_url: Option<&str>) -> ToolDenied {
        let is_notification = asked.method.starts_with("notifications/");
        if let Denial::Scope(scope) = how {
            let message = format!("this needs the scope {scope}: authorize again with it");
            let (error, scope) = (Some(BearerChallenge::INSUFFICIENT_SCOPE), Some(&**scope));
            let challenge = BearerChallenge { metadata_url, error, scope, ..BearerChallenge::default() };
            let denied = ToolDenied::of_caller(CallerRefused::Scope, challenge.to_string());
            return ToolDenied { message, listed: LISTED, is_notification, ..denied };
        }
        if let Denial::Ceiling(reached) = how {
            return ToolDenied::at_ceiling(reached, is_notification);
        }
        let (status, rpc_code, message) = match asked.target {
            _ if is_notification => (403, UNKNOWN_METHOD, format!("the policy of this route denies {}", asked.method)),
            Target::Tool(name) => (200, INVALID_PARAMS, format!("Unknown tool: {name}")),
            Target::Prompt(name) => (200, INVALID_PARAMS, format!("Unknown prompt: {name}")),
            Target::Resource(uri) | Target::Template(uri) => {
                let code = if is_stateless { INVALID_PARAMS } else { UNKNOWN_RESOURCE };
                (200, code, format!("Resource not found: {uri}"))
            }
            Target::Nothing => (if is_stateless { 404 } else { 200 }, UNKNOWN_METHOD, "Method not found".to_owned()),
        };
        let listed = match how {
            Denial::Pinned => PINNED_LISTED,
            Denial::Unevaluated(_) => EVALUATION_LISTED,
            _ => LISTED,
        };
        let (code, challenge, retry_after_s) = (CODE_DENIED, None, None);
        let data = String::new();
        ToolDenied {
            status,
            rpc_code,
            code,
            message,
            challenge,
            retry_after_s,
            data,
            listed,
            is_notification,
            result: None,
        }
    }

    fn at_ceiling(reached: &CeilingReached, is_notification: bool) -> ToolDenied {
        let Answer { status, rpc_code, code, message, retry_after_s, .. } = ceiling_answer(reached);
        let message = match reached {
            CeilingReached::Arguments(why) => format!("the policy of this route does not allow these arguments: {why}"),
            _ => message.to_owned(),
        };
        ToolDenied {
            // One that has no id cannot be answered with a JSON-RPC error.
            status: if is_notification && status == 200 { 403 } else { status },
            rpc_code,
            code,
            message,
            challenge: None,
            retry_after_s,
            data: match reached.ticket() {
                Some(ticket) => format!(",\"limit\":\"{}\",\"ticket\":\"{ticket}\"", reached.key()),
                None => format!(",\"limit\":\"{}\"", reached.key()),
            },
            listed: ceiling_listed(reached),
            is_notification,
            result: None,
        }
    }

    /// The response to a caller who is not authenticated or lacks a scope.
    #[must_use]
    pub fn of_caller(refused: CallerRefused, challenge: String) -> ToolDenied {
        let Answer { status, rpc_code, message, retry_after_s, .. } = refused.answer();
        ToolDenied {
            status,
            rpc_code,
            code: refused.code(),
            message: message.to_owned(),
            challenge: Some(challenge).filter(|_| refused.is_challenged()),
            retry_after_s,
            data: String::new(),
            listed: refused.listed(),
            is_notification: false,
            result: None,
        }
    }

    /// The same as a result for a client that handles tasks of MCP.
    #[must_use]
    pub fn in_task(self, task: &ApprovalTask) -> ToolDenied {
        let ToolDenied { rpc_code, message, .. } = &self;
        let data = json!({"reason": self.code, "ticket": task.ticket.to_string(), "may_have_acted": false});
        let error = json!({"code": rpc_code, "message": message, "data": data});
        let result = Some(approval_task_result(task, error).to_string());
        ToolDenied { status: 200, retry_after_s: None, result, ..self }
    }

    /// The same, which also says why.
    #[must_use]
    pub fn because(self, why: &impl Display) -> ToolDenied {
        ToolDenied { message: format!("{} ({why})", self.message), ..self }
    }

    /// Whether the request is a notification, which has no id and expects no response.
    #[must_use]
    pub fn is_notification(&self) -> bool {
        self.is_notification
    }

    /// Whether a policy could not be evaluated.
    #[must_use]
    pub fn is_unevaluated(&self) -> bool {
        self.listed == EVALUATION_LISTED
    }

    /// Whether it reached a ceiling of the rule that allows it.
    #[must_use]
    pub fn is_at_ceiling(&self) -> bool {
        !self.data.is_empty() && !self.is_unevaluated()
    }

    /// The response, as it appears in the list of calls.
    #[must_use]
    pub fn own_answer(&self) -> OwnAnswer {
        OwnAnswer { status: self.status, rpc_code: self.rpc_code, code: self.code, message: self.listed }
    }

    /// That a call at a ceiling did nothing, so that it can be repeated as it is.
    fn may_have_acted(&self) -> Option<bool> {
        Some(false).filter(|_| self.is_at_ceiling())
    }

    /// Appends the response. One that hides the denied item looks like the server's own response.
    pub fn write(
        &self,
        rpc_id: Option<&str>,
        (close, to_head): (bool, bool),
        cors: Option<Cors<'_>>,
        append: &[(&str, &[u8])],
        out: &mut Vec<u8>,
    ) {
        let mut fields = append.to_vec();
        if let Some(challenge) = &self.challenge {
            fields.push(("WWW-Authenticate", challenge.as_bytes()));
        }
        let is_hidden = self.code == CODE_DENIED && !self.is_notification;
        let rpc_id = if is_hidden { rpc_id.or(Some("null")) } else { rpc_id };
        let answer = Answer {
            rpc_code: self.rpc_code,
            rpc_id,
            close,
            to_head,
            retry_after_s: self.retry_after_s,
            cors,
            append: &fields,
            may_have_acted: self.may_have_acted(),
            data: &self.data,
            is_bare: is_hidden,
            result: self.result.as_deref(),
            ..Answer::new(self.status, self.code, &self.message)
        };
        answer.write(out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(asked: &Asked<'_>, how: &Denial, is_stateless: bool, id: Option<&str>) -> (String, serde_json::Value) {
        let mut out = Vec::new();
        ToolDenied::new(asked, how, is_stateless, None).write(id, (false, false), None, &[], &mut out);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), serde_json::from_str(body).unwrap())
    }

    #[test]
    fn a_hidden_tool_is_answered_like_an_unknown_one() {
        let (head, body) = answer(&Asked::tool("a\"b"), &Denial::Hidden, false, Some("7"));
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let want =
            serde_json::json!({"jsonrpc": "2.0", "id": 7, "error": {"code": -32602, "message": "Unknown tool: a\"b"}});
        assert_eq!(body, want);
        // So is what nobody has approved; whoever looks at the calls is told what to do.
        assert_eq!(answer(&Asked::tool("a\"b"), &Denial::Pinned, false, Some("7")), (head, want));
        let listed = |how| ToolDenied::new(&Asked::tool("a"), &how, false, None).own_answer().message;
        assert!(
            listed(Denial::Pinned).contains("adit tools diff") && listed(Denial::Hidden).contains("policy explain")
        );
        for (asked, is_stateless, status, code) in [
            (Asked::prompt("p"), false, 200, -32_602),
            (Asked::resource("a:b"), false, 200, -32_002),
            (Asked::resource("a:b"), true, 200, -32_602),
            (Asked { method: "x/y", target: Target::Nothing }, false, 200, -32_601),
            (Asked { method: "x/y", target: Target::Nothing }, true, 404, -32_601),
        ] {
            let (head, body) = answer(&asked, &Denial::Hidden, is_stateless, Some("\"a\""));
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            assert_eq!((&body["error"]["code"], &body["id"]), (&code.into(), &"a".into()));
            assert!(body["error"].get("data").is_none() && body.get("result").is_none());
        }
    }

    #[test]
    fn a_missing_scope_is_answered_as_in_rfc_6750() {
        let how = Denial::Scope("tickets:write".into());
        let (head, body) = answer(&Asked::tool("write"), &how, true, Some("1"));
        assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{head}");
        assert!(
            head.contains("\r\nWWW-Authenticate: Bearer error=\"insufficient_scope\", scope=\"tickets:write\""),
            "{head}"
        );
        assert_eq!(body["error"]["data"]["reason"], "insufficient_scope");
    }

    #[test]
    fn a_denied_notification_is_answered_with_an_error() {
        let asked = Asked { method: "notifications/x", target: Target::Nothing };
        let (head, body) = answer(&asked, &Denial::Hidden, false, None);
        assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
        assert_eq!(body["error"]["code"], CODE_DENIED);
    }
}
