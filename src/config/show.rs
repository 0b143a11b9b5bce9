use serde_json::{Value, json};

use crate::config::error::Origin;
use crate::config::load::Config;

impl Config {
    /// Every value and its origin, as a text table. Secrets are masked.
    #[must_use]
    pub fn show(&self) -> String {
        let rows: Vec<[String; 3]> = self
            .values
            .iter()
            .map(|value| [value.key.clone(), in_text(&value.value), value.origin.to_string()])
            .collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (keys, values) = (width(0), width(1));
        rows.iter().map(|[key, value, origin]| format!("{key:keys$}  {value:values$}  {origin}\n")).collect()
    }

    /// The same data as one JSON object: `{"values": [{"key", "value", "from", "where"}], "warnings": […]}`. `from` is
    /// `default`, `profile`, `file`, `env` or `flag`.
    #[must_use]
    pub fn show_json(&self) -> Value {
        let values: Vec<Value> = self
            .values
            .iter()
            .map(|value| {
                let place = (value.origin != Origin::Default).then(|| value.origin.to_string());
                json!({ "key": value.key, "value": value.value, "from": value.origin.kind(), "where": place })
            })
            .collect();
        json!({ "values": values, "warnings": self.warnings })
    }
}

fn in_text(value: &Value) -> String {
    match value {
        Value::Null => "(not set)".to_owned(),
        Value::String(text) if text.chars().any(char::is_control) => format!("{text:?}"),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "(none)".to_owned(),
        Value::Array(items) => items.iter().map(in_text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
