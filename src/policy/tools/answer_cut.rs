//! Cuts answers that exceed a limit: rows are left out, texts are shortened, and a marker says so to the model and to programs.

use std::borrow::Cow;
use std::fmt::Write;

use serde_json::{Map, json};

use crate::policy::tools::answer_ceiling::{AnswerCeiling, BYTES_KEY, Over, ROWS_KEY, RowsMax, results_of};
use crate::policy::tools::canonical::{write_canonical, write_text};
use crate::policy::tools::changes::Changes;
use crate::policy::tools::json_text::{Unreadable, Value};

/// The member of `_meta` that says to programs what was left out.
const META_KEY: &str = "adit/cut";

/// Why an answer cannot be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Uncut {
    /// The answer cannot be parsed, or has more than one reading.
    Unreadable,
    /// What exceeds this limit is not text or rows that can be left out.
    Whole(&'static str),
}

impl From<Unreadable> for Uncut {
    fn from(Unreadable: Unreadable) -> Uncut {
        Uncut::Unreadable
    }
}

/// An answer that was cut.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CutAnswer {
    pub(super) text: Vec<u8>,
    /// The key of the limit; if there are two, that of bytes.
    pub(super) limit: &'static str,
}

/// What the marker of an answer says.
#[derive(Default)]
struct Marker {
    /// For the model.
    text: String,
    /// For programs.
    meta: Map<String, serde_json::Value>,
}

impl AnswerCeiling {
    /// Cuts an answer that has more rows than a limit that cuts, or more than `len_max` bytes. The result is no longer than that.
    /// `None` if there is nothing to cut.
    ///
    /// # Errors
    ///
    /// If the answer cannot be parsed, or cannot be cut.
    pub(super) fn cut(&self, answer: &[u8], len_max: Option<usize>) -> Result<Option<CutAnswer>, Uncut> {
        let len_max = len_max.unwrap_or(usize::MAX);
        let whole = Value::of(answer)?;
        if whole.is_array() {
            // Answers of a batch have no order in which they could be cut.
            for message in whole.parts() {
                if self.first_over(&message?.value)?.is_some() {
                    return Err(Uncut::Whole(ROWS_KEY));
                }
            }
            return if answer.len() > len_max { Err(Uncut::Whole(BYTES_KEY)) } else { Ok(None) };
        }
        let (mut text, mut marker) = (Cow::Borrowed(answer), Marker::default());
        while let Some(rows) = self.first_over(&Value::of(&text)?)? {
            text = without_rows(&text, rows, &mut marker)?.into();
        }
        let limit = if text.len() > len_max { BYTES_KEY } else { ROWS_KEY };
        if text.len() > len_max {
            // What a server sends twice is counted twice, so that leaving out rows may be enough.
            marker.on_bytes(answer.len(), len_max);
        } else if marker.text.is_empty() {
            return Ok(None);
        }
        let marked = shortened(&text, &marker, len_max)?;
        match marked {
            Some(text) => Ok(Some(CutAnswer { text, limit })),
            None if limit == ROWS_KEY => {
                // The marker itself is too much.
                marker.on_bytes(answer.len(), len_max);
                let text = shortened(&text, &marker, len_max)?.ok_or(Uncut::Whole(BYTES_KEY))?;
                Ok(Some(CutAnswer { text, limit: BYTES_KEY }))
            }
            None => Err(Uncut::Whole(BYTES_KEY)),
        }
    }

    /// The first limit of rows that a message exceeds, and that cuts.
    fn first_over(&self, message: &Value<'_>) -> Result<Option<&RowsMax>, Unreadable> {
        for result in results_of(message)?.into_iter().flatten() {
            for rows in self.rows.iter().filter(|rows| rows.over == Over::Cut) {
                if rows.beyond(&result)?.is_some() {
                    return Ok(Some(rows));
                }
            }
        }
        Ok(None)
    }
}

