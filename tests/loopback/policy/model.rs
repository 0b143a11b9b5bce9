//! What a policy means, said a second time and as simply as it can be: after docs/GOVERNANCE.md, without a line of the code that
//! decides. It is generated from a seed, and written as the file that adit reads.

use adit::base::Rng;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    Allowed,
    /// As if there was no such thing.
    Hidden,
    /// Its caller is told which scope it lacks.
    Scope,
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thing {
    Nothing,
    Tool(&'static str),
    Prompt(&'static str),
    Resource(&'static str),
    /// A template, with some URIs that it stands for: each that a pattern here writes out, and one that none does.
    Template(&'static str, &'static [&'static str]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Allow,
    Deny,
    DenyWithScope,
}

#[derive(Clone, Debug)]
struct Rule {
    effect: Effect,
    roles: Vec<&'static str>,
    methods: Vec<&'static str>,
    tools: Vec<&'static str>,
    prompts: Vec<&'static str>,
    resources: Vec<&'static str>,
    read_only: Option<bool>,
}

/// Some rules.
#[derive(Clone, Debug)]
pub(super) struct Model(Vec<Rule>);

/// The scope that some rules ask for.
pub(super) const SCOPE: &str = "more";
/// Who has which role: all callers of these tests are near, one of two shows the key, and nobody is far.
const ROLES: [&str; 3] = ["near", "batch", "far"];
const METHODS: [&str; 14] = [
    "*",
    "ping",
    "tasks/*",
    "tasks/get",
    "subscriptions/listen",
    "x/*",
    "x/own",
    "tools/*",
    "prompts/*",
    "resources/*",
    "completion/complete",
    "logging/setLevel",
    "server/discover",
    "notifications/*",
];
const TOOLS: [&str; 6] = ["*", "get_*", "*_a", "get_a", "drop", "none"];
const PROMPTS: [&str; 4] = ["*", "ask_*", "ask_a", "plan"];
const RESOURCES: [&str; 5] = ["*", "note://items/*", "note://items/1", "file:///docs/*", "file:///docs/a"];

impl Model {
    /// Some rules of this seed.
    pub(super) fn generate(rng: &mut Rng) -> Model {
        Model((0..rng.below(5)).map(|_| Rule::generate(rng)).collect())
    }

    /// The file. Its key is that of the caller who shows one.
    pub(super) fn file(&self, key_sha256: &str) -> String {
        let mut text = format!(
            "[policy]\ntrust_annotations = true\n[[key]]\nname = 'nightly'\nsha256 = '{key_sha256}'\n\
             [[role]]\nname = 'near'\nnetworks = ['127.0.0.0/8']\n[[role]]\nname = 'batch'\nkeys = ['nightly']\n\
             [[role]]\nname = 'far'\nnetworks = ['192.0.2.0/24']\n"
        );
        self.0.iter().for_each(|rule| rule.write(&mut text));
        text
    }

    /// What becomes of a request of a caller with these roles.
    pub(super) fn fate(&self, roles: &[&str], method: &str, thing: Thing) -> Fate {
        let is_protocol = [
            "initialize",
            "server/discover",
            "ping",
            "logging/setLevel",
            "tools/list",
            "prompts/list",
            "resources/list",
            "resources/templates/list",
        ]
        .contains(&method)
            || method.starts_with("notifications/");
        let is_indirect = method.starts_with("tasks/") || method == "subscriptions/listen";
        let applies = |rule: &&Rule| !is_protocol || !rule.methods.is_empty();
        let fits = |rule: &&Rule| rule.fits(roles, method, thing);
        if let Some(rule) = self.0.iter().filter(applies).filter(fits).find(|rule| rule.effect != Effect::Allow) {
            return if rule.effect == Effect::Deny { Fate::Hidden } else { Fate::Scope };
        }
        let is_allowed = self.0.iter().filter(applies).filter(fits).any(|rule| rule.effect == Effect::Allow);
        let has_allow = self.0.iter().any(|rule| rule.effect == Effect::Allow);
        let is_about_caller = self.0.iter().any(|rule| rule.is_of(roles));
        let needs_allow = !is_protocol && (has_allow || (is_indirect && is_about_caller));
        if is_allowed || !needs_allow { Fate::Allowed } else { Fate::Hidden }
    }

    /// Whether the caller sees a thing in lists, which it could use by this method.
    pub(super) fn shows(&self, roles: &[&str], method: &str, thing: Thing) -> bool {
        self.fate(roles, method, thing) != Fate::Hidden
    }
}

impl Rule {
    fn generate(rng: &mut Rng) -> Rule {
        let effect = [Effect::Allow, Effect::Allow, Effect::Deny, Effect::DenyWithScope][rng.below(4) as usize];
        let mut rule = Rule {
            effect,
            roles: if rng.chance(0.4) { some(rng, &ROLES) } else { Vec::new() },
            methods: Vec::new(),
            tools: Vec::new(),
            prompts: Vec::new(),
            resources: Vec::new(),
            read_only: None,
        };
        if rng.chance(0.35) {
            rule.methods = some(rng, &METHODS);
            return rule;
        }
        if rng.chance(0.5) {
            rule.tools = some(rng, &TOOLS);
        }
        if rng.chance(0.4) {
            rule.prompts = some(rng, &PROMPTS);
        }
        if rng.chance(0.4) {
            rule.resources = some(rng, &RESOURCES);
        }
        if rng.chance(0.2) {
            rule.read_only = Some(rng.chance(0.7));
        }
        rule
    }

    fn write(&self, text: &mut String) {
        text.push_str("[[rule]]\n");
        text.push_str(if self.effect == Effect::Allow { "effect = 'allow'\n" } else { "effect = 'deny'\n" });
        if self.effect == Effect::DenyWithScope {
            text.push_str(&format!("scope = '{SCOPE}'\n"));
        }
        for (key, values) in [
            ("roles", &self.roles),
            ("methods", &self.methods),
            ("tools", &self.tools),
            ("prompts", &self.prompts),
            ("resources", &self.resources),
        ] {
            if !values.is_empty() {
                text.push_str(&format!("{key} = {values:?}\n"));
            }
        }
        if let Some(read_only) = self.read_only {
            text.push_str(&format!("annotations = {{ read_only = {read_only} }}\n"));
        }
    }

    fn is_of(&self, roles: &[&str]) -> bool {
        self.roles.is_empty() || self.roles.iter().any(|role| roles.contains(role))
    }

    fn fits(&self, roles: &[&str], method: &str, thing: Thing) -> bool {
        let any = |patterns: &[&str], name: &str| patterns.iter().any(|pattern| matches(pattern, name));
        if !self.is_of(roles) || !(self.methods.is_empty() || any(&self.methods, method)) {
            return false;
        }
        let names_things = !self.tools.is_empty()
            || !self.prompts.is_empty()
            || !self.resources.is_empty()
            || self.read_only.is_some();
        if !names_things {
            return true;
        }
        match thing {
            Thing::Nothing => false,
            Thing::Tool(name) => {
                // The server says so of these.
                let is_read_only = name.starts_with("get_");
                (self.tools.is_empty() || any(&self.tools, name))
                    && (!self.tools.is_empty() || self.read_only.is_some())
                    && self.read_only.is_none_or(|wanted| wanted == is_read_only)
            }
            Thing::Prompt(name) => any(&self.prompts, name),
            Thing::Resource(uri) => any(&self.resources, uri),
            // It is shown if some of its URIs may be read.
            Thing::Template(_, uris) if self.effect == Effect::Allow => {
                uris.iter().any(|uri| any(&self.resources, uri))
            }
            Thing::Template(_, uris) => {
                self.resources.iter().any(|pattern| uris.iter().all(|uri| matches(pattern, uri)))
            }
        }
    }
}

/// One to three of these.
fn some(rng: &mut Rng, of: &[&'static str]) -> Vec<&'static str> {
    (0..rng.between(1, 3)).map(|_| of[rng.below(of.len() as u64) as usize]).collect()
}

/// Whether a pattern stands for a name: `*` is any text.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, behind)) => {
            let rest = name.strip_prefix(before);
            rest.is_some_and(|rest| {
                (0..=rest.len()).any(|at| rest.is_char_boundary(at) && matches(behind, &rest[at..]))
            })
        }
    }
}
