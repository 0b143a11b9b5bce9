//! Checks the arguments of calls against a subset of JSON Schema, applied more strictly than the standard requires.
//!
//! A keyword implies the type of the value: in the standard, `maximum` accepts any string, which a server may then parse as a
//! number. Servers may also match names case-insensitively, or use the second of two members of the same name, so both are
//! refused.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt;

use regex::{Regex, RegexBuilder};
use serde_json::Value as Json;

use crate::policy::tools::json_text::{Unreadable, Value, folded};
use crate::policy::tools::number::Number;

/// The maximum number of values that one schema describes, and their maximum nesting depth.
const VALUES_MAX: usize = 500;
const DEPTH_MAX: usize = 16;
/// The maximum number of values in one `enum`.
const ENUM_MAX: usize = 1_000;
/// The maximum length of a pattern, in bytes, and the maximum memory of a compiled one.
const PATTERN_LEN_MAX: usize = 1_000;
const PATTERN_SIZE_MAX: usize = 1 << 18;

/// Keywords that are annotations and are not checked.
const NOTES: [&str; 4] = ["title", "description", "$comment", "examples"];

/// The schema of a value.
#[derive(Clone, Debug, Default)]
pub(super) struct ArgumentSchema {
    /// The types that are allowed.
    kinds: Kinds,
    /// The values of `enum` or `const`, if there are any.
    listed: Option<ListedValues>,
    minimum: Option<Number>,
    maximum: Option<Number>,
    above: Option<Number>,
    below: Option<Number>,
    min_length: Option<u64>,
    max_length: Option<u64>,
    pattern: Option<Regex>,
    min_items: Option<u64>,
    max_items: Option<u64>,
    items: Option<Box<ArgumentSchema>>,
    properties: Vec<(Box<str>, ArgumentSchema)>,
    required: Vec<Box<str>>,
    names: Names,
    /// Whether members that `properties` does not name are refused.
    is_closed: bool,
}

/// The names in `properties` and `required`, indexed so that each member of an object takes one lookup.
#[derive(Clone, Debug, Default)]
struct Names {
    /// The names, by their case-folded form.
    by_folded: HashMap<Box<str>, Name>,
    /// The number of required names.
    required: usize,
}

#[derive(Clone, Debug)]
struct Name {
    text: Box<str>,
    /// The index in `properties`, if the name is there.
    property: Option<usize>,
    is_required: bool,
    /// Whether another name differs from this one only in case, so that a member cannot be assigned to either.
    is_unclear: bool,
}

impl Names {
    fn of(properties: &[(Box<str>, ArgumentSchema)], required: &[Box<str>]) -> Names {
        let mut names = Names::default();
        let properties = properties.iter().enumerate().map(|(at, (text, _))| (text, Some(at)));
        for (text, property) in properties.chain(required.iter().map(|text| (text, None))) {
            let new = Name { text: text.clone(), property: None, is_required: false, is_unclear: false };
            let name = names.by_folded.entry(folded(text).into()).or_insert(new);
            name.is_unclear |= name.text != *text;
            name.property = name.property.or(property);
            name.is_required |= property.is_none();
        }
        names.required = names.by_folded.values().filter(|name| name.is_required).count();
        names
    }
}

/// The path of a value in the arguments. It is formatted only for error messages.
#[derive(Clone, Copy)]
enum Path<'a> {
    Arguments,
    Member(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, u64),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Arguments => f.write_str("arguments"),
            Path::Member(Path::Arguments, name) => f.write_str(name),
            Path::Member(of, name) => write!(f, "{of}.{name}"),
            Path::Item(of, nth) => write!(f, "{of}[{nth}]"),
        }
    }
}

/// The values of an `enum`, indexed so that a lookup does not depend on their number.
#[derive(Clone, Debug, Default)]
struct ListedValues {
    texts: HashSet<Box<str>>,
    /// The numbers, in ascending order.
    numbers: Vec<Number>,
    words: Vec<&'static [u8]>,
}

impl ListedValues {
    fn of(values: impl Iterator<Item = Listed>) -> ListedValues {
        let mut all = ListedValues::default();
        for value in values {
            match value {
                Listed::Text(text) => drop(all.texts.insert(text)),
                Listed::Number(number) => all.numbers.push(number),
                Listed::Word(word) => all.words.push(word),
            }
        }
        all.numbers.sort_by(Number::compare_exactly);
        all
    }

