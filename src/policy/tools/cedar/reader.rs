//! Reads a Cedar file: parses each policy, validates it, and prepares what decides.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use cedar_policy::{ActionConstraint, Authorizer, Effect, Policy, PolicyId, ResourceConstraint, ValidationMode};
use miette::Diagnostic;
use serde_json::{Value, json};

use crate::policy::tools::cedar::argument_values::{ReadArguments, ReadNames};
use crate::policy::tools::cedar::entities::EntityKind;
use crate::policy::tools::cedar::expression::{
    Bound, MembersRead, attributes, bounded_policy, conditions, has_operand, has_variable, reads_context,
};
use crate::policy::tools::cedar::policy_index::{PolicyIndex, set_of};
use crate::policy::tools::cedar::prepared::{PolicyNote, Prepared};
use crate::policy::tools::cedar::principal::Principals;
use crate::policy::tools::cedar::schema::{BASE_VALIDATOR, DECIDED_AS};
use crate::policy::tools::cedar::statements::{Statement, statements};
use crate::policy::tools::file_reader::PolicyFault;
use crate::policy::tools::method_default::MethodDefault;
use crate::policy::tools::pattern::Patterns;
use crate::policy::tools::uri::{lower, normal};

/// The most policies of one file.
const POLICIES_MAX: usize = 1_000;

/// The parts of the context that have the arguments.
const ARGUMENTS: [&str; 2] = ["arguments", "decimals"];

/// A policy that was read.
struct ReadPolicy {
    policy: Policy,
    /// The same as JSON, to make others of.
    form: Value,
    note: PolicyNote,
}

