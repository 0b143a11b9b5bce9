//! Limits for answers: bytes, and rows of a structured result.

use std::borrow::Cow;
use std::ops::Range;

use crate::policy::tools::json_text::{Unreadable, Value};

/// The key that limits the bytes of an answer.
pub(super) const BYTES_KEY: &str = "answer_bytes_max";
/// The key that limits the rows of an answer.
pub(super) const ROWS_KEY: &str = "answer_rows_max";

/// The key that says what becomes of an answer beyond a limit.
pub(super) const OVER_KEY: &str = "answer_over";

/// What becomes of an answer beyond a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Over {
    /// The answer is withheld.
    #[default]
    Refuse,
    /// What is beyond the limit is left out, and a marker says so.
    Cut,
}

impl Over {
    fn stricter(self, other: Over) -> Over {
        if self == Over::Cut { other } else { self }
    }
}

/// The limits of a rule for answers. An absent limit limits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct AnswerCeiling {
    pub(super) bytes: Option<BytesMax>,
    pub(super) rows: Vec<RowsMax>,
}

/// The maximum length of the body, or of the events of a stream, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BytesMax {
    pub(super) max: u32,
    pub(super) over: Over,
}

/// The maximum number of elements of an array in a structured result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RowsMax {
    pub(super) max: u32,
    pub(super) at: JsonPointer,
    pub(super) over: Over,
}

/// A JSON pointer (RFC 6901).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JsonPointer(String);

impl AnswerCeiling {
    /// Whether there is no limit.
    pub(super) fn is_empty(&self) -> bool {
        *self == AnswerCeiling::default()
    }

    /// Both limits together. If one withholds answers, so do both.
    pub(super) fn and(&self, other: &AnswerCeiling) -> AnswerCeiling {
        let bytes = match (self.bytes, other.bytes) {
            (Some(one), Some(other)) => {
                Some(BytesMax { max: one.max.min(other.max), over: one.over.stricter(other.over) })
            }
            (one, other) => one.or(other),
        };
        let mut rows = self.rows.clone();
        for more in &other.rows {
            match rows.iter_mut().find(|rows| rows.at == more.at) {
                Some(rows) => {
                    (rows.max, rows.over) = (rows.max.min(more.max), rows.over.stricter(more.over));
                }
                None => rows.push(more.clone()),
            }
        }
        AnswerCeiling { bytes, rows }
    }

    /// Whether some limit cuts answers.
    pub(super) fn cuts(&self) -> bool {
        self.bytes.is_some_and(|bytes| bytes.over == Over::Cut) || self.rows.iter().any(|rows| rows.over == Over::Cut)
    }

