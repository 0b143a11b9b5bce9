//! Answers with lists, of which the caller sees what it could use.

use std::borrow::Cow;
use std::sync::Arc;

use crate::policy::tools::cedar::{CedarCaller, KnownEntities};
use crate::policy::tools::changes::Changes;
use crate::policy::tools::decision::{Asked, Denial, Target, ToolDecision};
use crate::policy::tools::hints::ToolHints;
use crate::policy::tools::json_text::{Part, Parts, Unreadable, Value};
use crate::policy::tools::known_lists::{KnownList, KnownLists};
use crate::policy::tools::roles::RoleSet;
use crate::policy::tools::tool_policy::ToolPolicy;
use crate::policy::tools::tool_record::OfferKind;
use crate::wire::http1::{Method, RequestHead};
use crate::wire::mcp::Call;

/// The longest answer, or event of a stream of answers, that is filtered, in bytes. A longer one is refused.
pub const LIST_LEN_MAX: usize = 4 << 20;

/// The most elements of a list for which questions to Cedar are prepared together.
const PREPARED_MAX: usize = 256;

/// What of the answers to one request its caller may see.
#[derive(Clone, Debug)]
pub struct ListFilter {
    policy: Arc<ToolPolicy>,
    roles: RoleSet,
    /// The caller as Cedar sees it, if the policy has Cedar.
    cedar: Option<Arc<CedarCaller>>,
}

/// An answer that cannot be read, so that it cannot be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnreadableList;

impl From<Unreadable> for UnreadableList {
    fn from(Unreadable: Unreadable) -> UnreadableList {
        UnreadableList
    }
}

/// The members of a result that are lists, and what names an element.
const LISTS: [(&str, &str); 4] =
    [("tools", "name"), ("prompts", "name"), ("resources", "uri"), ("resourceTemplates", "uriTemplate")];

impl ListFilter {
    /// A filter for a caller with these roles, [prepared](ToolPolicy::cedar_caller) for Cedar.
    #[must_use]
    pub fn new(policy: Arc<ToolPolicy>, roles: RoleSet, cedar: Option<Arc<CedarCaller>>) -> ListFilter {
        ListFilter { policy, roles, cedar }
    }

    /// Whether the answer to a request may have a list: a request for one, or for a stream, on which a request of the caller may be
    /// answered later.
    #[must_use]
    pub fn is_needed(policy: &ToolPolicy, head: &RequestHead, call: &Call) -> bool {
        if head.method() == Method::Get {
            return true;
        }
        match call.method() {
            Some("tools/list" | "prompts/list" | "resources/list" | "resources/templates/list") => true,
            Some("initialize" | "server/discover") => !policy.passes_instructions(),
            _ => false,
        }
    }

    /// The answer, or the answers of a batch, without what the caller may not use. None if there is nothing to change. Of what is
    /// left every byte stays as it is.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or may be read in different ways.
    pub fn apply(&self, answer: &[u8]) -> Result<Option<Vec<u8>>, UnreadableList> {
        // What Cedar decides depends on more than roles.
        let keeps = self.cedar.is_none() && KnownLists::may_keep(answer.len());
        let learned = self.policy.learned();
        if keeps && let Some(list) = self.policy.lists.find(self.roles, learned, answer) {
            self.policy.list_again(&list);
            return Ok(list.filtered(answer));
        }
        let mut spans = Vec::new();
        let whole = Value::outlined(answer, &mut spans)?;
        let mut changes = Changes::default();
        if whole.is_array() {
            for message in whole.parts() {
                self.message(&message?.value, &mut changes)?;
            }
        } else {
            self.message(&whole, &mut changes)?;
        }
        // If something new was learned, other lists may have been read at the same time.
        if keeps && self.policy.learned() == learned {
            let offers = if self.policy.pins.is_some() { offers_of(&whole) } else { Ok(Vec::new()) };
            let known = |offers| KnownList::new(self.roles, learned, (answer, &whole), changes.clone(), offers);
            offers.ok().and_then(known).into_iter().for_each(|list| self.policy.lists.keep(list));
        }
        Ok(changes.apply(answer))
    }

    fn message(&self, message: &Value<'_>, changes: &mut Changes<'static>) -> Result<(), UnreadableList> {
        let Some(result) = message.member("result")? else { return Ok(()) };
        let result = result.value;
        if !result.is_object() {
            return Ok(());
        }
        let [tools, prompts, resources, templates, cache_scope, instructions] =
            result.members(["tools", "prompts", "resources", "resourceTemplates", "cacheScope", "instructions"])?;
        let mut has_list = false;
        for ((list, name), member) in LISTS.into_iter().zip([tools, prompts, resources, templates]) {
            let Some(Part { value: list_value, .. }) = member? else { continue };
            if list_value.is_array() {
                has_list = true;
                self.list(&list_value, list, name, changes)?;
            }
        }
        if has_list
            && let Some(scope) = cache_scope?
            && scope.value.bytes() != b"\"private\""
        {
            // Others may not use what was filtered for this caller.
            changes.push(scope.value.range(), &b"\"private\""[..]);
        }
        if !self.policy.passes_instructions()
            && let Some(instructions) = instructions?
        {
            changes.push(instructions.value.range(), &b"\"\""[..]);
        }
        Ok(())
    }

