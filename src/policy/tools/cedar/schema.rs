//! Schemas: of what policies can name, and of the arguments of a server's tools.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use cedar_policy::{Schema, SchemaFragment, Validator};
use serde_json::{Map, Value, json};

use crate::policy::tools::cedar::entities::EntityKind;
use crate::wire::mcp::{METHODS, OTHER};

/// The deepest nesting of a tool's `inputSchema` that is followed.
const DEPTH_MAX: usize = 16;

/// The methods with a named target, and what they name.
const NAMING: [(&str, EntityKind); 3] =
    [("tools/call", EntityKind::Tool), ("prompts/get", EntityKind::Prompt), ("resources/read", EntityKind::Resource)];

/// Methods that Cedar never sees, and the action as which they are decided.
pub(super) const DECIDED_AS: [(&str, &str); 3] = [
    ("resources/subscribe", "resources/read"),
    ("resources/unsubscribe", "resources/read"),
    ("completion/complete", "prompts/get or resources/read"),
];

/// The arguments of tools by name, each with its type in Cedar.
pub(super) type Types = BTreeMap<String, Value>;

/// The schema of policies for a server with these tools, as it is written in Cedar. Each is an element of its `tools/list`.
///
/// # Errors
///
/// If Cedar cannot tell it.
pub fn cedar_schema(tools: &[Value]) -> Result<String, String> {
    let (mut types, mut conflicts) = (Types::new(), BTreeMap::<String, Vec<String>>::new());
    for (tool, arguments) in arguments_of(tools) {
        for (name, kind) in arguments {
            match types.get(&name).map(|known| merged(known, &kind)) {
                None => drop(types.insert(name, kind)),
                Some(Some(merged)) => drop(types.insert(name, merged)),
                Some(None) => conflicts.entry(name).or_default().push(tool.clone()),
            }
        }
    }
    let fragment = SchemaFragment::from_json_value(schema_of(&types)).map_err(|error| error.to_string())?;
    let text = fragment.to_cedarschema().map_err(|error| error.to_string())?;
    let notes = conflicts.iter().map(|(name, tools)| {
        let tools: Vec<String> = tools.iter().map(|tool| format!("{tool:?}")).collect();
        format!("// {name:?} has another type in {}: this is that of the tools before.\n", tools.join(", "))
    });
    Ok(notes.collect::<String>() + &text)
}

/// The validator of what is the same for all servers.
pub(super) static BASE_VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
    let schema = Schema::from_json_value(schema_of(&Types::new()));
    Validator::new(schema.expect("the schema without tools is one of Cedar"))
});

/// Tools whose arguments with the same name have the same type, and the types.
pub(super) fn groups(tools: &[Value]) -> Vec<(Vec<String>, Types)> {
    let mut groups: Vec<(Vec<String>, Types)> = vec![(Vec::new(), Types::new())];
    for (tool, arguments) in arguments_of(tools) {
        let fits = groups.iter().position(|(_, types)| {
            arguments.iter().all(|(name, kind)| types.get(name).is_none_or(|known| merged(known, kind).is_some()))
        });
        let at = fits.unwrap_or_else(|| {
            groups.push((Vec::new(), Types::new()));
            groups.len() - 1
        });
        let (names, types) = &mut groups[at];
        names.push(tool);
        for (name, kind) in arguments {
            let kind = types.get(&name).and_then(|known| merged(known, &kind)).unwrap_or(kind);
            types.insert(name, kind);
        }
    }
    groups
}

/// The arguments of each tool. One whose type Cedar cannot say is left out.
fn arguments_of(tools: &[Value]) -> impl Iterator<Item = (String, Types)> {
    tools.iter().filter_map(|tool| {
        let schema = &tool["inputSchema"];
        let properties = schema["properties"].as_object().into_iter().flatten();
        let types = properties.filter_map(|(name, property)| Some((name.clone(), type_of(property, schema, 0)?)));
        Some((tool["name"].as_str()?.to_owned(), types.collect()))
    })
}

/// The type of values of a JSON schema.
fn type_of(schema: &Value, root: &Value, depth: usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        return None;
    }
    if let Some(place) = schema["$ref"].as_str() {
        return type_of(root.pointer(place.strip_prefix('#')?)?, root, depth + 1);
    }
    for choice in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[choice].as_array() {
            let mut types =
                choices.iter().filter(|choice| choice["type"] != "null").map(|choice| type_of(choice, root, depth + 1));
            let first = types.next()??;
            return types.try_fold(first, |all, kind| merged(&all, &kind?));
        }
    }
    let named = match &schema["type"] {
        Value::String(name) => Some(name.as_str()),
        Value::Array(names) => {
            let mut names = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            names.next().filter(|_| names.next().is_none())
        }
        _ => None,
    };
    let listed = schema.get("const").or_else(|| schema["enum"].as_array()?.first());
    let named = named.or_else(|| match listed? {
        Value::String(_) => Some("string"),
        Value::Bool(_) => Some("boolean"),
        Value::Number(_) => Some("number"),
        _ => None,
    });
    match named? {
        "string" => Some(json!({"type": "String"})),
        "boolean" => Some(json!({"type": "Boolean"})),
        "integer" | "number" => Some(json!({"type": "Long"})),
        "array" => Some(json!({"type": "Set", "element": type_of(&schema["items"], root, depth + 1)?})),
        "object" => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            let members =
                properties.filter_map(|(name, property)| Some((name.clone(), type_of(property, root, depth + 1)?)));
            Some(optional_record(members))
        }
        _ => None,
    }
}