impl Marker {
    fn on_rows(&mut self, rows: &RowsMax, count: u32) {
        let at = rows.at.as_str();
        let left_out = count - rows.max;
        self.say(&format!("{left_out} of {count} rows at {at:?} are left out"));
        let notes = self.meta.entry("rows").or_insert_with(|| json!([]));
        if let Some(notes) = notes.as_array_mut() {
            notes.push(json!({"at": at, "count": count, "max": rows.max}));
        }
    }

    fn on_bytes(&mut self, len: usize, len_max: usize) {
        self.say(&format!("it had {len} bytes where {len_max} are allowed, so that text is missing at its end"));
        self.meta.insert("bytes".to_owned(), json!({"count": len, "max": len_max}));
    }

    fn say(&mut self, what: &str) {
        let between = if self.text.is_empty() { "" } else { "; " };
        let _ = write!(self.text, "{between}{what}");
    }

    /// The marker as an element of `content`.
    fn item(&self) -> Vec<u8> {
        let mut item = br#"{"type":"text","text":"#.to_vec();
        write_text(&format!("[This answer was cut by the policy of the tunnel: {}.]", self.text), &mut item);
        item.push(b'}');
        item
    }
}

/// Leaves `structuredContent` out of the result of a tool, which clients would refuse. They also refuse a result without it, except
/// of a call that has failed: so the result says that it has.
///
/// # Errors
///
/// If the answer cannot be parsed, or is no single result of a tool.
pub(super) fn without_structured(text: &[u8]) -> Result<Vec<u8>, Uncut> {
    const CANNOT: Uncut = Uncut::Whole(BYTES_KEY);
    let mut marker = Marker::default();
    marker.say(
        "structuredContent is left out, because with what was redacted it does not fit the output schema of the tool",
    );
    marker.meta.insert("structuredContent".to_owned(), json!("outputSchema"));
    let text = shortened(text, &marker, usize::MAX)?.ok_or(CANNOT)?;
    let result = the_result(&Value::of(&text)?, BYTES_KEY)?;
    let [structured, is_error] = result.members(["structuredContent", "isError"])?;
    let (part, mut changes) = (structured?.ok_or(CANNOT)?.range, Changes::default());
    let part = if text[part.end] == b',' { part.start..part.end + 1 } else { part.start - 1..part.end };
    match is_error? {
        Some(is_error) => changes.push(is_error.value.range(), &b"true"[..]),
        None => {
            let start = result.range().start + 1;
            changes.push(start..start, &b"\"isError\":true,"[..]);
        }
    }
    changes.push(part, &b""[..]);
    changes.apply(&text).ok_or(CANNOT)
}

/// The result that can be cut: that of the call itself, or that of the finished task in it.
///
/// # Errors
///
/// If there are none or two.
fn the_result<'a>(message: &Value<'a>, limit: &'static str) -> Result<Value<'a>, Uncut> {
    let [outer, inner] = results_of(message)?;
    let outer = outer.filter(Value::is_object).ok_or(Uncut::Whole(limit))?;
    let Some(inner) = inner else { return Ok(outer) };
    let [content, structured] = outer.members(["content", "structuredContent"])?;
    if content?.is_some() || structured?.is_some() { Err(Uncut::Whole(limit)) } else { Ok(inner) }
}

/// Leaves out the rows beyond a limit, also in a text that is a copy of the structured result.
fn without_rows(text: &[u8], rows: &RowsMax, marker: &mut Marker) -> Result<Vec<u8>, Uncut> {
    const CANNOT: Uncut = Uncut::Whole(ROWS_KEY);
    let result = the_result(&Value::of(text)?, ROWS_KEY)?;
    let beyond = rows.beyond(&result)?.ok_or(CANNOT)?;
    let [structured, content] = result.members(["structuredContent", "content"])?;
    let structured = structured?.ok_or(CANNOT)?.value;
    marker.on_rows(rows, beyond.count);
    let (from, to) = (structured.range().start, structured.range().end);
    let left = [&text[from..beyond.range.start], &text[beyond.range.end..to]].concat();
    let mut changes = Changes::default();
    changes.push(beyond.range, Vec::new());
    let mut form = Vec::new();
    write_canonical(&structured, &mut form)?;
    for element in content?.map(|content| content.value.parts()).into_iter().flatten() {
        let Some(copy) = text_of(&element?.value)? else { continue };
        if copy.string().is_some_and(|copy| has_form(copy.as_bytes(), &form)) {
            let mut with = Vec::new();
            write_text(std::str::from_utf8(&left).map_err(|_| Unreadable)?, &mut with);
            changes.push(copy.range(), with);
        }
    }
    changes.apply(text).ok_or(CANNOT)
}

