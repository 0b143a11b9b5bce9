//! The entities that Cedar is told of: the caller, and what it asks about.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Entities, Entity, EntityUid, RestrictedExpression};

use crate::policy::tools::cedar::caller::CedarCaller;
use crate::policy::tools::cedar::entities::EntityKind;

/// A caller and what its questions are about, prepared together: what Cedar computes of entities it computes once for all.
#[derive(Debug)]
pub(in crate::policy::tools) struct KnownEntities(Entities);

impl KnownEntities {
    /// The caller with all that is named, each with its kind. None if Cedar cannot be told of one.
    pub(super) fn new<'a>(
        caller: &CedarCaller,
        named: impl IntoIterator<Item = (EntityKind, &'a str)>,
        place: &str,
    ) -> Option<KnownEntities> {
        let (route, mut seen) = (EntityKind::Route.uid(place), HashSet::new());
        let mut all = vec![caller.entity.clone()];
        for (kind, name) in named {
            if seen.insert((kind.name(), name)) {
                all.push(entity(kind, name, &route)?);
            }
        }
        Entities::from_entities(all, None).ok().map(KnownEntities)
    }

    /// The caller with a route that is asked about itself.
    pub(super) fn of_route(caller: &CedarCaller, place: &str) -> Option<KnownEntities> {
        let route = Entity::with_uid(EntityKind::Route.uid(place));
        Entities::from_entities([caller.entity.clone(), route], None).ok().map(KnownEntities)
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
