//! A caller as Cedar sees it, prepared once for all that is decided about its request.

use std::collections::BTreeMap;
use std::fmt;

use cedar_policy::{Entity, EntityUid, RestrictedExpression};
use serde_json::Value;

use crate::policy::identity::{AgentIdentity, IdentityProof};
use crate::policy::tools::cedar::entities::{EntityKind, qualified};
use crate::policy::tools::cedar::verdict::CallerFacts;

/// The most tags and groups of one caller. What its claims have beyond is left out.
const CLAIMS_MAX: usize = 1_000;
/// How deep claims are followed.
const CLAIMS_DEPTH_MAX: usize = 4;
/// The claims whose values are groups.
const GROUP_CLAIMS: [&str; 2] = ["groups", "roles"];

/// A caller as Cedar sees it.
#[derive(Clone)]
pub struct CedarCaller {
    pub(super) uid: EntityUid,
    pub(super) entity: Entity,
    /// The parts of the context that do not depend on the request.
    pub(super) context: Vec<(String, RestrictedExpression)>,
}

impl CedarCaller {
    /// A caller with these roles. None if it cannot be told to Cedar, which no caller is known for.
    pub(super) fn new<'a>(facts: &CallerFacts<'_>, roles: impl Iterator<Item = &'a str>) -> Option<CedarCaller> {
        let uid = uid_of(facts.identity);
        let mut parents: Vec<EntityUid> = roles.map(|role| EntityKind::Role.uid(role)).collect();
        let mut tags = BTreeMap::new();
        if let Some(identity) = facts.identity.filter(|identity| identity.proof != IdentityProof::Key) {
            flatten(&identity.claims, "", 0, &mut tags);
            let groups = GROUP_CLAIMS.iter().filter_map(|claim| tags.get(*claim)).flatten();
            parents.extend(groups.map(|group| EntityKind::Group.uid(&qualified(identity.issuer.as_deref(), group))));
        }
        let tags = tags.into_iter().map(|(name, values)| (name, set(values.iter())));
        let entity = Entity::new_with_tags(uid.clone(), attributes(facts.identity), parents, tags).ok()?;
        Some(CedarCaller { uid, entity, context: context(facts) })
    }
}

impl fmt::Debug for CedarCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CedarCaller").field("uid", &self.uid).finish_non_exhaustive()
    }
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

/// The time and the network of a request.
fn context(facts: &CallerFacts<'_>) -> Vec<(String, RestrictedExpression)> {
    const DAY_S: u64 = 86_400;
    let seconds = facts.unix.as_secs();
    let long = |value: u64| RestrictedExpression::new_long(i64::try_from(value).unwrap_or(i64::MAX));
    // 1970 began on a Thursday, the fourth day of a week.
    let time = [
        ("seconds", long(seconds)),
        ("hour", long(seconds % DAY_S / 3_600)),
        ("weekday", long((seconds / DAY_S + 3) % 7 + 1)),
    ];
    let address = facts.address.map(|address| address.to_canonical().to_string());
    let network = address.map(|address| ("address".to_owned(), RestrictedExpression::new_ip(address)));
    let time = time.map(|(name, value)| (name.to_owned(), value));
    let records = [("time", record(time)), ("network", record(network))];
    records.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A record of members with different names.
pub(super) fn record(members: impl IntoIterator<Item = (String, RestrictedExpression)>) -> RestrictedExpression {
    RestrictedExpression::new_record(members).unwrap_or_else(|_| RestrictedExpression::new_set([]))
}