/// Whether a text is JSON with this canonical form.
fn has_form(text: &[u8], form: &[u8]) -> bool {
    let mut own = Vec::new();
    let is_read = Value::of(text).and_then(|value| write_canonical(&value, &mut own));
    is_read.is_ok() && own == form
}

/// The text of an element of `content`, if it is a text.
fn text_of<'a>(element: &Value<'a>) -> Result<Option<Value<'a>>, Unreadable> {
    let [kind, text] = element.members(["type", "text"])?;
    let is_text = kind?.is_some_and(|kind| kind.value.bytes() == br#""text""#);
    Ok(text?.filter(|_| is_text).map(|text| text.value).filter(|text| text.bytes().starts_with(b"\"")))
}

/// Adds the marker, and shortens the texts from the last one on until the answer has at most `len_max` bytes. `None` if that does
/// not suffice.
fn shortened(text: &[u8], marker: &Marker, len_max: usize) -> Result<Option<Vec<u8>>, Uncut> {
    const CANNOT: Uncut = Uncut::Whole(BYTES_KEY);
    let result = the_result(&Value::of(text)?, BYTES_KEY)?;
    let [content, structured, meta] = result.members(["content", "structuredContent", "_meta"])?;
    let (content, meta) = (content?.map(|content| content.value), meta?.map(|meta| meta.value));
    if content.is_none() && structured?.is_none() {
        return Err(CANNOT);
    }
    let mut changes = Changes::default();
    let (start, item) = (result.range().start + 1, marker.item());
    let note = serde_json::Value::Object(marker.meta.clone());
    match &meta {
        Some(meta) if meta.is_object() => match meta.member(META_KEY)? {
            Some(before) => changes.push(before.value.range(), note.to_string().into_bytes()),
            None => {
                let between = if meta.parts().next().is_some() { "," } else { "" };
                let at = meta.range().start + 1;
                changes.push(at..at, format!("\"{META_KEY}\":{note}{between}").into_bytes());
            }
        },
        Some(_) => return Err(CANNOT),
        None => changes.push(start..start, format!("\"_meta\":{{\"{META_KEY}\":{note}}},").into_bytes()),
    }
    let mut texts = Vec::new();
    match &content {
        Some(content) if content.is_array() => {
            let mut between = &b""[..];
            for element in content.parts() {
                texts.extend(text_of(&element?.value)?);
                between = b",";
            }
            let end = content.range().end - 1;
            changes.push(end..end, [between, &item].concat());
        }
        Some(_) => return Err(CANNOT),
        None => changes.push(start..start, [b"\"content\":[", &item[..], b"],"].concat()),
    }
    let mut excess = (text.len() + changes.growth()).saturating_sub(len_max);
    for part in texts.into_iter().rev() {
        if excess == 0 {
            break;
        }
        let inner = part.range().start + 1..part.range().end - 1;
        let kept = whole_units(&text[inner.clone()], inner.len().saturating_sub(excess));
        let cut = inner.start + kept..inner.end;
        excess = excess.saturating_sub(cut.len());
        changes.push(cut, Vec::new());
    }
    Ok(if excess == 0 { changes.apply(text) } else { None })
}

