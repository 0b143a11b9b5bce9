//! Results that come in another way than the answer to their own request: on a stream that the caller has opened (GET), or as
//! the result of a task. They are held to the limits of the call whose results they are.

use std::sync::Arc;

use serde_json::json;

use crate::policy::tools::answer_ceiling::{AnswerCeiling, BYTES_KEY, Over, ROWS_KEY, results_of};
use crate::policy::tools::answer_cut::{CutAnswer, Uncut};
use crate::policy::tools::awaited::{AwaitedAnswers, AwaitedKey, stricter};
use crate::policy::tools::json_text::{Unreadable, Value};

/// The code of the error that takes the place of a result that has too much.
pub const ANSWER_TOO_LARGE_CODE: i32 = -31_064;
/// The name of that error.
pub const ANSWER_TOO_LARGE: &str = "answer_too_large";
/// What that error says.
pub const ANSWER_TOO_LARGE_MESSAGE: &str = "the answer has more than the policy of this route allows, so that it is withheld: ask for less, such as fewer rows; the server may have acted on the request";

/// The members of which a result of a call has one.
const OF_CALLS: [&str; 4] = ["content", "structuredContent", "contents", "messages"];

/// Which results in the answers to a request are held to which limits.
#[derive(Clone, Debug)]
pub(super) enum HeldResults {
    /// Results of any request of the session; of one that is not known, to the strictest limits.
    Stream { awaited: Arc<AwaitedAnswers>, session: Option<AwaitedKey>, strictest: Option<Arc<AnswerCeiling>> },
    /// The result of a task.
    Task(Arc<AnswerCeiling>),
    /// A call that may begin a task, whose result will have these limits.
    Call { awaited: Arc<AwaitedAnswers>, limits: Option<Arc<AnswerCeiling>> },
}

/// A result that was held to its limits.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeldResult {
    /// It is passed on as it is.
    Same,
    /// A part of it was left out.
    Cut(CutAnswer),
    /// It exceeds the limit with this key.
    Over(&'static str),
}

impl HeldResults {
    /// Whether a result beyond its limits is replaced by an error, so that others can follow.
    pub(super) fn is_stream(&self) -> bool {
        matches!(self, HeldResults::Stream { .. })
    }

    /// Holds the results of a message, or of a batch, to their limits.
    ///
    /// # Errors
    ///
    /// If it cannot be parsed, or has more than one reading.
    pub(super) fn apply(&self, text: &[u8]) -> Result<HeldResult, Unreadable> {
        let whole = Value::of(text)?;
        let limits = if whole.is_array() {
            let mut each = whole.parts().map(|message| self.limits_of(&message?.value));
            each.try_fold(None, |all, limits| Ok(stricter(all, limits?)))?
        } else {
            self.limits_of(&whole)?
        };
        let Some(limits) = limits else { return Ok(HeldResult::Same) };
        let cut_at = match limits.bytes {
            Some(bytes) if bytes.over == Over::Refuse && text.len() > bytes.max as usize => {
                return Ok(HeldResult::Over(BYTES_KEY));
            }
            bytes => bytes.filter(|bytes| bytes.over == Over::Cut).map(|bytes| bytes.max as usize),
        };
        if limits.is_over_rows(text)? {
            return Ok(HeldResult::Over(ROWS_KEY));
        }
        match limits.cut(text, cut_at) {
            Ok(None) => Ok(HeldResult::Same),
            Ok(Some(cut)) => Ok(HeldResult::Cut(cut)),
            Err(Uncut::Whole(key)) => Ok(HeldResult::Over(key)),
            Err(Uncut::Unreadable) => Err(Unreadable),
        }
    }

    /// The limits for a message; none if it has no result of a call.
    fn limits_of(&self, message: &Value<'_>) -> Result<Option<Arc<AnswerCeiling>>, Unreadable> {
        let results = results_of(message)?;
        if let HeldResults::Call { awaited, limits } = self {
            if let Some(task) = results[0].as_ref().map(task_in).transpose()?.flatten() {
                awaited.on_task(&task, limits.clone());
            }
            return Ok(None);
        }
        let mut is_of_call = false;
        for result in results.iter().flatten() {
            for member in result.members(OF_CALLS)? {
                is_of_call |= member?.is_some();
            }
        }
        if !is_of_call {
            return Ok(None);
        }
        Ok(match self {
            HeldResults::Stream { awaited, session, strictest } => {
                let id = message.member("id")?.and_then(|id| std::str::from_utf8(id.value.bytes()).ok());
                let known = session.zip(id).and_then(|(session, id)| awaited.of_request(session, id));
                known.unwrap_or_else(|| strictest.clone())
            }
            HeldResults::Task(limits) => Some(Arc::clone(limits)),
            HeldResults::Call { .. } => None,
        })
    }
}

/// The id of the task that a call has begun, by its result: `taskId`, or that of `task`.
fn task_in(result: &Value<'_>) -> Result<Option<String>, Unreadable> {
    let [id, task] = result.members(["taskId", "task"])?;
    let id = match (id?, task?) {
        (Some(id), _) => Some(id),
        (None, Some(task)) => task.value.member("taskId")?,
        (None, None) => None,
    };
    Ok(id.and_then(|id| id.value.string()).map(|id| id.into_owned()))
}

/// The error that takes the place of a result; `None` for a batch.
pub(super) fn error_for(message: &[u8]) -> Result<Option<Vec<u8>>, Unreadable> {
    let whole = Value::of(message)?;
    let Some(id) = whole.member("id")?.filter(|_| whole.is_object()) else { return Ok(None) };
    let data = json!({"reason": ANSWER_TOO_LARGE, "may_have_acted": true});
    let error = json!({"code": ANSWER_TOO_LARGE_CODE, "message": ANSWER_TOO_LARGE_MESSAGE, "data": data});
    let id = String::from_utf8_lossy(id.value.bytes());
    Ok(Some(format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#).into_bytes()))
}
