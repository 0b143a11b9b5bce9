//! The entities that Cedar is told of: the caller, and what it asks about.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Entities, Entity, EntityUid, RestrictedExpression};

use crate::policy::tools::cedar::entities::EntityKind;

/// A caller and what its questions are about, prepared together: what Cedar computes of entities it computes once for all.
#[derive(Debug)]
pub(in crate::policy::tools) struct KnownEntities(Entities);

impl KnownEntities {
    /// The caller with all that is named, each with its kind, at the route `place`. None if Cedar cannot be told of one.
    pub(super) fn new<'a>(
        caller: &Entity,
        named: impl IntoIterator<Item = (EntityKind, &'a str)>,
        place: &str,
    ) -> Option<KnownEntities> {
        let (route, mut seen) = (EntityKind::Route.uid(place), HashSet::new());
        let mut all = vec![caller.clone()];
        for (kind, name) in named {
            if seen.insert((kind.name(), name)) {
                let is_route = kind == EntityKind::Route;
                all.push(if is_route { Entity::with_uid(kind.uid(name)) } else { entity(kind, name, &route)? });
            }
        }
        Entities::from_entities(all, None).ok().map(KnownEntities)
    }

    pub(super) fn has(&self, uid: &EntityUid) -> bool {
        self.0.get(uid).is_some()
    }

    pub(super) fn entities(&self) -> &Entities {
        &self.0
    }
}

/// A tool, prompt or resource of a route.
fn entity(kind: EntityKind, name: &str, route: &EntityUid) -> Option<Entity> {
    let attribute = if kind == EntityKind::Resource { "uri" } else { "name" };
    let attributes = [(attribute.to_owned(), RestrictedExpression::new_string(name.to_owned()))];
    let parents = HashSet::from([route.clone()]);
    Entity::new(kind.uid(name), HashMap::from(attributes), parents).ok()
}
