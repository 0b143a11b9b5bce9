//! The output schemas of tools, as their lists have them, and whether a sanitised result still fits one (JSON Schema 2020-12).
//!
//! Only what was changed is checked: the rest is as the server has written it. A keyword that is not known here counts as one that
//! the change violates.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use regex::{Regex, RegexBuilder};
use serde_json::{Map, Value as Json};

/// The maximum number of schemas kept for a route, the maximum length of one, and of all together, in bytes.
const SCHEMAS_MAX: usize = 1_024;
const SCHEMA_LEN_MAX: usize = 32 * 1024;
const SCHEMAS_LEN_MAX: usize = 1 << 20;
/// The maximum length of the name of a tool, in bytes.
const NAME_LEN_MAX: usize = 256;
/// How many schemas are applied in one check, and how deep.
const STEPS_MAX: u32 = 200_000;
const DEPTH_MAX: u32 = 64;
/// The maximum length of a pattern and of its compiled form, in bytes.
const PATTERN_LEN_MAX: usize = 1_000;
const PATTERN_SIZE_MAX: usize = 1 << 16;
/// How many steps the compilation of a pattern counts for.
const PATTERN_STEPS: u32 = 2_000;

/// Keywords that restrict no value, or nothing that a change can affect: lengths of arrays and names of members stay.
const HARMLESS: [&str; 19] = [
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "required",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "nullable",
    "$anchor",
];

/// The output schemas of a route's tools, shared by all cores.
#[derive(Debug, Default)]
pub(super) struct OutputSchemas {
    known: Mutex<Known>,
    changes: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    by_tool: HashMap<Box<str>, Arc<[u8]>>,
    len: usize,
}

impl OutputSchemas {
    /// Remembers the schema of a tool, or that it has none. One for which there is no room is not known.
    pub(super) fn learn(&self, tool: &str, schema: Option<&[u8]>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.by_tool.get(tool).map(|known| &**known) == schema {
            return;
        }
        self.changes.fetch_add(1, Ordering::Release);
        if let Some(before) = known.by_tool.remove(tool) {
            known.len -= before.len();
        }
        let Some(schema) = schema.filter(|schema| schema.len() <= SCHEMA_LEN_MAX) else { return };
        if tool.len() <= NAME_LEN_MAX
            && known.by_tool.len() < SCHEMAS_MAX
            && known.len + schema.len() <= SCHEMAS_LEN_MAX
        {
            known.len += schema.len();
            known.by_tool.insert(tool.into(), schema.into());
        }
    }

    /// How often they have changed.
    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The schema of a tool, if it is known.
    pub(super) fn of(&self, tool: &str) -> Option<Arc<[u8]>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).by_tool.get(tool).cloned()
    }
}

/// Whether a structured result still fits a schema after it was changed. All are JSON texts.
pub(super) fn still_fits(schema: &[u8], before: &[u8], after: &[u8]) -> bool {
    let parse = |text: &[u8]| serde_json::from_slice::<Json>(text).ok();
    let (Some(root), Some(before), Some(after)) = (parse(schema), parse(before), parse(after)) else { return false };
    let mut check = Check { root: &root, steps: STEPS_MAX, patterns: HashMap::new() };
    check.fits(&root, &Changed::of(&before, &after), &after, 0)
}

/// Which parts of a value were changed.
#[derive(Default)]
struct Changed {
    is_any: bool,
    /// The same of its members or elements, in their order; none if nothing was changed.
    parts: Vec<Changed>,
}

impl Changed {
    fn of(before: &Json, after: &Json) -> Changed {
        let parts: Vec<Changed> = match (before, after) {
            (Json::Array(before), Json::Array(after)) if before.len() == after.len() => {
                before.iter().zip(after).map(|(before, after)| Changed::of(before, after)).collect()
            }
            (Json::Object(before), Json::Object(after)) if before.keys().eq(after.keys()) => {
                before.values().zip(after.values()).map(|(before, after)| Changed::of(before, after)).collect()
            }
            (before, after) => return Changed { is_any: before != after, parts: Vec::new() },
        };
        match parts.iter().any(|part| part.is_any) {
            true => Changed { is_any: true, parts },
            false => Changed::default(),
        }
    }
}

