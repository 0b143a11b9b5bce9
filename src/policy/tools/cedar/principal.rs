//! Callers as entities of Cedar. They are kept over their requests, with what those ask about: what Cedar computes of entities it
//! computes once.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cedar_policy::{Entity, EntityUid};

use crate::policy::identity::AgentIdentity;
use crate::policy::tools::cedar::entities::EntityKind;
use crate::policy::tools::cedar::known_entities::KnownEntities;

/// The most callers that are kept for a file of policies.
const KEPT_MAX: usize = 128;
/// The most questions of one caller whose entities are kept.
const QUESTIONS_MAX: usize = 16;
/// The longest name or URI of such a question, in bytes.
const NAME_LEN_MAX: usize = 256;
/// The most tags and parents of a caller that is kept: each question has a copy of them.
const PARTS_MAX: usize = 64;

/// The entity of a caller.
pub(super) struct Principal {
    pub(super) uid: EntityUid,
    pub(super) entity: Entity,
    identity: Option<AgentIdentity>,
    roles: Vec<Box<str>>,
    is_kept: bool,
    questions: Mutex<Vec<Question>>,
}

/// The entities of a question about one thing.
struct Question {
    kind: EntityKind,
    name: Box<str>,
    place: Box<str>,
    entities: Arc<KnownEntities>,
}

/// The callers that are kept.
#[derive(Default)]
pub(super) struct Principals {
    hashes: RandomState,
    kept: Mutex<HashMap<u64, Arc<Principal>>>,
}

impl Principal {
    /// The entity of a caller with this identity and these roles, which has so many tags and parents.
    pub(super) fn new<'r>(
        entity: Entity,
        parts: usize,
        identity: Option<&AgentIdentity>,
        roles: impl Iterator<Item = &'r str>,
    ) -> Principal {
        Principal {
            uid: entity.uid(),
            entity,
            identity: identity.cloned(),
            roles: roles.map(Into::into).collect(),
            is_kept: parts <= PARTS_MAX,
            questions: Mutex::default(),
        }
    }

    /// The caller with what it asks about. None if Cedar cannot be told of that.
    pub(super) fn asking(&self, kind: EntityKind, name: &str, place: &str) -> Option<Arc<KnownEntities>> {
        let is_it =
            |question: &&Question| question.kind == kind && *question.name == *name && *question.place == *place;
        if let Some(question) = lock(&self.questions).iter().find(is_it) {
            return Some(Arc::clone(&question.entities));
        }
        let entities = Arc::new(KnownEntities::new(&self.entity, [(kind, name)], place)?);
        if self.is_kept && name.len() <= NAME_LEN_MAX {
            let question = Question { kind, name: name.into(), place: place.into(), entities: Arc::clone(&entities) };
            let mut questions = lock(&self.questions);
            if questions.len() == QUESTIONS_MAX {
                questions.remove(0);
            }
            questions.push(question);
        }
        Some(entities)
    }
}

impl Principals {
    /// The caller with this identity and these roles, made by `make` if it is not kept.
    pub(super) fn of<'r>(
        &self,
        identity: Option<&AgentIdentity>,
        roles: impl Iterator<Item = &'r str> + Clone,
        make: impl FnOnce() -> Option<Principal>,
    ) -> Option<Arc<Principal>> {
        let mut hasher = self.hashes.build_hasher();
        identity.map(|identity| (identity.proof, &identity.issuer, &identity.subject)).hash(&mut hasher);
        roles.clone().for_each(|role| role.hash(&mut hasher));
        let hash = hasher.finish();
        let is_same = |kept: &&Arc<Principal>| {
            kept.identity.as_ref() == identity && kept.roles.iter().map(|role| &**role).eq(roles.clone())
        };
        if let Some(kept) = lock(&self.kept).get(&hash).filter(is_same) {
            return Some(Arc::clone(kept));
        }
        let made = Arc::new(make()?);
        if made.is_kept {
            let mut kept = lock(&self.kept);
            if kept.len() >= KEPT_MAX {
                kept.clear();
            }
            kept.insert(hash, Arc::clone(&made));
        }
        Some(made)
    }
}

/// What a panic left behind is still right: it is changed by single steps only.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
