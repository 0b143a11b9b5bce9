//! The entities that policies can name.

use std::sync::LazyLock;

use cedar_policy::{EntityId, EntityTypeName, EntityUid};

/// The kinds of entities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntityKind {
    /// A caller with a token: `ISSUER|SUBJECT`.
    User,
    /// A caller with a static key, by the name of the key.
    Key,
    /// A caller with a client certificate.
    Certificate,
    /// A caller who has proven nothing.
    Anonymous,
    /// A role of the lists.
    Role,
    /// A group of an issuer: `ISSUER|GROUP`.
    Group,
    Tool,
    Prompt,
    Resource,
    /// A route, by its host. The resource of requests that name nothing.
    Route,
    /// A method of MCP.
    Action,
    /// A JSON value that Cedar has no type for, as it is written.
    Json,
}

static NAMES: LazyLock<[EntityTypeName; EntityKind::ALL.len()]> =
    LazyLock::new(|| EntityKind::ALL.map(|kind| kind.name().parse().expect("each name is one of Cedar")));

impl EntityKind {
    /// All kinds, in the order of the declaration.
    const ALL: [EntityKind; 12] = [
        EntityKind::User,
        EntityKind::Key,
        EntityKind::Certificate,
        EntityKind::Anonymous,
        EntityKind::Role,
        EntityKind::Group,
        EntityKind::Tool,
        EntityKind::Prompt,
        EntityKind::Resource,
        EntityKind::Route,
        EntityKind::Action,
        EntityKind::Json,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            EntityKind::User => "User",
            EntityKind::Key => "Key",
            EntityKind::Certificate => "Certificate",
            EntityKind::Anonymous => "Anonymous",
            EntityKind::Role => "Role",
            EntityKind::Group => "Group",
            EntityKind::Tool => "Tool",
            EntityKind::Prompt => "Prompt",
            EntityKind::Resource => "Resource",
            EntityKind::Route => "Route",
            EntityKind::Action => "Action",
            EntityKind::Json => "Json",
        }
    }

    /// The entity of this kind with an id, which may be any text.
    pub(super) fn uid(self, id: &str) -> EntityUid {
        EntityUid::from_type_name_and_id(NAMES[self as usize].clone(), EntityId::new(id))
    }

    /// Whether this is the name of the kind.
    pub(super) fn is_named(self, name: &EntityTypeName) -> bool {
        *name == NAMES[self as usize]
    }

    /// Whether an entity is of this kind.
    pub(super) fn is_of(self, uid: &EntityUid) -> bool {
        *uid.type_name() == NAMES[self as usize]
    }
}

/// A name that is unique only with its issuer. An issuer is a URI, in which a bar must be escaped.
pub(super) fn qualified(issuer: Option<&str>, name: &str) -> String {
    format!("{}|{name}", issuer.unwrap_or_default().replace('|', "%7C"))
}
