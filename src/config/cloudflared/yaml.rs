//! The file of cloudflared, which is YAML, as JSON.

use serde_json::{Map, Number, Value};
use yaml_rust2::Yaml;
use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::scanner::TScalarStyle;

/// The longest file that is read, in bytes.
const LEN_MAX: usize = 1024 * 1024;
/// How deep lists and objects may be nested.
const DEPTH_MAX: usize = 32;

/// Reads a file of one document into JSON. An empty file is an empty object.
pub(super) fn read_yaml(text: &str) -> Result<Map<String, Value>, String> {
    if text.len() > LEN_MAX {
        return Err(format!("it is longer than {LEN_MAX} bytes"));
    }
    let mut reading = Reading::default();
    let mut parser = Parser::new_from_str(text);
    // Only the first document is read. Nothing here recurses, however deep the file is.
    while reading.fault.is_none() {
        match parser.next_token().map_err(|error| error.to_string())?.0 {
            Event::DocumentEnd | Event::StreamEnd => break,
            event => reading.take(event),
        }
    }
    match (reading.fault, reading.document) {
        (Some(fault), _) => Err(fault),
        (None, None | Some(Value::Null)) => Ok(Map::new()),
        (None, Some(Value::Object(object))) => Ok(object),
        (None, Some(_)) => Err("it is not a list of settings".to_owned()),
    }
}

/// A document that is being read.
#[derive(Default)]
struct Reading {
    open: Vec<Open>,
    document: Option<Value>,
    fault: Option<String>,
}

/// A list or an object that has not ended, with the key whose value comes next.
enum Open {
    List(Vec<Value>),
    Object(Map<String, Value>, Option<String>),
}

impl Reading {
    fn begin(&mut self, open: Open) {
        if self.open.len() >= DEPTH_MAX {
            self.fault.get_or_insert(format!("it is nested more than {DEPTH_MAX} deep"));
        } else {
            self.open.push(open);
        }
    }

    fn end(&mut self) {
        match self.open.pop() {
            Some(Open::List(list)) => self.put(Value::Array(list)),
            Some(Open::Object(object, _)) => self.put(Value::Object(object)),
            None => {}
        }
    }

    fn put(&mut self, value: Value) {
        match self.open.last_mut() {
            None => self.document = Some(value),
            Some(Open::List(list)) => list.push(value),
            Some(Open::Object(object, key)) => match (key.take(), value) {
                (Some(name), value) => drop(object.insert(name, value)),
                (None, Value::String(name)) => *key = Some(name),
                (None, Value::Number(number)) => *key = Some(number.to_string()),
                (None, _) => drop(self.fault.get_or_insert("a key is not a text".to_owned())),
            },
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::MappingStart(..) => self.begin(Open::Object(Map::new(), None)),
            Event::SequenceStart(..) => self.begin(Open::List(Vec::new())),
            Event::MappingEnd | Event::SequenceEnd => self.end(),
            Event::Scalar(text, TScalarStyle::Plain, ..) => self.put(plain(&text)),
            Event::Scalar(text, ..) => self.put(Value::String(text)),
            // A short file with aliases of aliases would become a very large one.
            Event::Alias(_) => self.fault = Some("it has an alias (`*name`): write the value itself".to_owned()),
            _ => {}
        }
    }
}

/// The value of a text without quotation marks.
fn plain(text: &str) -> Value {
    match Yaml::from_str(text) {
        Yaml::Integer(number) => Value::Number(number.into()),
        Yaml::Real(number) => {
            let parsed = number.parse().ok().and_then(Number::from_f64);
            parsed.map_or_else(|| Value::String(text.to_owned()), Value::Number)
        }
        Yaml::Boolean(is) => Value::Bool(is),
        Yaml::Null => Value::Null,
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_becomes_json() {
        let text = "tunnel: abc\nedge: [a:1, 'b:2']\nha-connections: 2\ningress:\n  - hostname: x.test\n    service: http://x:1\n  \
                    - service: http_status:404\nno-autoupdate: true\nempty:\nquoted: '12'\n";
        let read = read_yaml(text).unwrap();
        assert_eq!((read["tunnel"].as_str(), read["ha-connections"].as_i64()), (Some("abc"), Some(2)));
        assert_eq!(read["ingress"][1]["service"], "http_status:404");
        assert_eq!((&read["edge"][1], &read["empty"], &read["quoted"]), (&"b:2".into(), &Value::Null, &"12".into()));
        assert!(read_yaml("").unwrap().is_empty() && read_yaml("# nothing\n").unwrap().is_empty());
    }

    #[test]
    fn what_is_not_a_list_of_settings_is_refused() {
        for (text, why) in [("- a\n", "not a list"), ("a: [", ""), ("a: &x 1\nb: *x\n", "alias"), ("[a]: 1\n", "a key")]
        {
            assert!(read_yaml(text).unwrap_err().contains(why), "{text}");
        }
        assert!(read_yaml(&"[".repeat(100)).is_err());
        assert!(read_yaml(&format!("a: {}{}", "[".repeat(50), "]".repeat(50))).unwrap_err().contains("nested"));
    }
}