struct Check<'a> {
    root: &'a Json,
    steps: u32,
    /// The patterns compiled so far; `None` for one that cannot be.
    patterns: HashMap<&'a str, Option<Regex>>,
}

impl<'a> Check<'a> {
    /// Whether a value fits a schema that it fitted before it was changed.
    fn fits(&mut self, schema: &'a Json, changed: &Changed, value: &Json, depth: u32) -> bool {
        if !changed.is_any {
            return true;
        }
        let len = match value {
            Json::Array(items) => items.len(),
            Json::Object(members) => members.len(),
            _ => 0,
        };
        self.take(1 + u32::try_from(len / 16).unwrap_or(u32::MAX));
        if self.steps == 0 || depth == DEPTH_MAX || len != changed.parts.len() {
            return false;
        }
        match schema {
            Json::Bool(fits) => *fits,
            Json::Object(keywords) => keywords
                .iter()
                .all(|(name, keyword_value)| self.allows((keywords, name, keyword_value), changed, value, depth + 1)),
            _ => false,
        }
    }

    fn take(&mut self, steps: u32) {
        self.steps = self.steps.saturating_sub(steps);
    }

    fn allows(
        &mut self,
        (keywords, name, keyword_value): (&'a Map<String, Json>, &str, &'a Json),
        changed: &Changed,
        value: &Json,
        depth: u32,
    ) -> bool {
        let named = || keywords.get("properties").and_then(Json::as_object);
        match (name, value) {
            (name, _) if HARMLESS.contains(&name) || name.starts_with("x-") => true,
            ("type", _) => is_one_of(keyword_value, value),
            ("enum", _) => keyword_value.as_array().is_some_and(|values| values.contains(value)),
            ("const", _) => keyword_value == value,
            ("pattern", Json::String(text)) => {
                keyword_value.as_str().is_some_and(|pattern| self.matches(pattern, text))
            }
            ("minLength", Json::String(text)) => {
                keyword_value.as_u64().is_some_and(|min| text.chars().count() as u64 >= min)
            }
            ("maxLength", Json::String(text)) => {
                keyword_value.as_u64().is_some_and(|max| text.chars().count() as u64 <= max)
            }
            ("minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum", Json::Number(_)) => {
                match (value.as_f64(), keyword_value.as_f64()) {
                    (Some(number), Some(limit)) => match name {
                        "minimum" => number >= limit,
                        "maximum" => number <= limit,
                        "exclusiveMinimum" => number > limit,
                        _ => number < limit,
                    },
                    _ => false,
                }
            }
            // A number that is changed becomes 0.
            ("multipleOf", Json::Number(_)) => value.as_f64() == Some(0.0),
            ("properties", Json::Object(members)) => {
                let Json::Object(schemas) = keyword_value else { return false };
                let mut members = members.iter().zip(&changed.parts);
                members.all(|((name, value), changed)| {
                    schemas.get(name).is_none_or(|schema| self.fits(schema, changed, value, depth))
                })
            }
            // Names do not change, so that a schema that allows no others has nothing to say.
            ("additionalProperties", _) if *keyword_value == Json::Bool(false) => true,
            ("additionalProperties", Json::Object(members)) => {
                let is_other = |name: &str| named().is_none_or(|named| !named.contains_key(name));
                let mut others = members.iter().zip(&changed.parts).filter(|((name, _), _)| is_other(name));
                others.all(|((_, value), changed)| self.fits(keyword_value, changed, value, depth))
            }
            ("items", Json::Array(items)) => {
                let first = keywords.get("prefixItems").and_then(Json::as_array).map_or(0, Vec::len);
                let mut items = items.iter().zip(&changed.parts).skip(first);
                items.all(|(value, changed)| self.fits(keyword_value, changed, value, depth))
            }
            ("prefixItems", Json::Array(items)) => {
                let Json::Array(schemas) = keyword_value else { return false };
                let mut items = schemas.iter().zip(items.iter().zip(&changed.parts));
                items.all(|(schema, (value, changed))| self.fits(schema, changed, value, depth))
            }
            ("$ref", _) => {
                let (root, place) = (self.root, keyword_value.as_str().and_then(|place| place.strip_prefix('#')));
                place.and_then(|place| root.pointer(place)).is_some_and(|at| self.fits(at, changed, value, depth))
            }
            ("allOf", _) => match keyword_value {
                Json::Array(all) => all.iter().all(|schema| self.fits(schema, changed, value, depth)),
                _ => false,
            },
            // The value fitted one of them, and nobody knows which: it has to fit all that say nothing else of its type.
            ("anyOf", _) => match keyword_value {
                Json::Array(any) => {
                    let is_possible = |schema: &&Json| schema.get("type").is_none_or(|kinds| is_one_of(kinds, value));
                    let mut possible = any.iter().filter(is_possible).peekable();
                    possible.peek().is_some() && possible.all(|schema| self.fits(schema, changed, value, depth))
                }
                _ => false,
            },
            // They are about values of another type.
            (
                "pattern" | "minLength" | "maxLength" | "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum",
                _,
            )
            | ("multipleOf" | "properties" | "additionalProperties" | "items" | "prefixItems", _) => true,
            // `format`, `not`, `oneOf`, `if` and others.
            _ => false,
        }
    }

