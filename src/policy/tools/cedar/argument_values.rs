//! The arguments of a call as values of Cedar.
//!
//! Objects are records, arrays are sets, and whole numbers are longs. What Cedar cannot carry is an entity `Json`, which no operator
//! but `==` takes: a policy that compares it fails, and so denies.

use std::collections::{HashMap, HashSet};

use cedar_policy::RestrictedExpression;

use crate::policy::tools::cedar::entities::EntityKind;
use crate::policy::tools::cedar::expression::MembersRead;
use crate::policy::tools::json_text::{Unreadable, Value, folded};
use crate::policy::tools::number::Number;

/// The deepest nesting of arguments that policies are asked about.
const DEPTH_MAX: usize = 32;

/// The names that the policies read, by their case-folded form.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadNames(HashMap<Box<str>, Box<str>>);

impl ReadNames {
    pub(super) fn add(&mut self, name: &str) {
        let known = self.0.entry(folded(name).into()).or_insert_with(|| name.into());
        if **known != *name {
            // Two names that differ only in case: neither is the one that is meant.
            *known = "".into();
        }
    }

    /// Whether the policies read this name.
    ///
    /// # Errors
    ///
    /// If they read one that differs from it only in case, which a server may accept in its place.
    fn has(&self, name: &str) -> Result<bool, Unreadable> {
        match self.0.get(&*folded(name)) {
            Some(known) if **known == *name => Ok(true),
            Some(_) => Err(Unreadable),
            None => Ok(false),
        }
    }
}

/// What the policies read of arguments.
#[derive(Clone, Debug)]
pub(super) struct ReadArguments {
    pub(super) names: ReadNames,
    /// The arguments that they read, and those that they read as decimals.
    pub(super) arguments: MembersRead,
    pub(super) decimals: MembersRead,
}

/// The arguments that policies read as a record, and the numbers among them as decimals.
pub(super) struct ArgumentValues {
    pub(super) arguments: Vec<(String, RestrictedExpression)>,
    pub(super) decimals: Vec<(String, RestrictedExpression)>,
}

impl ArgumentValues {
    /// The arguments in a complete message.
    ///
    /// # Errors
    ///
    /// If servers may read them in different ways.
    pub(super) fn of_message(message: &[u8], reads: &ReadArguments) -> Result<ArgumentValues, Unreadable> {
        let names = &reads.names;
        let params = Value::of(message)?.member("params")?;
        let found = params.map(|params| params.value.member("arguments")).transpose()?.flatten();
        let mut values = ArgumentValues { arguments: Vec::new(), decimals: Vec::new() };
        let Some(found) = found.filter(|found| found.value.bytes() != b"null") else { return Ok(values) };
        if !found.value.is_object() {
            return Err(Unreadable);
        }
        let mut members = Members::new(names);
        for part in found.value.parts() {
            let part = part?;
            let is_read = members.add(&part.name)?;
            match reads.arguments.reads(&part.name) {
                true => values.arguments.push((part.name.to_string(), value(&part.value, names, is_read, 1)?)),
                false => check(&part.value, names, is_read, 1)?,
            }
            if reads.decimals.reads(&part.name) {
                values.decimals.push((part.name.into_owned(), decimal(&part.value)?));
            }
        }
        Ok(values)
    }
}

/// The members of one object, of which no two may be taken for each other.
struct Members<'a> {
    seen: HashSet<String>,
    names: &'a ReadNames,
}

impl<'a> Members<'a> {
    fn new(names: &'a ReadNames) -> Members<'a> {
        Members { seen: HashSet::new(), names }
    }

    /// Whether the policies read the member.
    fn add(&mut self, name: &str) -> Result<bool, Unreadable> {
        let is_read = self.names.has(name)?;
        if self.seen.insert(name.to_owned()) { Ok(is_read) } else { Err(Unreadable) }
    }
}

fn value(json: &Value<'_>, names: &ReadNames, is_read: bool, depth: usize) -> Result<RestrictedExpression, Unreadable> {
    if depth > DEPTH_MAX {
        return Err(Unreadable);
    }
    match json.bytes() {
        [b'{', ..] => {
            let (mut members, mut all) = (Members::new(names), Vec::new());
            for part in json.parts() {
                let part = part?;
                let is_read = members.add(&part.name)? || is_read;
                all.push((part.name.into_owned(), value(&part.value, names, is_read, depth + 1)?));
            }
            RestrictedExpression::new_record(all).map_err(|_| Unreadable)
        }
        [b'[', ..] => {
            let all = json.parts().map(|part| value(&part?.value, names, is_read, depth + 1));
            Ok(RestrictedExpression::new_set(all.collect::<Result<Vec<_>, _>>()?))
        }
        [b'"', ..] => Ok(RestrictedExpression::new_string(json.string().ok_or(Unreadable)?.into_owned())),
        b"true" => Ok(RestrictedExpression::new_bool(true)),
        b"false" => Ok(RestrictedExpression::new_bool(false)),
        b"null" => Ok(as_written(json)),
        text => {
            let number = Number::parse(text)?;
            match number.as_long() {
                Ok(Some(long)) => Ok(RestrictedExpression::new_long(long)),
                Ok(None) => Ok(number.as_decimal().map_or_else(|| as_written(json), RestrictedExpression::new_decimal)),
                Err(Unreadable) if is_read => Err(Unreadable),
                Err(Unreadable) => Ok(as_written(json)),
            }
        }
    }
}

/// Checks a value as [`value`] does, for policies that do not read it.
fn check(json: &Value<'_>, names: &ReadNames, is_read: bool, depth: usize) -> Result<(), Unreadable> {
    if depth > DEPTH_MAX {
        return Err(Unreadable);
    }
    match json.bytes() {
        [b'{', ..] => {
            let mut members = Members::new(names);
            json.parts().try_for_each(|part| {
                let part = part?;
                let is_read = members.add(&part.name)? || is_read;
                check(&part.value, names, is_read, depth + 1)
            })
        }
        [b'[', ..] => json.parts().try_for_each(|part| check(&part?.value, names, is_read, depth + 1)),
        [b'"', ..] => json.string().map(|_| ()).ok_or(Unreadable),
        b"true" | b"false" | b"null" => Ok(()),
        text => match Number::parse(text)?.as_long() {
            Err(Unreadable) if is_read => Err(Unreadable),
            _ => Ok(()),
        },
    }
}

fn decimal(json: &Value<'_>) -> Result<RestrictedExpression, Unreadable> {
    let number = match json.bytes() {
        text @ [b'-' | b'0'..=b'9', ..] => Number::parse(text)?.as_decimal(),
        _ => None,
    };
    let none = || RestrictedExpression::new_entity_uid(EntityKind::Json.uid("none"));
    Ok(number.map_or_else(none, RestrictedExpression::new_decimal))
}

fn as_written(json: &Value<'_>) -> RestrictedExpression {
    RestrictedExpression::new_entity_uid(EntityKind::Json.uid(&String::from_utf8_lossy(json.bytes())))
}
