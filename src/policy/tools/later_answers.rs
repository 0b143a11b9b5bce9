//! Which limits a policy has for answers that come in another way than as the answer to their own request.

use std::sync::Arc;

use crate::policy::tools::answer_ceiling::AnswerCeiling;
use crate::policy::tools::answer_note::AnswerNote;
use crate::policy::tools::awaited::{awaited_key, stricter};
use crate::policy::tools::decision::ToolDecision;
use crate::policy::tools::held_results::HeldResults;
use crate::policy::tools::roles::RoleSet;
use crate::policy::tools::tool_policy::ToolPolicy;

/// The methods whose answers have the result of a task.
const TASK_METHODS: [&str; 2] = ["tasks/result", "tasks/get"];

/// A request whose answers may have results.
#[derive(Clone, Copy, Debug)]
pub struct AnsweredRequest<'a> {
    /// Whether it opens a stream (GET).
    pub is_stream: bool,
    /// The method of its message.
    pub method: Option<&'a str>,
    /// The tool that it calls.
    pub tool: Option<&'a str>,
    /// The id of its message as JSON text, if it is known.
    pub id: Option<&'a str>,
    /// The id of its session.
    pub session: Option<&'a [u8]>,
    /// The id of the task that it names.
    pub task: Option<&'a str>,
}

impl ToolPolicy {
    /// Sets in `note` which results in the answers to a request are held to which limits, and remembers the request for answers
    /// that come in another way. `decision` has allowed it.
    pub fn hold_results(
        &self,
        note: &mut Option<AnswerNote>,
        roles: RoleSet,
        decision: &ToolDecision,
        asked: &AnsweredRequest<'_>,
    ) {
        if !decision.is_allowed() {
            return;
        }
        if let Some(schema) = asked.tool.filter(|_| self.keeps_schemas()).and_then(|tool| self.schemas.of(tool)) {
            note.get_or_insert_default().fit(schema);
        }
        if !self.limits_answers {
            return;
        }
        let session = asked.session.map(awaited_key);
        let awaited = || Arc::clone(&self.awaited);
        let limits = || self.ceilings_of(decision).and_then(|ceilings| ceilings.answer.clone());
        if let (Some(session), Some(id), Some(_)) = (session, asked.id, asked.method) {
            self.awaited.on_request(session, id, limits());
        }
        let held = match asked.method {
            None if asked.is_stream => {
                let strictest = self.strictest(roles);
                Some(HeldResults::Stream { awaited: awaited(), session, strictest })
            }
            Some(method) if TASK_METHODS.contains(&method) => {
                let known = asked.task.and_then(|task| self.awaited.of_task(task));
                known.unwrap_or_else(|| self.strictest(roles)).map(HeldResults::Task)
            }
            Some("tools/call") if self.shows_tasks => Some(HeldResults::Call { awaited: awaited(), limits: limits() }),
            _ => None,
        };
        if let Some(held) = held {
            note.get_or_insert_default().hold(held);
        }
    }

    /// The limits of all rules that may allow something to a caller with these roles.
    fn strictest(&self, roles: RoleSet) -> Option<Arc<AnswerCeiling>> {
        let rules = self.rules.iter().filter(|rule| rule.is_allow() && rule.is_for(roles));
        let limits = rules.map(|rule| rule.ceilings.as_ref().and_then(|ceilings| ceilings.answer.clone()));
        limits.fold(None, stricter)
    }