/// A type that has the members of both; none if no value is of both.
fn merged(one: &Value, other: &Value) -> Option<Value> {
    if one == other {
        return Some(one.clone());
    }
    if one["type"] == "Set" && other["type"] == "Set" {
        return Some(json!({"type": "Set", "element": merged(&one["element"], &other["element"])?}));
    }
    let (Some(members), Some(others)) = (one["attributes"].as_object(), other["attributes"].as_object()) else {
        return None;
    };
    let mut all: Map<String, Value> = members.clone();
    for (name, kind) in others {
        let kind = match all.get(name) {
            Some(known) => optional(merged(&required(known), &required(kind))?),
            None => kind.clone(),
        };
        all.insert(name.clone(), kind);
    }
    Some(json!({"type": "Record", "attributes": all}))
}

fn optional(mut kind: Value) -> Value {
    kind["required"] = false.into();
    kind
}

fn required(kind: &Value) -> Value {
    let mut kind = kind.clone();
    if let Some(members) = kind.as_object_mut() {
        members.remove("required");
    }
    kind
}

/// A record whose members a caller may leave out, whatever the server asks for.
fn optional_record(members: impl Iterator<Item = (String, Value)>) -> Value {
    let members: Map<String, Value> = members.map(|(name, kind)| (name, optional(kind))).collect();
    json!({"type": "Record", "attributes": members})
}

pub(super) fn schema_of(arguments: &Types) -> Value {
    let record = |members: Value| json!({"type": "Record", "attributes": members});
    let text = json!({"type": "String"});
    let (long, flag) = (json!({"type": "Long"}), json!({"type": "Boolean"}));
    let texts = json!({"type": "Set", "element": text});
    let caller = |parents: &[&str]| {
        json!({
            "memberOfTypes": parents,
            "shape": record(json!({
                "proof": text,
                "subject": text,
                "scopes": texts,
                "issuer": optional(text.clone()),
                "client": optional(text.clone()),
            })),
            "tags": texts,
        })
    };
    let target = |name: &str| json!({"memberOfTypes": ["Route"], "shape": record(json!({ name: text }))});
    let entities = json!({
        "Role": {}, "Group": {}, "Route": {}, "Json": {},
        "User": caller(&["Role", "Group"]),
        "Certificate": caller(&["Role", "Group"]),
        "Key": caller(&["Role"]),
        "Anonymous": caller(&["Role"]),
        "Tool": target("name"), "Prompt": target("name"), "Resource": target("uri"),
    });
    let typed = optional_record(arguments.iter().map(|(name, kind)| (name.clone(), kind.clone())));
    let numbers = arguments.iter().filter(|(_, kind)| kind["type"] == "Long");
    let decimals =
        optional_record(numbers.map(|(name, _)| (name.clone(), json!({"type": "Extension", "name": "decimal"}))));
    let context = |kind: EntityKind| {
        let is_tool = kind == EntityKind::Tool;
        let mut members = json!({
            "time": record(json!({"seconds": long, "hour": long, "weekday": long})),
            "network": record(json!({"address": {"type": "Extension", "name": "ipaddr", "required": false}})),
            "arguments": if is_tool { typed.clone() } else { record(json!({})) },
            "decimals": if is_tool { decimals.clone() } else { record(json!({})) },
        });
        if is_tool {
            let hints = json!({"read_only": flag, "destructive": flag, "idempotent": flag, "open_world": flag});
            members["annotations"] = record(hints);
        }
        record(members)
    };
    let callers = ["User", "Key", "Certificate", "Anonymous"];
    let action = |kind: EntityKind| json!({"appliesTo": {"principalTypes": callers, "resourceTypes": [kind.name()], "context": context(kind)}});
    let naming = NAMING.iter().map(|(method, kind)| ((*method).to_owned(), action(*kind)));
    let is_other = |method: &&&str| {
        let others = DECIDED_AS.iter().map(|(method, _)| *method).chain([OTHER]);
        !NAMING.iter().map(|(method, _)| *method).chain(others).any(|known| known == **method)
    };
    let others = METHODS.iter().filter(is_other).map(|method| ((*method).to_owned(), action(EntityKind::Route)));
    let actions: Map<String, Value> = naming.chain(others).collect();
    json!({"": {"entityTypes": entities, "actions": actions}})
}