    fn list(
        &self,
        list: &Value<'_>,
        kind: &str,
        named_by: &str,
        changes: &mut Changes<'static>,
    ) -> Result<(), UnreadableList> {
        let mut has_kept = false;
        let (mut parts, mut known) = (list.parts(), None);
        // Hidden elements before the first that is kept go with the comma behind them, others with the comma before them.
        for nth in 0.. {
            if nth % PREPARED_MAX == 0 {
                known = self.prepare(parts.clone(), kind, named_by);
            }
            let Some(element) = parts.next() else { break };
            let Part { value, range, .. } = element?;
            if self.shows(&value, (kind, named_by), known.as_ref()) {
                has_kept = true;
                continue;
            }
            let is_last = list.range().end == range.end + 1;
            let cut = match (has_kept, is_last) {
                (true, _) => range.start - 1..range.end,
                (false, true) => range,
                (false, false) => range.start..range.end + 1,
            };
            changes.push(cut, &b""[..]);
        }
        Ok(())
    }

    /// Prepares the questions to Cedar about elements of a list, if there is Cedar.
    fn prepare<'a>(&self, elements: Parts<'a>, kind: &str, named_by: &str) -> Option<KnownEntities> {
        let caller = self.cedar.as_deref()?;
        let name = |element: Result<Part<'a>, Unreadable>| element.ok()?.value.member(named_by).ok()??.value.string();
        let names: Vec<Cow<'a, str>> = elements.take(PREPARED_MAX).filter_map(name).collect();
        let target = |name| match kind {
            "tools" => Target::Tool(name),
            "prompts" => Target::Prompt(name),
            _ => Target::Nothing,
        };
        self.policy.prepare_list(Some(caller), names.iter().map(|name| target(&**name)))
    }

    /// Whether the caller sees an element. One whose name is not certain it does not. `known` is what was prepared of it.
    fn shows(&self, element: &Value<'_>, (kind, named_by): (&str, &str), known: Option<&KnownEntities>) -> bool {
        let Ok([Ok(Some(name)), annotations]) = element.members([named_by, "annotations"]) else { return false };
        let Some(name) = name.value.string() else { return false };
        let mut hints = ToolHints::default();
        let asked = match kind {
            "tools" => Asked::tool(&name),
            "prompts" => Asked::prompt(&name),
            "resources" => Asked::resource(&name),
            _ => Asked::template(&name),
        };
        let decision = match kind {
            "tools" => {
                let given = annotations.as_ref().ok().and_then(Option::as_ref);
                let given = given.and_then(|given| serde_json::from_slice::<ToolHints>(given.value.bytes()).ok());
                hints = given.unwrap_or_default();
                let decision = self.policy.decide_listed(self.roles, &asked, hints, element);
                if self.policy.keeps_schemas() {
                    let schema = element.member("outputSchema").ok().flatten();
                    self.policy.schemas.learn(&name, schema.as_ref().map(|schema| schema.value.bytes()));
                }
                if annotations.is_err() {
                    return false;
                }
                decision
            }
            "prompts" => self.decide(&Asked::prompt(&name), element),
            "resources" => self.decide(&Asked::resource(&name), element),
            _ => self.decide(&Asked::template(&name), element),
        };
        // Whoever can ask for a scope has to know for what.
        let is_listed =
            matches!(decision, ToolDecision::Allowed(_) | ToolDecision::Denied { how: Denial::Scope(_), .. });
        is_listed && self.policy.is_shown_by_cedar((self.cedar.as_deref(), known), &asked, hints)
    }

    fn decide(&self, asked: &Asked<'_>, element: &Value<'_>) -> ToolDecision {
        self.policy.decide_listed(self.roles, asked, ToolHints::default(), element)
    }
}

/// The elements of the lists in a message, by kind and name.
fn offers_of(message: &Value<'_>) -> Result<Vec<(OfferKind, Box<str>)>, Unreadable> {
    let mut offers = Vec::new();
    let Some(result) = message.member("result")? else { return Ok(offers) };
    for ((list, named_by), kind) in LISTS.into_iter().zip(OfferKind::ALL) {
        let Some(list) = result.value.member(list)? else { continue };
        for element in list.value.parts() {
            let name = element?.value.member(named_by).ok().flatten();
            offers.extend(name.and_then(|name| Some((kind, name.value.string()?.into()))));
        }
    }
    Ok(offers)
}
