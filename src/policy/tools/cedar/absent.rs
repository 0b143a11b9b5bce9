//! A build without the feature `cedar`: rules in Cedar cannot exist, and a file of them is refused.

use std::collections::BTreeSet;

use crate::policy::tools::cedar::verdict::{CallerFacts, CedarQuestion, CedarVerdict};
use crate::policy::tools::decision::{Asked, Target};
use crate::policy::tools::file_reader::PolicyFault;
use crate::policy::tools::json_text::Unreadable;
use crate::policy::tools::replay_unknown::ReplayUnknown;

const ABSENT: &str =
    "this build of adit has no Cedar: use one that was built with `cargo build --release --features cedar`";

/// Why this build reads no Cedar files.
pub const CEDAR_ABSENT: Option<&str> = Some(ABSENT);

/// The policies of a Cedar file. This build has none.
#[derive(Clone, Debug)]
pub enum AbsentRules {}

/// A caller as Cedar sees it. This build has none.
#[derive(Clone, Debug)]
pub enum AbsentCaller {}

/// What was prepared for a list. This build has nothing.
#[derive(Debug)]
pub(in crate::policy::tools) enum AbsentEntities {}

/// The schema of Cedar policies, which this build cannot make.
///
/// # Errors
///
/// Always.
pub fn cedar_schema(_: &[serde_json::Value]) -> Result<String, String> {
    Err(ABSENT.to_owned())
}

impl AbsentRules {
    /// Refuses a Cedar file.
    ///
    /// # Errors
    ///
    /// Always.
    pub fn parse(_: &str) -> Result<AbsentRules, Vec<PolicyFault>> {
        Err(vec![PolicyFault { line: 1, message: ABSENT.to_owned() }])
    }

    /// All faults that the policies have with these tools.
    ///
    /// # Errors
    ///
    /// If no schema can be made of the tools.
    pub fn validate(&self, _: &[serde_json::Value]) -> Result<Vec<PolicyFault>, String> {
        match *self {}
    }

    pub(in crate::policy::tools) fn source(&self) -> &str {
        match *self {}
    }

    pub(in crate::policy::tools) fn uses_annotations(&self) -> bool {
        match *self {}
    }

    pub(in crate::policy::tools) fn uses_time(&self) -> bool {
        match *self {}
    }

    pub(in crate::policy::tools) fn needs_arguments(&self, _: &Asked<'_>) -> bool {
        match *self {}
    }

    pub(in crate::policy::tools) fn rule_name(&self, _: u16) -> Option<&str> {
        match *self {}
    }

    pub(in crate::policy::tools) fn named(&self) -> impl Iterator<Item = (&str, usize)> {
        std::iter::empty()
    }

    pub(in crate::policy::tools) fn roles(&self) -> impl Iterator<Item = (&str, usize)> {
        std::iter::empty()
    }

    pub(in crate::policy::tools) fn warnings(&self) -> &[PolicyFault] {
        match *self {}
    }

    pub(in crate::policy::tools) fn caller<'a>(
        &self,
        _: &CallerFacts<'_>,
        _: impl Iterator<Item = &'a str>,
    ) -> Option<AbsentCaller> {
        match *self {}
    }

    pub(in crate::policy::tools) fn decide(
        &self,
        _: &AbsentCaller,
        _: &CedarQuestion<'_>,
        _: &[u8],
    ) -> Result<CedarVerdict, Unreadable> {
        match *self {}
    }

    pub(in crate::policy::tools) fn replay(
        &self,
        _: &AbsentCaller,
        _: &CedarQuestion<'_>,
        _: bool,
    ) -> (Vec<CedarVerdict>, BTreeSet<ReplayUnknown>) {
        match *self {}
    }

    pub(in crate::policy::tools) fn prepare_list<'a>(
        &self,
        _: &AbsentCaller,
        _: impl Iterator<Item = Target<'a>>,
        _: &str,
    ) -> Option<AbsentEntities> {
        match *self {}
    }

    pub(in crate::policy::tools) fn decide_listed(
        &self,
        _: &AbsentCaller,
        _: &CedarQuestion<'_>,
        _: Option<&AbsentEntities>,
    ) -> CedarVerdict {
        match *self {}
    }
}
