//! What is prepared of a Cedar file when it is read.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use cedar_policy::{Authorizer, Effect, PolicySet};

use crate::policy::tools::cedar::argument_values::ReadArguments;
use crate::policy::tools::cedar::expression::MembersRead;
use crate::policy::tools::cedar::policy_index::PolicyIndex;
use crate::policy::tools::cedar::principal::Principals;
use crate::policy::tools::cedar::replay_policies::ReplayPolicies;
use crate::policy::tools::file_reader::PolicyFault;
use crate::policy::tools::pattern::Patterns;

/// What is prepared of a file when it is read.
pub(super) struct Prepared {
    pub(super) source: Box<str>,
    pub(super) policies: Vec<PolicyNote>,
    pub(super) authorizer: Authorizer,
    pub(super) exact: PolicyIndex,
    /// The policies without what depends on arguments.
    pub(super) listed: PolicyIndex,
    /// The policies without what depends on arguments or on the resource.
    pub(super) templates: PolicySet,
    /// The policies that name a method which the protocol needs.
    pub(super) methods: HashMap<Box<str>, PolicySet>,
    /// The callers, while they make requests.
    pub(super) principals: Principals,
    /// The roles that policies name.
    pub(super) roles: HashSet<Box<str>>,
    /// What the policies read of arguments.
    pub(super) reads: ReadArguments,
    /// What they read of the time.
    pub(super) time: MembersRead,
    pub(super) uses_arguments: bool,
    pub(super) uses_decimals: bool,
    pub(super) uses_annotations: bool,
    pub(super) uses_time: bool,
    pub(super) uses_network: bool,
    /// Whether any policy reads the tags of the caller.
    pub(super) uses_tags: bool,
    /// Whether any policy names a group.
    pub(super) uses_groups: bool,
    pub(super) has_permit: bool,
    /// The policies for recorded calls, of callers without and with claims, once they are asked for.
    pub(super) replayed: [OnceLock<Option<ReplayPolicies>>; 2],
    /// What `adit policy check` tells besides.
    pub(super) warnings: Vec<PolicyFault>,
}

/// One policy of the file.
pub(super) struct PolicyNote {
    pub(super) name: Arc<str>,
    pub(super) line: usize,
    pub(super) effect: Effect,
    /// The scope that its callers may ask for.
    pub(super) scope: Option<Arc<str>>,
    pub(super) mentions_arguments: bool,
    /// The resource that its scope names.
    pub(super) resource: Option<Patterns>,
    pub(super) names_group: bool,
    /// The roles that it names.
    pub(super) roles: Vec<Box<str>>,
}