    /// The binary search visits both neighbours of a number: if a listed number has the same double, a neighbour has it too.
    fn has_number(&self, number: &Number) -> Result<bool, Unreadable> {
        let (mut low, mut high) = (0, self.numbers.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match number.compare(&self.numbers[middle])? {
                Ordering::Equal => return Ok(true),
                Ordering::Less => high = middle,
                Ordering::Greater => low = middle + 1,
            }
        }
        Ok(false)
    }
}

/// A value of an `enum`.
#[derive(Clone, Debug)]
enum Listed {
    Text(Box<str>),
    Number(Number),
    /// `true`, `false` or `null` as written.
    Word(&'static [u8]),
}

/// A set of JSON types, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Kinds(u8);

/// Why arguments are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// Servers may read the arguments differently.
    Unreadable,
    /// The violation, as a message for the caller.
    Wrong(String),
}

impl From<Unreadable> for Misfit {
    fn from(Unreadable: Unreadable) -> Misfit {
        Misfit::Unreadable
    }
}

impl Kinds {
    const NULL: Kinds = Kinds(1);
    const BOOLEAN: Kinds = Kinds(2);
    const NUMBER: Kinds = Kinds(4);
    const STRING: Kinds = Kinds(8);
    const ARRAY: Kinds = Kinds(16);
    const OBJECT: Kinds = Kinds(32);
    /// A number without a fractional part.
    const INTEGER: Kinds = Kinds(64);
    const NAMES: [(&'static str, Kinds); 7] = [
        ("null", Kinds::NULL),
        ("boolean", Kinds::BOOLEAN),
        ("number", Kinds::NUMBER),
        ("string", Kinds::STRING),
        ("array", Kinds::ARRAY),
        ("object", Kinds::OBJECT),
        ("integer", Kinds::INTEGER),
    ];

    const fn and(self, other: Kinds) -> Kinds {
        Kinds(self.0 | other.0)
    }

    const fn has(self, other: Kinds) -> bool {
        self.0 & other.0 != 0
    }

    fn of(value: &Value<'_>) -> Result<Kinds, Unreadable> {
        Ok(match value.bytes() {
            [b'{', ..] => Kinds::OBJECT,
            [b'[', ..] => Kinds::ARRAY,
            [b'"', ..] => Kinds::STRING,
            b"true" | b"false" => Kinds::BOOLEAN,
            b"null" => Kinds::NULL,
            [b'-' | b'0'..=b'9', ..] => Kinds::NUMBER,
            _ => return Err(Unreadable),
        })
    }

    fn names(self) -> String {
        let names: Vec<&str> = Kinds::NAMES.iter().filter(|(_, kind)| self.has(*kind)).map(|(name, _)| *name).collect();
        names.join(" or ")
    }
}

impl ArgumentSchema {
    /// Reads the argument schema of a rule.
    ///
    /// # Errors
    ///
    /// All faults of the schema.
    pub(super) fn parse(schema: &Json) -> Result<ArgumentSchema, Vec<String>> {
        let mut reader = SchemaReader { faults: Vec::new(), values: 0 };
        let mut read = reader.read(schema, "arguments", 0);
        if read.kinds != Kinds::OBJECT && read.kinds != Kinds::default() {
            reader.faults.push("arguments are an object: describe its members in properties".to_owned());
        }
        read.kinds = Kinds::OBJECT;
        if reader.faults.is_empty() { Ok(read) } else { Err(reader.faults) }
    }

    /// Checks the arguments in a complete message.
    pub(super) fn check_message(&self, message: &[u8]) -> Result<(), Misfit> {
        let params = Value::of(message)?.member("params")?;
        let arguments = params.map(|params| params.value.member("arguments")).transpose()?.flatten();
        match arguments {
            Some(arguments) => self.check(&arguments.value, &Path::Arguments),
            None => self.check(&Value::of(b"{}")?, &Path::Arguments),
        }
    }

