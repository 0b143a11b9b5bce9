//! A caller as Cedar sees it, prepared once for all that is decided about its request.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use cedar_policy::{Context, Entity, EntityUid, RestrictedExpression};
use serde_json::Value;

use crate::policy::identity::{AgentIdentity, IdentityProof};
use crate::policy::tools::cedar::entities::{EntityKind, qualified};
use crate::policy::tools::cedar::prepared::Prepared;
use crate::policy::tools::cedar::principal::Principal;
use crate::policy::tools::cedar::verdict::CallerFacts;
use crate::policy::tools::hints::ToolHints;

/// The most tags and groups of one caller. What its claims have beyond is left out.
const CLAIMS_MAX: usize = 1_000;
/// How deep claims are followed.
const CLAIMS_DEPTH_MAX: usize = 4;
/// The claims whose values are groups.
const GROUP_CLAIMS: [&str; 2] = ["groups", "roles"];

/// How many combinations of annotations a tool can have, and that nothing is said of them.
const HINTS: usize = 17;

/// A caller as Cedar sees it.
#[derive(Clone)]
pub struct CedarCaller {
    pub(super) principal: Arc<Principal>,
    /// The parts of the context that do not depend on the request.
    context: Vec<(String, RestrictedExpression)>,
    /// The contexts of requests without arguments, by the annotations of their tools, once they are needed.
    contexts: [OnceLock<Option<Context>>; HINTS],
}

impl CedarCaller {
    /// A caller with these roles, with what the policies read of it. None if it cannot be told to Cedar, which no caller is known
    /// for.
    pub(super) fn new<'a>(
        facts: &CallerFacts<'_>,
        roles: impl Iterator<Item = &'a str> + Clone,
        rules: &Prepared,
    ) -> Option<CedarCaller> {
        let roles = roles.filter(|role| rules.roles.contains(*role));
        let make = || principal(facts.identity, roles.clone(), rules);
        let principal = rules.principals.of(facts.identity, roles.clone(), make)?;
        let contexts = [const { OnceLock::new() }; HINTS];
        Some(CedarCaller { principal, context: context(facts, rules), contexts })
    }

    /// The context of a request without arguments, of a tool with these annotations.
    pub(super) fn context(&self, hints: Option<ToolHints>, rules: &Prepared) -> Option<&Context> {
        let hints = hints.filter(|_| rules.uses_annotations);
        let bits = hints.map(|hints| {
            [hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint]
                .into_iter()
                .fold(0, |bits, is_so| bits << 1 | usize::from(is_so))
        });
        let kept = &self.contexts[bits.unwrap_or(HINTS - 1)];
        kept.get_or_init(|| self.context_with(hints, Vec::new(), rules)).as_ref()
    }

    /// The context of a request, with its arguments in `more`.
    pub(super) fn context_with(
        &self,
        hints: Option<ToolHints>,
        more: Vec<(String, RestrictedExpression)>,
        rules: &Prepared,
    ) -> Option<Context> {
        let mut all = self.context.clone();
        for name in ["arguments", "decimals"].into_iter().filter(|_| rules.uses_arguments) {
            if !more.iter().any(|(known, _)| known == name) {
                all.push((name.to_owned(), record([])));
            }
        }
        all.extend(more);
        if let Some(hints) = hints.filter(|_| rules.uses_annotations) {
            let annotations = [
                ("read_only", hints.read_only_hint),
                // This annotation is meaningful only if the tool modifies something.
                ("destructive", hints.destructive_hint && !hints.read_only_hint),
                ("idempotent", hints.idempotent_hint),
                ("open_world", hints.open_world_hint),
            ];
            let annotations = annotations.map(|(name, is_so)| (name.to_owned(), RestrictedExpression::new_bool(is_so)));
            all.push(("annotations".to_owned(), record(annotations)));
        }
        Context::from_pairs(all).ok()
    }
}

impl fmt::Debug for CedarCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CedarCaller").field("uid", &self.principal.uid).finish_non_exhaustive()
    }
}

/// The entity of a caller with this identity, with the tags and groups that the policies read.
fn principal<'a>(
    identity: Option<&AgentIdentity>,
    roles: impl Iterator<Item = &'a str> + Clone,
    rules: &Prepared,
) -> Option<Principal> {
    let mut parents: Vec<EntityUid> = roles.clone().map(|role| EntityKind::Role.uid(role)).collect();
    let mut tags = BTreeMap::new();
    let has_claims = |identity: &&AgentIdentity| identity.proof != IdentityProof::Key;
    if let Some(identity) = identity.filter(has_claims).filter(|_| rules.uses_tags || rules.uses_groups) {
        flatten(&identity.claims, "", 0, &mut tags);
        let groups = GROUP_CLAIMS.iter().filter_map(|claim| tags.get(*claim)).flatten();
        parents.extend(groups.map(|group| EntityKind::Group.uid(&qualified(identity.issuer.as_deref(), group))));
    }
    let parts = parents.len() + if rules.uses_tags { tags.values().map(Vec::len).sum() } else { 0 };
    let tags = tags.into_iter().filter(|_| rules.uses_tags).map(|(name, values)| (name, set(values.iter())));
    let entity = Entity::new_with_tags(uid_of(identity), attributes(identity), parents, tags).ok()?;
    Some(Principal::new(entity, parts, identity, roles))
}