/// Reads a Cedar file, or tells all that is wrong with it.
pub(super) fn read(text: &str) -> Result<Prepared, Vec<PolicyFault>> {
    let mut faults = Vec::new();
    let found = statements(text);
    if found.len() > POLICIES_MAX {
        let message = format!("a Cedar file has at most {POLICIES_MAX} policies");
        return Err(vec![PolicyFault { line: found[POLICIES_MAX].line, message }]);
    }
    let mut names = HashSet::new();
    let mut read = Vec::new();
    for (at, statement) in found.iter().enumerate() {
        read.extend(read_policy(statement, at, &mut names, &mut faults));
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    prepare(text, &found, read)
}

fn read_policy(
    statement: &Statement<'_>,
    at: usize,
    names: &mut HashSet<String>,
    faults: &mut Vec<PolicyFault>,
) -> Option<ReadPolicy> {
    let line = statement.line;
    if let Some(message) = statement.too_long() {
        faults.push(PolicyFault { line, message });
        return None;
    }
    let policy = match Policy::parse(Some(PolicyId::new(at.to_string())), statement.text) {
        Ok(policy) => policy,
        Err(errors) => {
            faults.extend(errors.iter().map(|error| fault_of(error, statement)));
            return None;
        }
    };
    let given = policy.annotation("id").map(str::to_owned);
    let name = given.unwrap_or_else(|| format!("cedar#{}", at + 1));
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@:/#".contains(&byte);
    let mut wrong = |message: String| faults.push(PolicyFault { line, message });
    if name.is_empty() || name.len() > 64 || !name.bytes().all(is_name) {
        wrong("@id has 1 to 64 letters, digits and the characters - _ . @ : /".to_owned());
    }
    if !names.insert(name.clone()) {
        wrong(format!("the name {name:?} is used twice"));
    }
    let scope = policy.annotation("scope").map(Arc::from);
    if scope.is_some() && policy.effect() == Effect::Permit {
        wrong("@scope is for policies that forbid: it is what their callers may ask for".to_owned());
    }
    let is_scope = |byte: u8| byte == b' ' || (byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
    if scope.as_deref().is_some_and(|scope: &str| scope.is_empty() || scope.len() > 256 || !scope.bytes().all(is_scope))
    {
        wrong(
            "@scope has 1 to 256 visible ASCII characters without quotes, with a space between two scopes".to_owned(),
        );
    }
    for uid in policy.entity_literals() {
        let id: &str = uid.id().as_ref();
        if EntityKind::Action.is_of(&uid) && DECIDED_AS.iter().any(|(method, _)| *method == id) {
            let other = DECIDED_AS.iter().find(|(method, _)| *method == id).map_or("", |(_, other)| other);
            wrong(format!("{id} is decided as {other}: name that"));
        }
        if EntityKind::Resource.is_of(&uid) {
            match normal(id) {
                Err(why) => wrong(format!("servers may read the URI {id:?} in different ways: {why}")),
                Ok(normal) if *normal != *id => {
                    wrong(format!("the URI {id:?} is compared in another form: write {normal:?}"))
                }
                Ok(_) if policy.effect() == Effect::Forbid && *lower(id) != *id => {
                    wrong(format!("forbidden URIs are compared without regard to case: write {:?}", lower(id)));
                }
                Ok(_) => {}
            }
        }
    }
    let form = match policy.to_json() {
        Ok(form) => form,
        Err(error) => {
            wrong(error.to_string());
            return None;
        }
    };
    let roles = policy.entity_literals().into_iter().filter(|uid| EntityKind::Role.is_of(uid));
    let resource = match policy.resource_constraint() {
        ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid)
            if EntityKind::Resource.is_of(&uid) =>
        {
            let mut patterns = Patterns::default();
            patterns.add(uid.id().as_ref());
            Some(patterns)
        }
        _ => None,
    };
    let note = PolicyNote {
        name: name.into(),
        line,
        effect: policy.effect(),
        scope,
        mentions_arguments: conditions(&form).any(|condition| reads_context(condition, &ARGUMENTS)),
        resource,
        names_group: policy.entity_literals().iter().any(|uid| EntityKind::Group.is_of(uid)),
        roles: roles.map(|uid| AsRef::<str>::as_ref(uid.id()).into()).collect(),
    };
    Some(ReadPolicy { policy, form, note })
}

fn prepare(text: &str, found: &[Statement<'_>], read: Vec<ReadPolicy>) -> Result<Prepared, Vec<PolicyFault>> {
    let wrong = |why: String| vec![PolicyFault { line: 1, message: why }];
    let rebuilt = |one: &ReadPolicy, form: Value| {
        let policy = Policy::from_json(Some(one.policy.id().clone()), form);
        policy.map_err(|error| vec![PolicyFault { line: one.note.line, message: error.to_string() }])
    };
    let (mut listed, mut templates) = (Vec::new(), Vec::new());
    for one in &read {
        let bound = if one.note.effect == Effect::Permit { Bound::Above } else { Bound::Below };
        let form = bounded_policy(&one.form, bound, &|expression| reads_context(expression, &ARGUMENTS));
        if one.note.mentions_arguments {
            listed.push(rebuilt(one, form.clone())?);
        } else {
            listed.push(one.policy.clone());
        }
        // Of one resource a forbid says nothing about the others of a template.
        let names_one = one.note.resource.is_some();
        if names_one && one.note.effect == Effect::Forbid {
            continue;
        }
        let mut form = bounded_policy(&form, bound, &|expression| has_variable(expression, "resource"));
        if names_one {
            form["resource"] = json!({"op": "is", "entity_type": EntityKind::Resource.name()});
        }
        templates.push(rebuilt(one, form)?);
    }
    let warnings = validate(found, &read, &listed)?;
    let policies: Vec<Policy> = read.iter().map(|one| one.policy.clone()).collect();
    let mut names = ReadNames::default();
    let uses = |members: &[&str]| read.iter().any(|one| conditions(&one.form).any(|body| reads_context(body, members)));
    for one in &read {
        conditions(&one.form).for_each(|condition| attributes(condition, &mut |name| names.add(name)));
    }
    let members = |part: &str| MembersRead::of(read.iter().flat_map(|one| conditions(&one.form)), part);
    let prepared = Prepared {
        source: text.into(),
        authorizer: Authorizer::new(),
        exact: PolicyIndex::new(&policies).map_err(|error| wrong(error.to_string()))?,
        listed: PolicyIndex::new(&listed).map_err(|error| wrong(error.to_string()))?,
        templates: set_of(templates.iter()).map_err(|error| wrong(error.to_string()))?,
        methods: of_methods(&policies).map_err(|error| wrong(error.to_string()))?,
        principals: Principals::default(),
        roles: read.iter().flat_map(|one| one.note.roles.iter().cloned()).collect(),
        reads: ReadArguments { names, arguments: members("arguments"), decimals: members("decimals") },
        time: members("time"),
        uses_arguments: uses(&ARGUMENTS),
        uses_decimals: uses(&["decimals"]),
        uses_annotations: uses(&["annotations"]),
        uses_time: uses(&["time"]),
        uses_network: uses(&["network"]),
        uses_tags: read.iter().any(|one| conditions(&one.form).any(|body| has_operand(body, &reads_tag))),
        uses_groups: read.iter().any(|one| one.note.names_group),
        has_permit: read.iter().any(|one| one.note.effect == Effect::Permit),
        warnings,
        replayed: <[OnceLock<_>; 2]>::default(),
        policies: read.into_iter().map(|one| one.note).collect(),
    };
    Ok(prepared)
}

/// Whether an operator reads a tag of an entity.
fn reads_tag(operator: &str, _: &Value) -> bool {
    matches!(operator, "hasTag" | "getTag")
}

/// The policies that name methods which the protocol needs. Others do not apply to them.
fn of_methods(
    policies: &[Policy],
) -> Result<HashMap<Box<str>, cedar_policy::PolicySet>, Box<cedar_policy::PolicySetError>> {
    let mut named: HashMap<Box<str>, Vec<&Policy>> = HashMap::new();
    for policy in policies {
        let actions = match policy.action_constraint() {
            ActionConstraint::Any => Vec::new(),
            ActionConstraint::Eq(action) => vec![action],
            ActionConstraint::In(actions) => actions,
        };
        let methods: HashSet<Box<str>> =
            actions.iter().map(|action| AsRef::<str>::as_ref(action.id()).into()).collect();
        for method in methods.into_iter().filter(|method| MethodDefault::of(method) == MethodDefault::Allowed) {
            named.entry(method).or_default().push(policy);
        }
    }
    named.into_iter().map(|(method, policies)| Ok((method, set_of(policies.into_iter())?))).collect()
}

/// Validates the policies without what depends on arguments, of which only the server says what they are. Returns what is doubtful.
fn validate(
    found: &[Statement<'_>],
    read: &[ReadPolicy],
    listed: &[Policy],
) -> Result<Vec<PolicyFault>, Vec<PolicyFault>> {
    let (mut faults, mut warnings) = (Vec::new(), Vec::new());
    for ((one, listed), statement) in read.iter().zip(listed).zip(found) {
        let Ok(set) = set_of(std::iter::once(listed)) else { continue };
        let result = BASE_VALIDATOR.validate(&set, ValidationMode::Strict);
        let mut found: Vec<PolicyFault> = result.validation_errors().map(|error| fault_of(error, statement)).collect();
        found.sort_by(|one, other| (one.line, &one.message).cmp(&(other.line, &other.message)));
        found.dedup();
        // What follows from a name that nothing has.
        if found.len() > 1 {
            found.retain(|fault| !fault.message.starts_with("unable to find an applicable action"));
        }
        let is_valid = found.is_empty();
        faults.extend(found);
        // Without its conditions on arguments a policy may be one that never applies, or always.
        if is_valid && !one.note.mentions_arguments {
            warnings.extend(result.validation_warnings().map(|warning| fault_of(warning, statement)));
        }
    }
    if faults.is_empty() { Ok(warnings) } else { Err(faults) }
}

/// A fault of a policy, at the line that it is about.
pub(super) fn fault_of(error: &(impl Diagnostic + ?Sized), statement: &Statement<'_>) -> PolicyFault {
    let offset = error.labels().and_then(|mut labels| labels.next()).map_or(0, |label| label.offset());
    let help = error.help().map(|help| format!(" ({help})")).unwrap_or_default();
    // The name that Cedar gives a policy is its place in the file, which the line says.
    let message = error.to_string();
    let message = match message.strip_prefix("for policy `").and_then(|rest| rest.split_once("`, ")) {
        Some((_, rest)) => rest.to_owned(),
        None => message,
    };
    // The same fault is there for each action that the policy is about.
    let message =
        match message.split_once(" for Action::\"").and_then(|(start, rest)| Some((start, rest.split_once('"')?.1))) {
            Some((start, rest)) => format!("{start}{rest}"),
            None => message,
        };
    PolicyFault { line: statement.line_at(offset), message: format!("{message}{help}") }
}