    /// Checks a value against the schema. `path` is for error messages.
    fn check(&self, value: &Value<'_>, path: &Path<'_>) -> Result<(), Misfit> {
        let wrong = |what: String| Err(Misfit::Wrong(format!("{path} {what}")));
        let kind = Kinds::of(value)?;
        let number = if kind == Kinds::NUMBER { Some(Number::parse(value.bytes())?) } else { None };
        let is_integer = match &number {
            Some(number) if self.kinds.has(Kinds::INTEGER) && !self.kinds.has(Kinds::NUMBER) => number.is_whole()?,
            _ => false,
        };
        if self.kinds != Kinds::default() && !self.kinds.has(kind) && !is_integer {
            return wrong(format!("must be of type {}", self.kinds.names()));
        }
        let text = if kind == Kinds::STRING { Some(value.string().ok_or(Unreadable)?) } else { None };
        if let Some(listed) = &self.listed {
            let is_listed = match (&text, &number) {
                (Some(text), _) => listed.texts.contains(&**text),
                (None, Some(number)) => listed.has_number(number)?,
                (None, None) => listed.words.contains(&value.bytes()),
            };
            if !is_listed {
                return wrong("has a value that is not allowed".to_owned());
            }
        }
        if let Some(number) = &number {
            let is = |bound: &Option<Number>, allowed: &[Ordering]| match bound {
                Some(bound) => number.compare(bound).map(|order| allowed.contains(&order)),
                None => Ok(true),
            };
            let fits = is(&self.minimum, &[Ordering::Greater, Ordering::Equal])?
                && is(&self.maximum, &[Ordering::Less, Ordering::Equal])?
                && is(&self.above, &[Ordering::Greater])?
                && is(&self.below, &[Ordering::Less])?;
            if !fits {
                return wrong("is a number out of the allowed range".to_owned());
            }
        }
        let is_within = |len: u64, min: Option<u64>, max: Option<u64>| {
            min.is_none_or(|min| len >= min) && max.is_none_or(|max| len <= max)
        };
        if let Some(text) = &text {
            if !is_within(text.chars().count() as u64, self.min_length, self.max_length) {
                return wrong("has a length that is not allowed".to_owned());
            }
            if self.pattern.as_ref().is_some_and(|pattern| !pattern.is_match(text)) {
                return wrong("has a format that is not allowed".to_owned());
            }
        }
        match kind {
            Kinds::ARRAY => self.check_items(value, path),
            Kinds::OBJECT => self.check_members(value, path),
            _ => Ok(()),
        }
    }

    fn check_items(&self, list: &Value<'_>, path: &Path<'_>) -> Result<(), Misfit> {
        let mut len = 0;
        for item in list.parts() {
            let item = item?;
            if let Some(items) = &self.items {
                items.check(&item.value, &Path::Item(path, len))?;
            }
            len += 1;
        }
        if self.min_items.is_some_and(|min| len < min) || self.max_items.is_some_and(|max| len > max) {
            return Err(Misfit::Wrong(format!("{path} has a number of items that is not allowed")));
        }
        Ok(())
    }