    fn matches(&mut self, pattern: &'a str, text: &str) -> bool {
        if pattern.len() > PATTERN_LEN_MAX {
            return false;
        }
        if !self.patterns.contains_key(pattern) {
            self.take(PATTERN_STEPS);
            let regex = RegexBuilder::new(pattern).size_limit(PATTERN_SIZE_MAX).nest_limit(DEPTH_MAX).build();
            self.patterns.insert(pattern, regex.ok());
        }
        self.patterns.get(pattern).and_then(Option::as_ref).is_some_and(|regex| regex.is_match(text))
    }
}

/// Whether a value is of one of the types that `type` says.
fn is_one_of(kinds: &Json, value: &Json) -> bool {
    match kinds {
        Json::String(kind) => is_of(value, kind),
        Json::Array(kinds) => kinds.iter().filter_map(Json::as_str).any(|kind| is_of(value, kind)),
        _ => false,
    }
}

/// Whether a value is of a type of JSON Schema.
fn is_of(value: &Json, kind: &str) -> bool {
    match kind {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fits(schema: Json, before: Json, after: Json) -> bool {
        let text = |value: Json| value.to_string().into_bytes();
        still_fits(&text(schema), &text(before), &text(after))
    }

    #[test]
    fn a_change_must_satisfy_the_schema_at_its_place() {
        let of = |text: Json| json!({"type": "object", "properties": {"a": text, "b": {"type": "string", "format": "uuid"}}});
        let changed = |text: Json| {
            let value = |a: &str| json!({"a": a, "b": "0b0c6f0e-0000-4000-8000-000000000000"});
            fits(of(text), value("AKIAIOSFODNN7EXAMPLE"), value("[redacted:secret]"))
        };
        for good in [
            json!({}),
            json!(true),
            json!({"type": "string", "title": "A", "description": "x", "default": "y"}),
            json!({"type": ["string", "null"], "minLength": 3, "maxLength": 20}),
            json!({"pattern": "^\\[redacted"}),
            json!({"enum": ["x", "[redacted:secret]"]}),
            json!({"anyOf": [{"type": "string"}, {"type": "null"}]}),
            json!({"allOf": [{"type": "string"}, {"maxLength": 17}]}),
            json!({"maximum": 5, "x-note": 1, "items": false}),
        ] {
            assert!(changed(good.clone()), "{good}");
        }
        for bad in [
            json!(false),
            json!({"maxLength": 16}),
            json!({"minLength": 18}),
            json!({"pattern": "^AKIA[A-Z0-9]{16}$"}),
            json!({"pattern": "(?=look)around"}),
            json!({"enum": ["AKIAIOSFODNN7EXAMPLE"]}),
            json!({"const": "AKIAIOSFODNN7EXAMPLE"}),
            json!({"format": "email"}),
            json!({"not": {"pattern": "redacted"}}),
            json!({"oneOf": [{"type": "string"}]}),
            json!({"anyOf": [{"type": "null"}]}),
            json!({"anyOf": [{"type": "string", "maxLength": 5}, {"type": "string"}]}),
            json!({"type": "null"}),
            json!({"unknown": 1}),
            json!(5),
        ] {
            assert!(!changed(bad.clone()), "{bad}");
        }
    }

    #[test]
    fn references_and_arrays_are_followed_and_unchanged_values_are_skipped() {
        let schema = json!({
            "$defs": {"card": {"properties": {"number": {"type": "integer", "minimum": 0}, "owner": {"type": "string", "maxLength": 8}}}},
            "properties": {"result": {"type": "array", "items": {"$ref": "#/$defs/card"}}},
            "additionalProperties": {"type": "string", "pattern": "^x"}
        });
        let value = |number: u64, owner: &str, other: &str| json!({"result": [{"number": 1, "owner": "y"}, {"number": number, "owner": owner}], "other": other});
        assert!(fits(schema.clone(), value(4_111, "a", "no"), value(0, "b", "no")));
        assert!(!fits(schema.clone(), value(4_111, "a", "no"), value(0, "[redacted]", "no")));
        assert!(!fits(schema.clone(), value(1, "a", "x1"), value(1, "a", "[redacted]")));
        assert!(!fits(
            schema,
            value(1, "a", "x1"),
            json!({"result": [{"number": 1, "owner": "y"}, {"number": 1, "owner": 5}]})
        ));
        assert!(!fits(json!({"items": {"minimum": 1}}), json!([4]), json!([0])));
        assert!(fits(json!({"prefixItems": [{"format": "date"}], "items": {}}), json!(["d", "a"]), json!(["d", "b"])));
        assert!(!fits(json!({"prefixItems": [{"format": "date"}], "items": {}}), json!(["d", "a"]), json!(["e", "a"])));
    }

    #[test]
    fn no_schema_takes_long() {
        for schema in [
            json!({"$ref": "#"}),
            json!({"$ref": "#/none"}),
            json!({"allOf": [{"$ref": "#"}, {"$ref": "#"}, {"$ref": "#"}]}),
            json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}),
        ] {
            assert!(!fits(schema.clone(), json!("a"), json!("b")), "{schema}");
        }
        let many = |last: &str| json!((0..100_000).map(|nth| json!([nth, last])).collect::<Vec<_>>());
        let all = json!({"items": {"allOf": vec![json!({"items": {"pattern": "^a{1,9}$"}}); 500]}});
        assert!(!fits(all, many("a"), many("aa")), "it gives up");
        assert!(!still_fits(b"{", b"1", b"2") && still_fits(b"{}", b"1", b"2"));
    }

    #[test]
    fn the_memory_for_schemas_is_bounded() {
        let schemas = OutputSchemas::default();
        schemas.learn("a", Some(b"{}"));
        schemas.learn("a", Some(b"{\"type\":\"object\"}"));
        assert_eq!(schemas.of("a").as_deref(), Some(&b"{\"type\":\"object\"}"[..]));
        schemas.learn("a", None);
        assert_eq!((schemas.of("a"), schemas.known.lock().unwrap().len), (None, 0));
        let long = vec![b' '; SCHEMA_LEN_MAX];
        (0..100).for_each(|nth| schemas.learn(&nth.to_string(), Some(&long)));
        assert!(schemas.of("31").is_some() && schemas.of("32").is_none());
        schemas.learn("b", Some(&vec![b' '; SCHEMA_LEN_MAX + 1]));
        assert!(schemas.of("b").is_none());
    }
}
