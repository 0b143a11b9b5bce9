//! The policies of a Cedar file, prepared once, and what they say of a request.

use std::borrow::Cow;
use std::fmt;
use std::iter;
use std::sync::Arc;

use cedar_policy::{Context, Decision, Effect, EntityUid, PolicySet, Request, RestrictedExpression};

use crate::policy::tools::cedar::argument_values::ArgumentValues;
use crate::policy::tools::cedar::caller::{CedarCaller, record};
use crate::policy::tools::cedar::entities::EntityKind;
use crate::policy::tools::cedar::known_entities::KnownEntities;
use crate::policy::tools::cedar::policy_index::PolicyIndex;
use crate::policy::tools::cedar::prepared::Prepared;
use crate::policy::tools::cedar::reader::read;
use crate::policy::tools::cedar::verdict::{CallerFacts, CedarQuestion, CedarVerdict};
use crate::policy::tools::decision::{Asked, RuleId, Target};
use crate::policy::tools::file_reader::PolicyFault;
use crate::policy::tools::json_text::Unreadable;
use crate::policy::tools::method_default::MethodDefault;
use crate::policy::tools::uri::{lower, normal, pattern_of, shorter};

/// The index of the first policy of a Cedar file among the rules. No file of lists has so many.
pub(super) const RULE_FIRST: u16 = 0x8000;

/// The policies of a Cedar file.
#[derive(Clone)]
pub struct CedarRules(pub(super) Arc<Prepared>);

/// What is asked of Cedar itself.
struct Ask<'a> {
    caller: &'a CedarCaller,
    action: &'a str,
    resource: EntityUid,
    context: &'a Context,
    entities: &'a KnownEntities,
}

/// What Cedar answers.
struct Answer {
    is_permitted: bool,
    /// The policies that decided, by their index.
    by: Vec<usize>,
    errors: Vec<(usize, Arc<str>)>,
}

impl CedarRules {
    /// Reads a Cedar file.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, by line.
    pub fn parse(text: &str) -> Result<CedarRules, Vec<PolicyFault>> {
        read(text).map(|prepared| CedarRules(Arc::new(prepared)))
    }

    /// The text of the file.
    pub(in crate::policy::tools) fn source(&self) -> &str {
        &self.0.source
    }

    /// Whether any policy depends on the annotations of tools.
    pub(in crate::policy::tools) fn uses_annotations(&self) -> bool {
        self.0.uses_annotations
    }

    /// Whether any policy depends on the time.
    pub(in crate::policy::tools) fn uses_time(&self) -> bool {
        self.0.uses_time
    }

    /// Whether the decision about a request depends on its arguments.
    pub(in crate::policy::tools) fn needs_arguments(&self, asked: &Asked<'_>) -> bool {
        self.0.uses_arguments && asked.has_arguments()
    }

    /// The name of the policy with this index among the rules.
    pub(in crate::policy::tools) fn rule_name(&self, index: u16) -> Option<&str> {
        Some(&self.0.policies.get(usize::from(index.checked_sub(RULE_FIRST)?))?.name)
    }

    /// The names and lines of the policies.
    pub(in crate::policy::tools) fn named(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.policies.iter().map(|policy| (&*policy.name, policy.line))
    }

    /// The roles that policies name, each with the line of its policy.
    pub(in crate::policy::tools) fn roles(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.policies.iter().flat_map(|policy| policy.roles.iter().map(|role| (&**role, policy.line)))
    }

    /// What is doubtful in the file.
    pub(in crate::policy::tools) fn warnings(&self) -> &[PolicyFault] {
        &self.0.warnings
    }