    fn check_members(&self, object: &Value<'_>, path: &Path<'_>) -> Result<(), Misfit> {
        if self.names.by_folded.is_empty() && !self.is_closed {
            return Ok(());
        }
        let mut seen: Vec<(&Name, Value<'_>)> = Vec::new();
        let mut has_others = false;
        for member in object.parts() {
            let member = member?;
            match self.names.by_folded.get(&*folded(&member.name)) {
                Some(name) if name.is_unclear || *name.text != *member.name => return Err(Misfit::Unreadable),
                Some(name) => seen.push((name, member.value)),
                None => has_others = true,
            }
        }
        seen.sort_unstable_by(|(one, _), (other, _)| one.text.cmp(&other.text));
        if seen.windows(2).any(|two| two[0].0.text == two[1].0.text) {
            return Err(Misfit::Unreadable);
        }
        for (name, value) in &seen {
            match name.property.and_then(|at| self.properties.get(at)) {
                Some((text, schema)) => schema.check(value, &Path::Member(path, text))?,
                None => has_others = true,
            }
        }
        if seen.iter().filter(|(name, _)| name.is_required).count() < self.names.required {
            let has = |text: &str| seen.binary_search_by(|(name, _)| (*name.text).cmp(text)).is_ok();
            let missing = self.required.iter().find(|text| !has(text)).map_or("", |text| text);
            return Err(Misfit::Wrong(format!("{} is missing", Path::Member(path, missing))));
        }
        if self.is_closed && has_others {
            return Err(self.no_other_members(path));
        }
        Ok(())
    }

    #[cold]
    fn no_other_members(&self, path: &Path<'_>) -> Misfit {
        let names: Vec<&str> = self.properties.iter().map(|(name, _)| &**name).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Misfit::Wrong(format!("{path} may have no other members than: {names}"))
    }
}

/// Reads a schema and collects its faults.
struct SchemaReader {
    faults: Vec<String>,
    values: usize,
}

impl SchemaReader {
    fn read(&mut self, schema: &Json, path: &str, depth: usize) -> ArgumentSchema {
        let mut read = ArgumentSchema::default();
        let Json::Object(members) = schema else {
            self.faults.push(format!("{path} must be a table with keywords of JSON Schema"));
            return read;
        };
        self.values += 1;
        if depth > DEPTH_MAX || self.values == VALUES_MAX + 1 {
            let message = format!("{path}: at most {VALUES_MAX} values are described, nested up to {DEPTH_MAX} deep");
            self.faults.push(message);
        }
        if depth > DEPTH_MAX || self.values > VALUES_MAX {
            return read;
        }
        let mut explicit = Kinds::default();
        let mut implied = Kinds::default();
        for (keyword, value) in members {
            let at = format!("{path}.{keyword}");
            let implies = match &**keyword {
                "type" => {
                    explicit = self.kinds(value, &at);
                    continue;
                }
                "enum" | "const" => {
                    let listed = if keyword == "const" { std::slice::from_ref(value) } else { self.list(value, &at) };
                    read.listed = Some(ListedValues::of(listed.iter().filter_map(|one| self.listed(one, &at))));
                    continue;
                }
                "minimum" => self.number(value, &at, &mut read.minimum),
                "maximum" => self.number(value, &at, &mut read.maximum),
                "exclusiveMinimum" => self.number(value, &at, &mut read.above),
                "exclusiveMaximum" => self.number(value, &at, &mut read.below),
                "minLength" => self.count(value, &at, &mut read.min_length, Kinds::STRING),
                "maxLength" => self.count(value, &at, &mut read.max_length, Kinds::STRING),
                "pattern" => self.pattern(value, &at, &mut read.pattern),
                "minItems" => self.count(value, &at, &mut read.min_items, Kinds::ARRAY),
                "maxItems" => self.count(value, &at, &mut read.max_items, Kinds::ARRAY),
                "items" => {
                    read.items = Some(Box::new(self.read(value, &at, depth + 1)));
                    Kinds::ARRAY
                }
                "properties" => {
                    let Json::Object(properties) = value else {
                        self.faults.push(format!("{at} must be a table of names"));
                        continue;
                    };
                    for (name, property) in properties {
                        let property = self.read(property, &format!("{at}.{name}"), depth + 1);
                        read.properties.push((name.as_str().into(), property));
                    }
                    Kinds::OBJECT
                }
                "required" => {
                    for name in self.list(value, &at) {
                        match name.as_str() {
                            Some(name) => read.required.push(name.into()),
                            None => self.faults.push(format!("{at} must be a list of names")),
                        }
                    }
                    Kinds::OBJECT
                }
                "additionalProperties" => {
                    match value.as_bool() {
                        Some(may_be) => read.is_closed = !may_be,
                        None => self.faults.push(format!("{at} must be true or false")),
                    }
                    Kinds::OBJECT
                }
                keyword if NOTES.contains(&keyword) => continue,
                _ => {
                    self.faults.push(format!(
                        "{at} is not checked by adit, so that it would limit nothing: it knows type, enum, const, minimum, maximum, \
                         exclusiveMinimum, exclusiveMaximum, minLength, maxLength, pattern, items, minItems, maxItems, properties, \
                         required and additionalProperties"
                    ));
                    continue;
                }
            };
            implied = implied.and(implies);
        }
        read.names = Names::of(&read.properties, &read.required);
        read.kinds = if explicit == Kinds::default() { implied } else { explicit };
        let implied = if implied.has(Kinds::NUMBER) { implied.and(Kinds::INTEGER) } else { implied };
        if explicit != Kinds::default() && implied != Kinds::default() && !explicit.has(implied) {
            self.faults.push(format!("{path}: none of its keywords is about the type {}", explicit.names()));
        }
        self.check_ranges(&read, path);
        read
    }

