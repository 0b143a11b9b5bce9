//! Reads values of a TOML file, and reports faults with their line.

use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A fault in a policy file: something wrong, or without effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFault {
    /// The line, from 1.
    pub line: usize,
    /// The fault and its remedy.
    pub message: String,
}

impl fmt::Display for PolicyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// A file being read, with the faults found so far.
pub(super) struct FileReader {
    /// The ends of its lines.
    ends: Vec<usize>,
    pub(super) faults: Vec<PolicyFault>,
}

/// A table of the file.
pub(super) struct Section<'a> {
    pub(super) line: usize,
    /// The table's name, for messages.
    name: &'static str,
    table: &'a DeTable<'a>,
}

impl FileReader {
    pub(super) fn new(text: &str) -> FileReader {
        FileReader { ends: text.match_indices('\n').map(|(at, _)| at).collect(), faults: Vec::new() }
    }

    pub(super) fn fault(&mut self, line: usize, message: impl Into<String>) {
        self.faults.push(PolicyFault { line, message: message.into() });
    }

    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        self.ends.partition_point(|end| *end < span.start) + 1
    }

    /// The tables `[[name]]` of the file, at most `max`.
    pub(super) fn rows<'a>(&mut self, root: &'a DeTable<'a>, name: &'static str, max: usize) -> Vec<Section<'a>> {
        let Some((key, value)) = root.get_key_value(name) else { return Vec::new() };
        let DeValue::Array(rows) = value.get_ref() else {
            self.fault(self.line(&key.span()), format!("write [[{name}]], with two brackets"));
            return Vec::new();
        };
        if rows.len() > max {
            self.fault(self.line(&key.span()), format!("a policy has at most {max} tables [[{name}]]"));
        }
        rows.iter().take(max).filter_map(|row| self.section_of(row, name)).collect()
    }

    /// The table `[name]` of the file.
    pub(super) fn section<'a>(&mut self, root: &'a DeTable<'a>, name: &'static str) -> Option<Section<'a>> {
        self.section_of(root.get(name)?, name)
    }

    fn section_of<'a>(&mut self, value: &'a Spanned<DeValue<'a>>, name: &'static str) -> Option<Section<'a>> {
        let line = self.line(&value.span());
        match value.get_ref() {
            DeValue::Table(table) => Some(Section { line, name, table }),
            _ => {
                self.fault(line, format!("{name} must be a table"));
                None
            }
        }
    }

    /// Reports the keys that are not among `known`.
    pub(super) fn only(&mut self, section: &Section<'_>, known: &[&str]) {
        for (key, _) in section.table {
            let name = key.get_ref();
            if !known.contains(&&**name) {
                let line = self.line(&key.span());
                self.fault(line, format!("unknown key {name:?} in {}: it has {}", section.name, known.join(", ")));
            }
        }
    }

    pub(super) fn text<'a>(&mut self, section: &Section<'a>, key: &str) -> Option<&'a str> {
        let value = section.table.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(text),
            _ => {
                self.fault(self.line(&value.span()), format!("{key} must be a text"));
                None
            }
        }
    }

    pub(super) fn flag(&mut self, section: &Section<'_>, key: &str) -> Option<bool> {
        let value = section.table.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(is_set) => Some(*is_set),
            _ => {
                self.fault(self.line(&value.span()), format!("{key} must be true or false"));
                None
            }
        }
    }

    /// A whole number from 1 to `max`.
    pub(super) fn count(&mut self, section: &Section<'_>, key: &str, max: u32) -> Option<u32> {
        let value = section.table.get(key)?;
        let number = match json(value.get_ref()) {
            serde_json::Value::Number(number) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
            _ => None,
        };
        let number = number.filter(|number| (1..=max).contains(number));
        if number.is_none() {
            self.fault(self.line(&value.span()), format!("{key} must be a whole number from 1 to {max}"));
        }
        number
    }

    /// A list of strings, each with its line; `None` if the key is absent.
    pub(super) fn texts<'a>(&mut self, section: &Section<'a>, key: &str) -> Option<Vec<(&'a str, usize)>> {
        let value = section.table.get(key)?;
        let DeValue::Array(items) = value.get_ref() else {
            self.fault(self.line(&value.span()), format!("{key} must be a list of texts, such as [\"a\", \"b\"]"));
            return None;
        };
        let mut texts = Vec::new();
        for item in items {
            let line = self.line(&item.span());
            match item.get_ref() {
                DeValue::String(text) if !text.is_empty() => texts.push((&**text, line)),
                _ => self.fault(line, format!("{key} must be a list of texts that are not empty")),
            }
        }
        if items.is_empty() {
            self.fault(self.line(&value.span()), format!("{key} is empty: remove it, or name something"));
        }
        Some(texts)
    }

    /// A table nested in the section.
    pub(super) fn inner<'a>(&mut self, section: &Section<'a>, key: &'static str) -> Option<Section<'a>> {
        self.section_of(section.table.get(key)?, key)
    }
}

impl<'a> Section<'a> {
    /// The keys and values as JSON.
    pub(super) fn json(&self) -> impl Iterator<Item = (&'a str, serde_json::Value)> {
        self.table.iter().map(|(key, value)| (&**key.get_ref(), json(value.get_ref())))
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The line of a key.
    pub(super) fn line_of(&self, reader: &FileReader, key: &str) -> usize {
        self.table.get_key_value(key).map_or(self.line, |(key, _)| reader.line(&key.span()))
    }
}

fn json(value: &DeValue<'_>) -> serde_json::Value {
    match value {
        DeValue::String(text) => text.to_string().into(),
        DeValue::Integer(number) => {
            i64::from_str_radix(number.as_str(), number.radix()).map_or_else(|_| number.to_string().into(), Into::into)
        }
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or_else(|_| number.to_string().into(), Into::into),
        DeValue::Boolean(is_set) => (*is_set).into(),
        DeValue::Datetime(time) => time.to_string().into(),
        DeValue::Array(items) => items.iter().map(|item| json(item.get_ref())).collect(),
        DeValue::Table(table) => {
            table.iter().map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref()))).collect()
        }
    }
}