    /// A caller with these roles, as Cedar sees it.
    pub(in crate::policy::tools) fn caller<'a>(
        &self,
        facts: &CallerFacts<'_>,
        roles: impl Iterator<Item = &'a str> + Clone,
    ) -> Option<CedarCaller> {
        CedarCaller::new(facts, roles, &self.0)
    }

    /// Prepares questions of one caller about these targets, for [`decide_listed`](CedarRules::decide_listed). None if that is not
    /// possible: each is then prepared by itself.
    pub(in crate::policy::tools) fn prepare_list<'a>(
        &self,
        caller: &CedarCaller,
        targets: impl Iterator<Item = Target<'a>>,
        place: &str,
    ) -> Option<KnownEntities> {
        let named = targets.filter_map(|target| match target {
            Target::Tool(name) => Some((EntityKind::Tool, name)),
            Target::Prompt(name) => Some((EntityKind::Prompt, name)),
            _ => None,
        });
        KnownEntities::new(&caller.principal.entity, named, place)
    }

    /// The decision about a request. `message` is the complete message, if the decision [needs](CedarRules::needs_arguments) it.
    ///
    /// # Errors
    ///
    /// If servers may read the arguments in different ways.
    pub(in crate::policy::tools) fn decide(
        &self,
        caller: &CedarCaller,
        question: &CedarQuestion<'_>,
        message: &[u8],
    ) -> Result<CedarVerdict, Unreadable> {
        let Prepared { exact, reads, uses_decimals, .. } = &*self.0;
        let asked = &question.asked;
        if asked.method == "completion/complete" && asked.target != Target::Nothing {
            return Ok(self.decide_listed(caller, question, None));
        }
        let mut more = Vec::new();
        if self.needs_arguments(asked) {
            let ArgumentValues { arguments, decimals } = ArgumentValues::of_message(message, reads)?;
            more.push(("arguments".to_owned(), record(arguments)));
            if *uses_decimals {
                more.push(("decimals".to_owned(), record(decimals)));
            }
        }
        Ok(self.decide_with(caller, question, more, (exact, None), &|_| false))
    }

    /// The decision about whether a request could be allowed with some arguments. `known` is what was prepared for a list.
    pub(in crate::policy::tools) fn decide_listed(
        &self,
        caller: &CedarCaller,
        question: &CedarQuestion<'_>,
        known: Option<&KnownEntities>,
    ) -> CedarVerdict {
        let Prepared { listed, policies, .. } = &*self.0;
        if let Target::Template(template) = question.asked.target {
            return self.decide_template(caller, question, template);
        }
        // What such a policy cannot evaluate it may not come to with other arguments.
        let is_uncertain = |policy: usize| policies[policy].mentions_arguments;
        self.decide_with(caller, question, Vec::new(), (listed, known), &is_uncertain)
    }

    pub(super) fn decide_with(
        &self,
        caller: &CedarCaller,
        question: &CedarQuestion<'_>,
        more: Vec<(String, RestrictedExpression)>,
        (index, known): (&PolicyIndex, Option<&KnownEntities>),
        is_uncertain: &dyn Fn(usize) -> bool,
    ) -> CedarVerdict {
        let Asked { method, target } = question.asked;
        let default = MethodDefault::of(method);
        let context = if more.is_empty() {
            caller.context(question.hints, &self.0).map(Cow::Borrowed)
        } else {
            caller.context_with(question.hints, more, &self.0).map(Cow::Owned)
        };
        let Some(context) = context else { return self.failed("its context") };
        let ask = |resource: EntityUid, set: &PolicySet, entities: &KnownEntities| {
            self.ask(&Ask { caller, action: action_of(method, target), resource, context: &context, entities }, set)
        };
        let named = |kind: EntityKind, name: &str| {
            let uid = kind.uid(name);
            let set = index.of(&uid);
            match known.filter(|known| known.has(&uid)) {
                Some(known) => Some(ask(uid, set, known)),
                None => caller.principal.asking(kind, name, question.place).map(|own| ask(uid, set, &own)),
            }
        };
        let answer = match target {
            Target::Tool(name) => named(EntityKind::Tool, name),
            Target::Prompt(name) => named(EntityKind::Prompt, name),
            Target::Resource(uri) => return self.decide_resource(uri, &named, is_uncertain),
            Target::Template(_) => None,
            Target::Nothing => {
                let route = EntityKind::Route.uid(question.place);
                let set = match default {
                    MethodDefault::Allowed => match self.0.methods.get(method) {
                        Some(set) => set,
                        None => return CedarVerdict::Permitted(None),
                    },
                    _ => index.of(&route),
                };
                let known = caller.principal.asking(EntityKind::Route, question.place, question.place);
                known.map(|own| ask(route.clone(), set, &own))
            }
        };
        let Some(answer) = answer else { return self.failed("its resource") };
        let needs_permit = match (default, target) {
            (MethodDefault::Allowed, _) => false,
            // What reaches things without naming them is permitted by name or not at all.
            (MethodDefault::Indirect | MethodDefault::ByTarget, Target::Nothing) => true,
            _ => self.0.has_permit,
        };
        self.verdict(answer, needs_permit, is_uncertain)
    }

    /// A server may read a URI as a shorter one, or without regard to case: what is forbidden then is forbidden.
    fn decide_resource(
        &self,
        uri: &str,
        named: &dyn Fn(EntityKind, &str) -> Option<Answer>,
        is_uncertain: &dyn Fn(usize) -> bool,
    ) -> CedarVerdict {
        let Ok(uri) = normal(uri) else { return CedarVerdict::NotPermitted };
        let ask = |uri: &str| match named(EntityKind::Resource, uri) {
            Some(answer) => self.verdict(answer, self.0.has_permit, is_uncertain),
            None => self.failed("its resource"),
        };
        let low = lower(&uri);
        let others = iter::once(&*low).filter(|low| **low != *uri).chain(shorter(&low));
        let denied = others
            .map(ask)
            .find(|verdict| matches!(verdict, CedarVerdict::Forbidden { .. } | CedarVerdict::Failed { .. }));
        denied.unwrap_or_else(|| ask(&uri))
    }

    fn decide_template(&self, caller: &CedarCaller, question: &CedarQuestion<'_>, template: &str) -> CedarVerdict {
        let Prepared { templates, policies, has_permit, .. } = &*self.0;
        let Ok(pattern) = pattern_of(template) else { return CedarVerdict::NotPermitted };
        let entities = caller.principal.asking(EntityKind::Resource, &pattern, question.place);
        let context = caller.context(None, &self.0);
        let (Some(entities), Some(context)) = (entities, context) else { return self.failed("its resource") };
        let resource = EntityKind::Resource.uid(&pattern);
        let ask = Ask { caller, action: "resources/read", resource, context, entities: &entities };
        let mut answer = self.ask(&ask, templates);
        if answer.is_permitted {
            // A policy that names one resource permits only templates that can expand to it.
            answer
                .by
                .retain(|policy| policies[*policy].resource.as_ref().is_none_or(|resource| resource.overlap(&pattern)));
            answer.is_permitted = !answer.by.is_empty();
        }
        self.verdict(answer, *has_permit, &|_| true)
    }

    fn ask(&self, ask: &Ask<'_>, policies: &PolicySet) -> Answer {
        let action = EntityKind::Action.uid(ask.action);
        let failed = |why: String| Answer { is_permitted: false, by: Vec::new(), errors: vec![(0, why.into())] };
        let principal = ask.caller.principal.uid.clone();
        let request = Request::new(principal, action, ask.resource.clone(), ask.context.clone(), None);
        let request = match request {
            Ok(request) => request,
            Err(error) => return failed(error.to_string()),
        };
        let response = self.0.authorizer.is_authorized(&request, policies, ask.entities.entities());
        let index = |id: &cedar_policy::PolicyId| AsRef::<str>::as_ref(id).parse().unwrap_or_default();
        let mut by: Vec<usize> = response.diagnostics().reason().map(index).collect();
        by.sort_unstable();
        let errors = response.diagnostics().errors().map(|error| match error {
            cedar_policy::AuthorizationError::PolicyEvaluationError(error) => {
                (index(error.policy_id()), error.inner().to_string().into())
            }
        });
        let mut errors: Vec<(usize, Arc<str>)> = errors.collect();
        errors.sort_unstable();
        Answer { is_permitted: response.decision() == Decision::Allow, by, errors }
    }

    fn verdict(&self, answer: Answer, needs_permit: bool, is_uncertain: &dyn Fn(usize) -> bool) -> CedarVerdict {
        let Answer { is_permitted, by, errors } = answer;
        let first = by.first().copied();
        if let Some(policy) = first.filter(|_| !is_permitted) {
            return CedarVerdict::Forbidden { rule: self.rule(policy), scope: self.0.policies[policy].scope.clone() };
        }
        if let Some((policy, why)) = errors.iter().find(|(policy, _)| !is_uncertain(*policy)) {
            return CedarVerdict::Failed { rule: self.rule(*policy), why: Arc::clone(why) };
        }
        let is_permit = |(policy, _): &&(usize, Arc<str>)| self.0.policies[*policy].effect == Effect::Permit;
        let uncertain = errors.iter().find(is_permit).map(|(policy, _)| *policy);
        match first.or(uncertain) {
            Some(policy) => CedarVerdict::Permitted(Some(self.rule(policy))),
            None if needs_permit => CedarVerdict::NotPermitted,
            None => CedarVerdict::Permitted(None),
        }
    }

    fn rule(&self, policy: usize) -> RuleId {
        let name = self.0.policies.get(policy).map_or_else(|| "cedar".into(), |policy| Arc::clone(&policy.name));
        RuleId { index: RULE_FIRST + policy as u16, name }
    }

    /// The verdict if Cedar cannot be asked at all.
    fn failed(&self, what: &str) -> CedarVerdict {
        CedarVerdict::Failed { rule: self.rule(0), why: format!("Cedar cannot be told {what}").into() }
    }
}

impl fmt::Debug for CedarRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CedarRules").field("policies", &self.0.policies.len()).finish_non_exhaustive()
    }
}

/// The action of a request. A subscription is decided as a read, and a completion as a use of what it completes.
fn action_of<'a>(method: &'a str, target: Target<'_>) -> &'a str {
    match (method, target) {
        ("resources/subscribe" | "resources/unsubscribe", _) => "resources/read",
        ("completion/complete", Target::Prompt(_)) => "prompts/get",
        ("completion/complete", Target::Resource(_) | Target::Template(_)) => "resources/read",
        _ => method,
    }
}