    /// Whether a rule lets callers fetch the results of tasks.
    pub(super) fn has_task_rules(&self) -> bool {
        let allows = |method: &&str| self.rules.iter().any(|rule| rule.is_allow() && rule.methods.matches(method));
        TASK_METHODS.iter().any(allows)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;
    use crate::policy::tools::Asked;
    use crate::policy::tools::answer_ceiling::ROWS_KEY;
    use crate::policy::tools::answer_filter::AnswerFilter;
    use crate::policy::tools::held_results::ANSWER_TOO_LARGE_CODE;

    const POLICY: &str = "[[rule]]\neffect = 'allow'\ntools = ['few']\nanswer_rows_max = 2\nanswer_rows_at = '/rows'\n\
        [[rule]]\neffect = 'allow'\ntools = ['short']\nanswer_bytes_max = 400\nanswer_over = 'cut'\n\
        [[rule]]\neffect = 'allow'\ntools = ['free']\nmethods = ['tools/call']\n\
        [[rule]]\neffect = 'allow'\nmethods = ['tasks/result', 'tasks/get']\n";

    struct Route(Arc<ToolPolicy>);

    impl Route {
        fn new(text: &str) -> Route {
            Route(Arc::new(ToolPolicy::parse(text).unwrap()))
        }

        /// The filter for the answers to a request, as a route makes it.
        fn filter(
            &self,
            decision: &ToolDecision,
            asked: &AnsweredRequest<'_>,
        ) -> (Option<AnswerFilter>, Option<AnswerNote>) {
            let mut note = self.0.note_answers(decision);
            self.0.hold_results(&mut note, RoleSet::default(), decision, asked);
            (AnswerFilter::new(&self.0, (RoleSet::default(), None), false, note.as_ref()), note)
        }

        fn calls(&self, tool: &str, session: &str, id: &str) -> Option<AnswerFilter> {
            let decision = self.0.decide(RoleSet::default(), &Asked::tool(tool));
            let (id, session) = (Some(id), Some(session.as_bytes()));
            let asked =
                AnsweredRequest { is_stream: false, method: Some("tools/call"), id, session, task: None, tool: None };
            self.filter(&decision, &asked).0
        }

        fn stream(&self, session: Option<&str>) -> (AnswerFilter, AnswerNote) {
            let session = session.map(str::as_bytes);
            let asked = AnsweredRequest { is_stream: true, method: None, id: None, session, task: None, tool: None };
            let (filter, note) = self.filter(&ToolDecision::Allowed(None), &asked);
            (filter.unwrap(), note.unwrap())
        }

        fn task(&self, method: &str, task: &str) -> Option<AnswerFilter> {
            let asked = AnsweredRequest {
                is_stream: false,
                method: Some(method),
                id: Some("1"),
                session: None,
                task: Some(task),
                tool: None,
            };
            self.filter(&ToolDecision::Allowed(None), &asked).0
        }
    }

    fn rows(id: &str, count: usize) -> String {
        let rows = vec!["1"; count].join(",");
        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[],"structuredContent":{{"rows":[{rows}]}}}}}}"#)
    }

    fn is_error(filter: &AnswerFilter, message: &str) -> bool {
        match filter.apply(message.as_bytes()).unwrap() {
            None => false,
            Some(text) => {
                let answer: Json = serde_json::from_slice(&text).unwrap();
                let sent: Json = serde_json::from_str(message).unwrap();
                assert_eq!((&answer["id"], &answer["error"]["code"]), (&sent["id"], &json!(ANSWER_TOO_LARGE_CODE)));
                true
            }
        }
    }

    #[test]
    fn a_result_on_another_stream_is_held_to_the_limits_of_its_call() {
        let route = Route::new(POLICY);
        assert!(route.calls("few", "s", "7").is_some() && route.calls("free", "s", "8").is_some());
        let (filter, note) = route.stream(Some("s"));
        assert!(!is_error(&filter, &rows("7", 2)) && note.reached().is_none());
        assert!(is_error(&filter, &rows("7", 3)) && note.reached() == Some(ROWS_KEY));
        assert!(!is_error(&filter, &rows("8", 500)), "its rule has no limit");
        assert!(!is_error(&filter, &rows("9", 2)) && is_error(&filter, &rows("9", 3)), "nobody knows it");
        assert!(is_error(&route.stream(Some("t")).0, &rows("8", 3)), "of another session");
        assert!(is_error(&route.stream(None).0, &rows("8", 3)));
        // What is no result of a call stays as it is.
        for other in [
            format!(r#"{{"jsonrpc":"2.0","id":9,"result":{{"tools":["{}"]}}}}"#, "x".repeat(1_000)),
            format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"content":"{}"}}}}"#,
                "x".repeat(1_000)
            ),
            format!(r#"{{"jsonrpc":"2.0","id":9,"error":{{"code":1,"message":"{}"}}}}"#, "x".repeat(1_000)),
        ] {
            assert!(!is_error(&filter, &other), "{other}");
        }
        route.calls("short", "s", "10");
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":10,"result":{{"content":[{{"type":"text","text":"{}"}}]}}}}"#,
            "x".repeat(900)
        );
        for id in ["10", "11"] {
            let cut = filter.apply(text.replace("10", id).as_bytes()).unwrap().unwrap();
            assert!(cut.len() <= 400 && note.is_cut() && memchr::memmem::find(&cut, b"adit/cut").is_some(), "{id}");
        }
        assert!(filter.apply(format!("[{}]", rows("7", 3)).as_bytes()).is_err(), "a batch has no one id");
        assert!(filter.apply(rows("7", 3).replace("content", "Content").as_bytes()).is_err());
    }

    #[test]
    fn the_result_of_a_task_is_held_to_the_limits_of_its_call() {
        let route = Route::new(POLICY);
        let begun = |id: &str| format!(r#"{{"id":1,"result":{{"task":{{"taskId":"{id}","status":"working"}}}}}}"#);
        assert_eq!(route.calls("few", "s", "1").unwrap().apply(begun("a").as_bytes()), Ok(None));
        assert_eq!(route.calls("free", "s", "2").unwrap().apply(begun("b").as_bytes()), Ok(None));
        let later = br#"{"id":1,"result":{"resultType":"task","taskId":"c","status":"working"}}"#;
        assert_eq!(route.calls("free", "s", "3").unwrap().apply(later), Ok(None));
        let inline = rows("1", 3)
            .replace(r#""result":{"#, r#""result":{"taskId":"a","status":"completed","result":{"#)
            .replace("]}}}", "]}}}}");
        for (method, text) in [("tasks/result", rows("1", 3)), ("tasks/get", inline)] {
            assert!(route.task(method, "a").unwrap().apply(text.as_bytes()).is_err(), "{method}");
            assert!(route.task(method, "b").is_none() && route.task(method, "c").is_none(), "{method}");
            assert!(route.task(method, "d").unwrap().apply(text.as_bytes()).is_err(), "{method}: nobody knows it");
        }
        assert_eq!(route.task("tasks/result", "a").unwrap().apply(rows("1", 2).as_bytes()), Ok(None));
    }

    #[test]
    fn only_calls_with_rules_for_answers_are_inspected() {
        let no_tasks = Route::new(POLICY.split("[[rule]]\neffect = 'allow'\nmethods").next().unwrap());
        assert!(no_tasks.calls("free", "s", "1").is_none() && no_tasks.calls("few", "s", "2").is_some());
        let free = Route::new("[[rule]]\neffect = 'allow'\ntools = ['*']\nmethods = ['tools/call', 'tasks/*']\n");
        assert!(free.calls("few", "s", "1").is_none() && free.task("tasks/result", "a").is_none());
        let asked =
            AnsweredRequest { is_stream: true, method: None, id: None, session: Some(b"s"), task: None, tool: None };
        assert!(free.filter(&ToolDecision::Allowed(None), &asked).0.is_none());
    }
}
