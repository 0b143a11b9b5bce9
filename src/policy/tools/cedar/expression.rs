//! Expressions of Cedar in their JSON form: what they depend on, and how they are without what is not known.
//!
//! A tool is shown if some arguments could be allowed. For that each condition has a second form, from which all that depends on
//! arguments is gone: what is left of a permit is true wherever the permit could be, and what is left of a forbid is true only where
//! the forbid is. `&&`, `||`, `!` and `if` are followed; any other expression that depends on arguments counts as a whole.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// Which way an expression may differ from the one it is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// True wherever the expression could be true.
    Above,
    /// False wherever the expression could be false.
    Below,
}

impl Bound {
    const fn opposite(self) -> Bound {
        match self {
            Bound::Above => Bound::Below,
            Bound::Below => Bound::Above,
        }
    }
}

/// The expressions directly within one.
fn parts(expression: &Value) -> Vec<&Value> {
    let Some((operator, operands)) = expression.as_object().and_then(|members| members.iter().next()) else {
        return Vec::new();
    };
    match (operator.as_str(), operands) {
        // A literal may look like an expression.
        ("Value" | "Var" | "Slot", _) => Vec::new(),
        (_, Value::Object(operands)) => operands.values().filter(|operand| operand.is_object()).collect(),
        (_, Value::Array(operands)) => operands.iter().collect(),
        _ => Vec::new(),
    }
}

/// Whether an expression has this variable.
pub(super) fn has_variable(expression: &Value, name: &str) -> bool {
    expression["Var"] == name || parts(expression).into_iter().any(|part| has_variable(part, name))
}

/// The bound of an expression that contains nothing unknown. `depends` says of an expression whether it depends on that.
fn bounded(expression: &Value, bound: Bound, depends: &dyn Fn(&Value) -> bool) -> Value {
    if !depends(expression) {
        return expression.clone();
    }
    let part = |part: &Value| bounded(part, bound, depends);
    let both = |name: &str, left: Value, right: Value| json!({ name: {"left": left, "right": right} });
    for name in ["&&", "||"] {
        if let Some(parts) = expression.get(name) {
            return both(name, part(&parts["left"]), part(&parts["right"]));
        }
    }
    if let Some(negated) = expression.get("!") {
        return json!({"!": {"arg": bounded(&negated["arg"], bound.opposite(), depends)}});
    }
    if let Some(choice) = expression.get("if-then-else") {
        let (then, other) = (part(&choice["then"]), part(&choice["else"]));
        if !depends(&choice["if"]) {
            return json!({"if-then-else": {"if": choice["if"], "then": then, "else": other}});
        }
        return both(if bound == Bound::Above { "||" } else { "&&" }, then, other);
    }
    json!({"Value": bound == Bound::Above})
}

/// A policy whose conditions have only what is known.
pub(super) fn bounded_policy(policy: &Value, bound: Bound, depends: &dyn Fn(&Value) -> bool) -> Value {
    let mut bounded_one = policy.clone();
    for condition in bounded_one["conditions"].as_array_mut().into_iter().flatten() {
        let bound = if condition["kind"] == "unless" { bound.opposite() } else { bound };
        condition["body"] = bounded(&condition["body"], bound, depends);
    }
    bounded_one
}

/// Whether an expression reads one of these members of the context, or the context as a whole.
pub(super) fn reads_context(expression: &Value, members: &[&str]) -> bool {
    let is_context = |expression: &Value| expression["Var"] == "context";
    let accessed = [".", "has"].into_iter().find_map(|operator| expression.get(operator));
    match accessed.filter(|accessed| is_context(&accessed["left"])) {
        Some(accessed) => accessed["attr"].as_str().is_none_or(|attr| members.contains(&attr)),
        None => is_context(expression) || parts(expression).into_iter().any(|part| reads_context(part, members)),
    }
}

/// The members of one part of the context that policies read.
#[derive(Clone, Debug)]
pub(super) enum MembersRead {
    /// The part is used as a whole, so any member may matter.
    All,
    /// Only these members are read.
    Only(BTreeSet<Box<str>>),
}

impl MembersRead {
    /// What these expressions read of a part of the context.
    pub(super) fn of<'a>(mut expressions: impl Iterator<Item = &'a Value>, part: &str) -> MembersRead {
        let mut members = BTreeSet::new();
        match expressions.all(|expression| add_members(expression, part, &mut members)) {
            true => MembersRead::Only(members),
            false => MembersRead::All,
        }
    }

    /// Whether the policies may read the member with this name.
    pub(super) fn reads(&self, name: &str) -> bool {
        match self {
            MembersRead::All => true,
            MembersRead::Only(members) => members.contains(name),
        }
    }
}

/// Adds the members of `context.PART` that an expression reads. False if it may read others.
fn add_members(expression: &Value, part: &str, members: &mut BTreeSet<Box<str>>) -> bool {
    let is_context = |expression: &Value| expression["Var"] == "context";
    let is_part = |expression: &Value| is_context(&expression["."]["left"]) && expression["."]["attr"] == part;
    if is_context(expression) || is_part(expression) {
        return false;
    }
    if let Some(accessed) = [".", "has"].into_iter().find_map(|operator| expression.get(operator)) {
        let left = &accessed["left"];
        if is_context(left) {
            return accessed["attr"].is_string();
        }
        if is_part(left) {
            return accessed["attr"].as_str().is_some_and(|name| {
                members.insert(name.into());
                true
            });
        }
    }
    parts(expression).into_iter().all(|inner| add_members(inner, part, members))
}

/// Calls `found` with each name of an attribute in an expression.
pub(super) fn attributes(expression: &Value, found: &mut dyn FnMut(&str)) {
    let accessed = [".", "has"].into_iter().find_map(|operator| expression.get(operator));
    if let Some(attr) = accessed.and_then(|accessed| accessed["attr"].as_str()) {
        found(attr);
    }
    parts(expression).into_iter().for_each(|part| attributes(part, found));
}

/// Whether an expression has an operator within it for which `is_it` holds, given its operands.
pub(super) fn has_operand(expression: &Value, is_it: &dyn Fn(&str, &Value) -> bool) -> bool {
    let own = expression.as_object().and_then(|members| members.iter().next());
    own.is_some_and(|(operator, operands)| is_it(operator, operands))
        || parts(expression).into_iter().any(|part| has_operand(part, is_it))
}

/// The conditions of a policy.
pub(super) fn conditions(policy: &Value) -> impl Iterator<Item = &Value> {
    policy["conditions"].as_array().into_iter().flatten().map(|condition| &condition["body"])
}