/// How many of the first `max` bytes of the inside of a JSON string are whole characters and escapes.
fn whole_units(text: &[u8], max: usize) -> usize {
    let is_low = |text: &[u8]| matches!(text, [b'\\', b'u', b'd' | b'D', b'c'..=b'f' | b'C'..=b'F', ..]);
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let len = match rest {
            [b'\\', b'u', b'd' | b'D', b'8' | b'9' | b'a' | b'b' | b'A' | b'B', ..]
                if rest.get(6..).is_some_and(is_low) =>
            {
                12
            }
            [b'\\', b'u', ..] => 6,
            [b'\\', ..] => 2,
            [first, ..] => match first {
                0..0xc0 => 1,
                0xc0..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            },
            [] => 0,
        };
        if at + len > max {
            break;
        }
        at += len;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Rng;
    use crate::policy::tools::answer_ceiling::{BytesMax, JsonPointer};

    fn rows(at: &str, max: u32) -> AnswerCeiling {
        let rows = vec![RowsMax { max, at: JsonPointer::parse(at).unwrap(), over: Over::Cut }];
        AnswerCeiling { bytes: None, rows }
    }

    fn parsed(text: &[u8]) -> serde_json::Value {
        serde_json::from_slice(text).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(text)))
    }

    fn cut(ceiling: &AnswerCeiling, answer: &str, len_max: Option<usize>) -> serde_json::Value {
        let cut = ceiling.cut(answer.as_bytes(), len_max).unwrap().expect("it is cut");
        assert!(cut.text.len() <= len_max.unwrap_or(usize::MAX), "{len_max:?}");
        parsed(&cut.text)
    }

    #[test]
    fn rows_beyond_a_limit_are_left_out_and_nothing_else() {
        let answer = r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"see the rows"}],
            "structuredContent":{"rows":[ {"n":1} , {"n":2}, {"n":3} ],"other":[1,2,3]},"_meta":{"trace":"x"}}}"#;
        for max in 0..3 {
            let shortened = cut(&rows("/rows", max), answer, None);
            let result = &shortened["result"];
            let want: Vec<_> = (1..=max).map(|n| json!({"n": n})).collect();
            assert_eq!(result["structuredContent"], json!({"rows": want, "other": [1, 2, 3]}));
            assert_eq!(
                (&result["content"][0]["text"], &result["_meta"]["trace"]),
                (&json!("see the rows"), &json!("x"))
            );
            let marker = format!(
                "[This answer was cut by the policy of the tunnel: {} of 3 rows at \"/rows\" are left out.]",
                3 - max
            );
            assert_eq!(result["content"][1], json!({"type": "text", "text": marker}));
            assert_eq!(result["_meta"]["adit/cut"], json!({"rows": [{"at": "/rows", "count": 3, "max": max}]}));
            assert_eq!((&shortened["id"], result["content"].as_array().unwrap().len()), (&json!(7), 2));
        }
        for max in [3, 4] {
            assert_eq!(rows("/rows", max).cut(answer.as_bytes(), None), Ok(None));
        }
        assert_eq!(rows("/none", 0).cut(answer.as_bytes(), None), Ok(None));
    }

    #[test]
    fn a_text_that_is_a_copy_of_the_structured_result_is_cut_with_it() {
        let copy = r#"{\n \"rows\": [1, 2, 3], \"n\": 3}"#;
        let answer = format!(
            r#"{{"id":7,"result":{{"structuredContent":{{"n":3,"rows":[1,2,3]}},"content":[
                {{"type":"text","text":"{copy}"}},{{"type":"text","text":"[1, 2, 3]"}},
                {{"type":"resource","text":"{copy}"}}]}}}}"#
        );
        let shortened = cut(&rows("/rows", 1), &answer, None);
        let content = &shortened["result"]["content"];
        assert_eq!(content[0]["text"], json!(r#"{"n":3,"rows":[1]}"#));
        assert_eq!(content[1]["text"], json!("[1, 2, 3]"), "nobody can tell that these are the rows");
        assert_eq!(parsed(content[2]["text"].as_str().unwrap().as_bytes())["rows"], json!([1, 2, 3]));
    }

    #[test]
    fn a_result_without_content_or_of_a_task_gets_the_marker_as_well() {
        let bare = r#"{"id":7,"result":{"structuredContent":{"rows":[1,2]}}}"#;
        let result = &cut(&rows("/rows", 1), bare, None)["result"];
        assert_eq!(
            (result["content"].as_array().unwrap().len(), &result["structuredContent"]),
            (1, &json!({"rows": [1]}))
        );
        let task = r#"{"id":7,"result":{"taskId":"t","status":"completed","result":{"content":[],"structuredContent":{"rows":[1,2]}}}}"#;
        let shortened = cut(&rows("/rows", 1), task, None);
        assert_eq!(shortened["result"]["result"]["structuredContent"], json!({"rows": [1]}));
        assert_eq!(shortened["result"]["result"]["content"].as_array().unwrap().len(), 1);
        assert_eq!(shortened["result"]["taskId"], json!("t"));
        let mut both = rows("/a", 1);
        both.rows.extend(rows("/a/0", 1).rows);
        let nested = r#"{"id":7,"result":{"structuredContent":{"a":[[1,2],[3]]}}}"#;
        assert_eq!(cut(&both, nested, None)["result"]["structuredContent"], json!({"a": [[1]]}));
    }

    #[test]
    fn a_structured_result_is_left_out_and_the_rest_stays() {
        for members in [
            r#""content":[{"type":"text","text":"a"}],"structuredContent":{"a":1},"n":1"#,
            r#""structuredContent":{"a":1},"content":[{"type":"text","text":"a"}],"n":1"#,
            r#""n":1, "isError" : false,"content":[{"type":"text","text":"a"}] , "structuredContent" : {"a":1} "#,
        ] {
            let text = format!(r#"{{"id":7,"result":{{{members}}}}}"#);
            let shortened = parsed(&without_structured(text.as_bytes()).unwrap());
            let result = &shortened["result"];
            assert_eq!(
                (&result["n"], &result["isError"], &shortened["id"]),
                (&json!(1), &json!(true), &json!(7)),
                "{shortened}"
            );
            assert_eq!(
                (result.get("structuredContent"), &result["content"][0]["text"]),
                (None, &json!("a")),
                "{shortened}"
            );
            assert!(result["content"][1]["text"].as_str().unwrap().contains("output schema"), "{shortened}");
        }
        let bare = without_structured(br#"{"id":7,"result":{"structuredContent":{"a":1}}}"#).unwrap();
        assert_eq!(parsed(&bare)["result"]["content"].as_array().unwrap().len(), 1);
        assert!(without_structured(br#"{"id":7,"result":{"content":[]}}"#).is_err());
    }

    #[test]
    fn texts_are_shortened_from_the_last_one_on_at_whole_characters() {
        let ceiling = AnswerCeiling { bytes: Some(BytesMax { max: 1, over: Over::Cut }), rows: Vec::new() };
        let mut rng = Rng::new(3);
        let units = ["a", "ä", "€", "😀", "\\n", "\\\"", "\\\\", "\\u00e9", "\\ud83d\\ude00"];
        let mut shortest = [0; 2];
        for round in 0..2_000 {
            let text =
                |rng: &mut Rng| -> String { (0..rng.below(120)).map(|_| units[rng.below(9) as usize]).collect() };
            let (one, two) = (text(&mut rng), text(&mut rng));
            let answer = format!(
                r#"{{"id":7,"result":{{"content":[{{"type":"text","text":"{one}"}},{{"type":"image","data":"AAAA"}},{{"text":"{two}","type":"text"}}]}}}}"#
            );
            let max = 200 + rng.below(700) as usize;
            let before = parsed(answer.as_bytes());
            match ceiling.cut(answer.as_bytes(), Some(max)) {
                Ok(None) => assert!(answer.len() <= max),
                Ok(Some(CutAnswer { text, limit })) => {
                    assert!(text.len() <= max && answer.len() > max && limit == BYTES_KEY, "{round}");
                    let after = parsed(&text);
                    let content = |whole: &serde_json::Value, at: usize| {
                        whole["result"]["content"][at]["text"].as_str().unwrap().to_owned()
                    };
                    assert!(content(&before, 0).starts_with(&content(&after, 0)), "{round}");
                    assert!(content(&before, 2).starts_with(&content(&after, 2)), "{round}");
                    assert!(content(&after, 0) == content(&before, 0) || content(&after, 2).is_empty(), "{round}");
                    assert_eq!(after["result"]["content"][1], json!({"type": "image", "data": "AAAA"}));
                    assert!(content(&after, 3).starts_with("[This answer was cut"));
                    assert_eq!(after["result"]["_meta"]["adit/cut"]["bytes"]["max"], json!(max));
                    // No more is missing than must be: a further character and its escape would not fit.
                    let is_all = content(&after, 2).is_empty() && content(&after, 0) != content(&before, 0);
                    assert!(max - text.len() < 12 || is_all, "{round}: {} of {max}", text.len());
                    shortest[usize::from(content(&after, 2).is_empty())] += 1;
                }
                Err(error) => {
                    assert_eq!(error, Uncut::Whole(BYTES_KEY));
                    shortest[1] += 1;
                }
            }
        }
        assert!(shortest.iter().all(|count| *count > 100), "{shortest:?}");
    }

    #[test]
    fn answers_that_cannot_be_cut_safely_are_not_cut() {
        let bytes = AnswerCeiling { bytes: Some(BytesMax { max: 1, over: Over::Cut }), rows: Vec::new() };
        let long = "x".repeat(2_000);
        for answer in [
            format!(r#"{{"id":7,"result":{{"content":[{{"type":"image","data":"{long}"}}]}}}}"#),
            format!(r#"{{"id":7,"result":{{"content":[],"structuredContent":{{"a":"{long}"}}}}}}"#),
            format!(
                r#"{{"id":7,"result":{{"content":[{{"type":"text","text":"a"}}],"structuredContent":{{"a":"{long}"}}}}}}"#
            ),
            format!(r#"{{"id":7,"result":{{"contents":[{{"uri":"a:b","text":"{long}"}}]}}}}"#),
            format!(r#"{{"id":7,"result":{{"content":"{long}"}}}}"#),
            format!(r#"{{"id":7,"result":{{"_meta":1,"content":[{{"type":"text","text":"{long}"}}]}}}}"#),
            format!(r#"{{"id":7,"error":{{"code":1,"message":"{long}"}}}}"#),
            format!(r#"{{"method":"notifications/message","params":{{"data":"{long}"}}}}"#),
            format!(r#"[{{"id":7,"result":{{"content":[{{"type":"text","text":"{long}"}}]}}}}]"#),
        ] {
            assert_eq!(bytes.cut(answer.as_bytes(), Some(1_000)), Err(Uncut::Whole(BYTES_KEY)), "{}", &answer[..60]);
        }
        let batch = r#"[{"id":7,"result":{"structuredContent":{"rows":[1,2]}}}]"#;
        assert_eq!(rows("/rows", 1).cut(batch.as_bytes(), None), Err(Uncut::Whole(ROWS_KEY)));
        let both = r#"{"id":7,"result":{"content":[],"structuredContent":{"rows":[1,2]},"result":{}}}"#;
        assert_eq!(rows("/rows", 1).cut(both.as_bytes(), None), Err(Uncut::Whole(ROWS_KEY)));
        for unclear in [
            r#"{"id":7,"result":{"structuredContent":{"rows":[1,2]},"structuredContent":{}}}"#,
            r#"{"id":7,"result":{"structuredContent":{"rows":[1,2]},"Content":[]}}"#,
            "{",
        ] {
            assert_eq!(rows("/rows", 1).cut(unclear.as_bytes(), None), Err(Uncut::Unreadable), "{unclear}");
        }
    }
}