fn uid_of(identity: Option<&AgentIdentity>) -> EntityUid {
    let Some(identity) = identity else { return EntityKind::Anonymous.uid("") };
    match identity.proof {
        IdentityProof::Key => EntityKind::Key.uid(&identity.subject),
        IdentityProof::Certificate => EntityKind::Certificate.uid(&identity.subject),
        IdentityProof::Jwt | IdentityProof::Introspection | IdentityProof::Forwarded => {
            EntityKind::User.uid(&qualified(identity.issuer.as_deref(), &identity.subject))
        }
    }
}

fn attributes(identity: Option<&AgentIdentity>) -> Vec<(String, RestrictedExpression)> {
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    let Some(identity) = identity else {
        let none = [("proof", text("none")), ("subject", text("")), ("scopes", RestrictedExpression::new_set([]))];
        return none.map(|(name, value)| (name.to_owned(), value)).into();
    };
    let mut all = vec![
        ("proof".to_owned(), text(identity.proof.name())),
        ("subject".to_owned(), text(&identity.subject)),
        ("scopes".to_owned(), set(identity.scopes.iter())),
    ];
    all.extend(identity.issuer.as_deref().map(|issuer| ("issuer".to_owned(), text(issuer))));
    all.extend(identity.client.as_deref().map(|client| ("client".to_owned(), text(client))));
    all
}

fn set<T: AsRef<str>>(texts: impl Iterator<Item = T>) -> RestrictedExpression {
    RestrictedExpression::new_set(texts.map(|text| RestrictedExpression::new_string(text.as_ref().to_owned())))
}

/// The claims by name, each with its values as texts. A claim within another has both names, with a dot between them.
fn flatten(
    claims: &serde_json::Map<String, Value>,
    within: &str,
    depth: usize,
    tags: &mut BTreeMap<String, Vec<String>>,
) {
    let of = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    };
    for (name, value) in claims {
        let values: Vec<String> = match value {
            Value::Array(values) => values.iter().filter_map(of).take(CLAIMS_MAX).collect(),
            value => of(value).into_iter().collect(),
        };
        let is_list = value.is_array() && !values.is_empty();
        if (is_list || !(value.is_object() || value.is_array() || value.is_null())) && tags.len() < CLAIMS_MAX {
            tags.insert(format!("{within}{name}"), values);
        }
    }
    for (name, value) in claims {
        if let Value::Object(inner) = value
            && depth < CLAIMS_DEPTH_MAX
        {
            let mut more = BTreeMap::new();
            flatten(inner, &format!("{within}{name}."), depth + 1, &mut more);
            // A claim whose own name has the dot goes first.
            for (name, values) in more {
                if tags.len() < CLAIMS_MAX {
                    tags.entry(name).or_insert(values);
                }
            }
        }
    }
}

/// The time and the network of a request, as far as policies read them.
fn context(facts: &CallerFacts<'_>, rules: &Prepared) -> Vec<(String, RestrictedExpression)> {
    const DAY_S: u64 = 86_400;
    let seconds = facts.unix.as_secs();
    let long = |value: u64| RestrictedExpression::new_long(i64::try_from(value).unwrap_or(i64::MAX));
    // 1970 began on a Thursday, the fourth day of a week.
    let time = [
        ("seconds", long(seconds)),
        ("hour", long(seconds % DAY_S / 3_600)),
        ("weekday", long((seconds / DAY_S + 3) % 7 + 1)),
    ];
    let time =
        time.into_iter().filter(|(name, _)| rules.time.reads(name)).map(|(name, value)| (name.to_owned(), value));
    let network = || {
        let address = facts.address.map(|address| address.to_canonical().to_string());
        record(address.map(|address| ("address".to_owned(), RestrictedExpression::new_ip(address))))
    };
    let time = rules.uses_time.then(|| ("time".to_owned(), record(time)));
    time.into_iter().chain(rules.uses_network.then(|| ("network".to_owned(), network()))).collect()
}

/// A record of members with different names.
pub(super) fn record(members: impl IntoIterator<Item = (String, RestrictedExpression)>) -> RestrictedExpression {
    RestrictedExpression::new_record(members).unwrap_or_else(|_| RestrictedExpression::new_set([]))
}