    /// Whether an answer, or one of a batch, exceeds a row limit for which it is withheld.
    ///
    /// # Errors
    ///
    /// If the answer cannot be parsed, or has more than one reading.
    pub(super) fn is_over_rows(&self, answer: &[u8]) -> Result<bool, Unreadable> {
        if self.rows.iter().all(|rows| rows.over == Over::Cut) {
            return Ok(false);
        }
        let mut spans = Vec::new();
        let whole = Value::outlined(answer, &mut spans)?;
        if !whole.is_array() {
            return self.refuses(&whole);
        }
        for message in whole.parts() {
            if self.refuses(&message?.value)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn refuses(&self, message: &Value<'_>) -> Result<bool, Unreadable> {
        for result in results_of(message)?.into_iter().flatten() {
            for rows in self.rows.iter().filter(|rows| rows.over == Over::Refuse) {
                if rows.beyond(&result)?.is_some() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// The result of a message, and the result of the finished task that it contains, if any.
///
/// # Errors
///
/// If the message has more than one reading.
pub(super) fn results_of<'a>(message: &Value<'a>) -> Result<[Option<Value<'a>>; 2], Unreadable> {
    let Some(result) = message.member("result")? else { return Ok([None, None]) };
    let inner = result.value.member("result")?.map(|inner| inner.value).filter(Value::is_object);
    Ok([Some(result.value), inner])
}

/// The rows of a result beyond a limit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RowsBeyond {
    /// How many rows there are.
    pub(super) count: u32,
    /// Where the rows beyond the limit are in the text, with the comma before them.
    pub(super) range: Range<usize>,
}

impl RowsMax {
    /// The rows of a result beyond the limit; `None` if there are none.
    pub(super) fn beyond(&self, result: &Value<'_>) -> Result<Option<RowsBeyond>, Unreadable> {
        let Some(structured) = result.member("structuredContent")? else { return Ok(None) };
        let Some(array) = self.at.find(structured.value)?.filter(Value::is_array) else { return Ok(None) };
        let mut count = 0;
        let mut range = array.range().start + 1..array.range().end - 1;
        for row in array.parts() {
            let row = row?;
            count += 1;
            if count == self.max {
                range.start = row.range.end;
            }
        }
        Ok((count > self.max).then_some(RowsBeyond { count, range }))
    }
}

impl JsonPointer {
    /// Parses a pointer; `None` if it is invalid.
    pub(super) fn parse(text: &str) -> Option<JsonPointer> {
        let begins = text.is_empty() || text.starts_with('/');
        let is_escaped = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        (begins && is_escaped).then(|| JsonPointer(text.to_owned()))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// Resolves the pointer; `None` if there is no such value.
    fn find<'a>(&self, value: Value<'a>) -> Result<Option<Value<'a>>, Unreadable> {
        let mut found = value;
        for token in self.0.split('/').skip(1) {
            let token: Cow<'_, str> = match token.contains('~') {
                true => token.replace("~1", "/").replace("~0", "~").into(),
                false => token.into(),
            };
            let part = if found.is_array() {
                let Ok(nth) = token.parse::<usize>() else { return Ok(None) };
                found.parts().nth(nth).transpose()?
            } else {
                found.member(&token)?
            };
            let Some(part) = part else { return Ok(None) };
            found = part.value;
        }
        Ok(Some(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_the_array_at_the_pointer_and_of_nothing_else() {
        let over = |at: &str, max, answer: &str| {
            let rows = vec![RowsMax { max, at: JsonPointer::parse(at).unwrap(), over: Over::Refuse }];
            AnswerCeiling { bytes: None, rows }.is_over_rows(answer.as_bytes())
        };
        let result =
            |structured: &str| format!(r#"{{"id":1,"result":{{"content":[1,2,3],"structuredContent":{structured}}}}}"#);
        for (at, structured, rows) in [
            ("/rows", r#"{"rows":[1,[2,3],{"a":[4,5,6]}]}"#, 3),
            ("/a~1b/m~0n/1", r#"{"a/b":{"m~n":[[],[1,2]]}}"#, 2),
            ("", "[1, 2, 3, 4]", 4),
            ("/rows", r#"{ "\u0072ows" : [ ] }"#, 0),
            ("/rows", r#"{"rows":"many"}"#, 0),
            ("/rows/5", r#"{"rows":[[1,2]]}"#, 0),
            ("/rows/x", r#"{"rows":[[1,2]]}"#, 0),
            ("/other", r#"{"rows":[1,2]}"#, 0),
        ] {
            let answer = result(structured);
            for max in 0..6 {
                assert_eq!(over(at, max, &answer), Ok(rows > max), "{at} {structured} {max}");
                assert_eq!(
                    over(at, max, &format!("[{{\"id\":0}},{answer}]")),
                    Ok(rows > max),
                    "{at} {structured} {max}"
                );
            }
        }
        assert_eq!(over("/rows", 0, r#"{"id":1,"error":{"code":1,"message":""}}"#), Ok(false));
        for answer in [
            "",
            "{",
            r#"{"result":{"structuredContent":{"rows":[1],"rows":[]}}}"#,
            r#"{"result":{"structuredContent":{"Rows":[1]}}}"#,
        ] {
            assert_eq!(over("/rows", 0, answer), Err(Unreadable), "{answer}");
        }
        assert!(["rows", "/~2", "/a~"].iter().all(|text| JsonPointer::parse(text).is_none()));
    }
}