    /// Reports ranges that no value satisfies.
    fn check_ranges(&mut self, read: &ArgumentSchema, path: &str) {
        let lowest = [(&read.minimum, Ordering::Greater), (&read.above, Ordering::Equal)];
        let highest = [&read.maximum, &read.below];
        let is_empty = lowest.iter().any(|(low, at_most)| {
            highest.iter().zip([false, true]).any(|(high, is_open)| {
                let (Some(low), Some(high)) = (low, high) else { return false };
                let order = low.compare(high).unwrap_or(Ordering::Equal);
                order == Ordering::Greater || (order == Ordering::Equal && (*at_most == Ordering::Equal || is_open))
            })
        });
        let are_crossed = |min: Option<u64>, max: Option<u64>| min.zip(max).is_some_and(|(min, max)| min > max);
        if is_empty || are_crossed(read.min_length, read.max_length) || are_crossed(read.min_items, read.max_items) {
            self.faults.push(format!("{path}: no value is within these limits"));
        }
    }

    fn kinds(&mut self, value: &Json, at: &str) -> Kinds {
        let names = match value {
            Json::Array(names) => names.as_slice(),
            name => std::slice::from_ref(name),
        };
        let mut kinds = Kinds::default();
        for name in names {
            match Kinds::NAMES.iter().find(|(known, _)| name.as_str() == Some(*known)) {
                Some((_, kind)) => kinds = kinds.and(*kind),
                None => self.faults.push(format!("{at} must be one or more of {}", Kinds(127).names())),
            }
        }
        kinds
    }

    fn listed(&mut self, value: &Json, at: &str) -> Option<Listed> {
        Some(match value {
            Json::String(text) => Listed::Text(text.as_str().into()),
            Json::Bool(true) => Listed::Word(b"true"),
            Json::Bool(false) => Listed::Word(b"false"),
            Json::Number(number) => Listed::Number(Number::parse(number.to_string().as_bytes()).ok()?),
            _ => {
                self.faults.push(format!("{at} can have texts, numbers, true and false"));
                return None;
            }
        })
    }

    fn list<'v>(&mut self, value: &'v Json, at: &str) -> &'v [Json] {
        match value {
            Json::Array(list) if !list.is_empty() && list.len() <= ENUM_MAX => list,
            _ => {
                self.faults.push(format!("{at} must be a list of 1 to {ENUM_MAX} values"));
                &[]
            }
        }
    }

    fn number(&mut self, value: &Json, at: &str, place: &mut Option<Number>) -> Kinds {
        *place = value.as_number().and_then(|number| Number::parse(number.to_string().as_bytes()).ok());
        if place.is_none() {
            self.faults.push(format!("{at} must be a number"));
        }
        Kinds::NUMBER
    }

    fn count(&mut self, value: &Json, at: &str, place: &mut Option<u64>, kind: Kinds) -> Kinds {
        *place = value.as_u64();
        if place.is_none() {
            self.faults.push(format!("{at} must be a whole number from 0"));
        }
        kind
    }

    fn pattern(&mut self, value: &Json, at: &str, place: &mut Option<Regex>) -> Kinds {
        match value.as_str() {
            Some(text) if text.len() <= PATTERN_LEN_MAX => {
                match RegexBuilder::new(text).size_limit(PATTERN_SIZE_MAX).build() {
                    Ok(pattern) => *place = Some(pattern),
                    Err(error) => {
                        let why = error.to_string();
                        let why = why.lines().last().unwrap_or_default().trim();
                        self.faults
                            .push(format!("{at} is no regular expression that is matched in linear time: {why}"));
                    }
                }
            }
            _ => self.faults.push(format!("{at} must be a regular expression of at most {PATTERN_LEN_MAX} bytes")),
        }
        Kinds::STRING
    }
}

#[cfg(test)]
#[path = "arguments_tests.rs"]
mod tests;
