//! Arguments of tools that requests repeat in their head (revision 2026-07-28, `x-mcp-header` and `Mcp-Param-*`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::wire::http1::RequestHead;
use crate::wire::mcp::read_long_value;

/// The key of a schema that names the field of the head.
const ANNOTATION: &str = "x-mcp-header";
/// What the names of these fields begin with.
const PREFIX: &str = "Mcp-Param-";
/// The most tools whose arguments are compared.
const TOOLS_MAX: usize = 4096;
/// The most arguments of a tool that are compared.
const ARGUMENTS_MAX: usize = 64;
/// How deep an argument may lie within objects.
const DEPTH_MAX: usize = 16;

/// Which arguments of which tools are repeated in the head, as the server has listed them.
#[derive(Debug, Default)]
pub struct MirroredArguments {
    tools: BTreeMap<Box<str>, Vec<MirroredArgument>>,
}

#[derive(Debug)]
struct MirroredArgument {
    /// The keys that lead to it.
    path: Vec<Box<str>>,
    /// The name of its field in the head.
    field: String,
}

#[derive(Deserialize)]
struct ToolList<'a> {
    #[serde(borrow)]
    result: Tools<'a>,
}

#[derive(Deserialize)]
struct Tools<'a> {
    #[serde(borrow)]
    tools: Vec<Tool<'a>>,
}

#[derive(Deserialize)]
struct Tool<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(rename = "inputSchema")]
    schema: Value,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    #[serde(borrow)]
    params: CallParams<'a>,
}

#[derive(Deserialize)]
struct CallParams<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    arguments: Value,
}

impl MirroredArguments {
    /// Reads an answer to `tools/list`. A page adds to those before it.
    pub fn learn(&mut self, answer: &[u8]) {
        let has_some = memchr::memmem::find(answer, ANNOTATION.as_bytes()).is_some();
        if !has_some && self.tools.is_empty() {
            return;
        }
        let Ok(list) = serde_json::from_slice::<ToolList<'_>>(answer) else { return };
        for tool in list.result.tools {
            let mut found = Vec::new();
            collect(&tool.schema, &mut Vec::new(), &mut found);
            if found.is_empty() {
                self.tools.remove(&*tool.name);
            } else if self.tools.len() < TOOLS_MAX || self.tools.contains_key(&*tool.name) {
                self.tools.insert(tool.name.into(), found);
            }
        }
    }

    /// Whether the head of a call of a tool differs from its arguments: both have a value and it is the same, or neither has one.
    #[must_use]
    pub fn differs(&self, head: &RequestHead, body: &[u8]) -> bool {
        if self.tools.is_empty() {
            return false;
        }
        let Ok(call) = serde_json::from_slice::<ToolCall<'_>>(body) else { return false };
        let Some(mirrored) = self.tools.get(&*call.params.name) else { return false };
        mirrored.iter().any(|argument| !argument.agrees(head, &call.params.arguments))
    }
}

impl MirroredArgument {
    fn agrees(&self, head: &RequestHead, arguments: &Value) -> bool {
        let argument = self.path.iter().try_fold(arguments, |value, key| value.get(&**key));
        match (argument.filter(|value| !value.is_null()), head.get(&self.field)) {
            (None, None) => true,
            (Some(value), Some(_)) => {
                // A field that occurs twice has no certain value.
                let field = head.get_only(&self.field).and_then(read_long_value);
                field.is_some() && field == text_of(value)
            }
            _ => false,
        }
    }
}

/// Adds the annotated properties of a schema, and of those within it.
fn collect(schema: &Value, path: &mut Vec<Box<str>>, found: &mut Vec<MirroredArgument>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    for (key, property) in properties {
        if found.len() >= ARGUMENTS_MAX {
            return;
        }
        path.push(key.as_str().into());
        if let Some(name) = property.as_object().and_then(annotation) {
            found.push(MirroredArgument { path: path.clone(), field: format!("{PREFIX}{name}") });
        }
        if path.len() < DEPTH_MAX {
            collect(property, path, found);
        }
        path.pop();
    }
}

fn annotation(property: &Map<String, Value>) -> Option<&str> {
    property.get(ANNOTATION)?.as_str().filter(|name| !name.is_empty())
}

/// The text that a field has for this value; none if it has no such text. `42.0` is the integer 42.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(is_set) => Some(is_set.to_string()),
        Value::Number(number) if number.is_f64() => {
            let text = number.to_string();
            text.strip_suffix(".0").map(str::to_owned)
        }
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &str) -> RequestHead {
        let mut head = RequestHead::new();
        head.feed(format!("POST /mcp HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes()).unwrap();
        head
    }

    fn learned() -> MirroredArguments {
        let mut learned = MirroredArguments::default();
        learned.learn(
            br#"{"jsonrpc":"2.0","id":1,"result":{"tools":[
                {"name":"store","inputSchema":{"properties":{"region":{"type":"string","x-mcp-header":"Region"},
                    "size":{"type":"integer","x-mcp-header":"Size"},
                    "to":{"properties":{"fast":{"type":"boolean","x-mcp-header":"Fast"}}}}}},
                {"name":"plain","inputSchema":{"properties":{"region":{"type":"string"}}}}]}}"#,
        );
        learned
    }

    #[test]
    fn a_head_must_repeat_what_the_arguments_say() {
        let learned = learned();
        let differs = |fields: &str, name: &str, arguments: &str| {
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}","arguments":{arguments}}}}}"#
            );
            learned.differs(&head(fields), body.as_bytes())
        };
        for (fields, arguments) in [
            ("", "{}"),
            ("", r#"{"region":null}"#),
            ("mcp-param-region: eu\r\n", r#"{"region":"eu"}"#),
            ("Mcp-Param-Region: =?base64?w6l0w6k=?=\r\n", r#"{"region":"été"}"#),
            ("Mcp-Param-Size: 42\r\nMcp-Param-Fast: true\r\n", r#"{"size":42.0,"to":{"fast":true}}"#),
        ] {
            assert!(!differs(fields, "store", arguments), "{fields} {arguments}");
            assert!(!differs("Mcp-Param-Region: us\r\n", "plain", arguments));
        }
        for (fields, arguments) in [
            ("", r#"{"region":"eu"}"#),
            ("Mcp-Param-Region: us\r\n", r#"{"region":"eu"}"#),
            ("Mcp-Param-Region: eu\r\nMcp-Param-Region: eu\r\n", r#"{"region":"eu"}"#),
            ("Mcp-Param-Region: eu\r\n", "{}"),
            ("Mcp-Param-Region: =?base64?!?=\r\n", r#"{"region":"!"}"#),
            ("Mcp-Param-Size: 42\r\n", r#"{"size":42.5}"#),
            ("Mcp-Param-Fast: true\r\n", r#"{"to":{"fast":false}}"#),
            ("Mcp-Param-Fast: true\r\n", r#"{"to":7}"#),
        ] {
            assert!(differs(fields, "store", arguments), "{fields} {arguments}");
        }
    }

    #[test]
    fn a_later_list_replaces_what_was_known_of_its_tools() {
        let mut learned = learned();
        learned.learn(br#"{"jsonrpc":"2.0","id":2,"result":{"tools":[{"name":"other","inputSchema":{}}]}}"#);
        assert_eq!(learned.tools.len(), 1);
        learned.learn(br#"{"jsonrpc":"2.0","id":3,"result":{"tools":[{"name":"store","inputSchema":{}}]}}"#);
        assert!(learned.tools.is_empty());
        learned.learn(b"x-mcp-header");
        assert!(learned.tools.is_empty());
    }
}
