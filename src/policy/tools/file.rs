//! The file of a policy: TOML, of which everything that is wrong is told at once.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use toml::de::DeTable;

use crate::base::{SecretHash, unhex};
use crate::policy::identity::{AgentIdentity, IdentityProof};
use crate::policy::network::Network;
use crate::policy::networks::Networks;
use crate::policy::tools::case::{Case, OwnedTarget};
use crate::policy::tools::cedar::CedarRules;
use crate::policy::tools::decision::{Denial, PolicyDigest, RuleId};
use crate::policy::tools::file_ceilings::{CEILING_KEYS, read_ceilings};
use crate::policy::tools::file_reader::{FileReader, PolicyFault, Section};
use crate::policy::tools::file_sanitise::read_sanitise;
use crate::policy::tools::hints::WantedHints;
use crate::policy::tools::known_lists::KnownLists;
use crate::policy::tools::pattern::{PATTERN_LEN_MAX, Patterns};
use crate::policy::tools::pins::PIN_RULE;
use crate::policy::tools::roles::{IdentityRule, Key, ROLES_MAX, Role, RoleSet, SCOPES_MAX};
use crate::policy::tools::rule::{Effect, Rule};
use crate::policy::tools::tool_policy::ToolPolicy;
use crate::policy::tools::uri::{lower, normal_pattern};

/// The longest file of a policy, in bytes.
pub const POLICY_FILE_LEN_MAX: u64 = 1 << 20;
/// The most rules, keys and tests of one policy.
const RULES_MAX: usize = 1_000;
const KEYS_MAX: usize = 1_000;
const CASES_MAX: usize = 10_000;
/// The most patterns of all rules.
const PATTERNS_MAX: usize = 10_000;
/// The longest scope that a caller is told to ask for, in bytes.
const SCOPE_LEN_MAX: usize = 256;

impl ToolPolicy {
    /// Reads a policy from the content of its file.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, by line.
    #[cfg(feature = "internals")]
    pub fn parse(text: &str) -> Result<ToolPolicy, Vec<PolicyFault>> {
        ToolPolicy::parse_with(text, None)
    }

    /// Reads a policy from the content of its file, whose second tier is Cedar.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, by line.
    pub fn parse_with(text: &str, cedar: Option<CedarRules>) -> Result<ToolPolicy, Vec<PolicyFault>> {
        let mut reader = FileReader::new(text);
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let line = reader.line(&error.span().unwrap_or(0..0));
            reader.fault(line, format!("not valid TOML: {}", error.message()));
        }
        if !errors.is_empty() {
            return Err(reader.faults);
        }
        let root = root.into_inner();
        for (key, _) in &root {
            if !["policy", "key", "role", "rule", "sanitise", "pattern", "test"].contains(&&**key.get_ref()) {
                let line = reader.line(&key.span());
                reader.fault(
                    line,
                    format!(
                        "unknown table {:?}: a policy has [policy], [[key]], [[role]], [[rule]], [sanitise], [[pattern]] and [[test]]",
                        key.get_ref()
                    ),
                );
            }
        }
        let policy = Parts { reader: &mut reader, patterns: 0 }.read(&root, text, cedar);
        let mut faults = reader.faults;
        faults.sort_by_key(|fault| fault.line);
        if faults.is_empty() { Ok(policy) } else { Err(faults) }
    }
}

/// Reads the parts of a file.
struct Parts<'r> {
    reader: &'r mut FileReader,
    /// How many patterns there are so far.
    patterns: usize,
}

impl Parts<'_> {
    fn read(&mut self, root: &DeTable<'_>, text: &str, cedar: Option<CedarRules>) -> ToolPolicy {
        let second = cedar.as_ref().map_or("", CedarRules::source);
        let mut policy = ToolPolicy {
            digest: PolicyDigest::of([text, second].concat().as_bytes()),
            roles: Vec::new(),
            scopes: Vec::new(),
            keys: Vec::new(),
            passes_keys: false,
            passes_instructions: true,
            rules: Vec::new(),
            uses_annotations: cedar.as_ref().is_some_and(CedarRules::uses_annotations),
            asks_for_approval: false,
            limits_answers: false,
            shows_tasks: false,
            awaited: Arc::default(),
            lists: KnownLists::default(),
            schemas: Arc::default(),
            needs_wall_time: cedar.as_ref().is_some_and(CedarRules::uses_time),
            cedar,
            cases: Vec::new(),
            sanitise: read_sanitise(self.reader, root),
            hints: Arc::default(),
            pins: None,
            quotas: Arc::default(),
            approvals: Arc::default(),
            place: Arc::default(),
        };
        let mut trusts_annotations = false;
        if let Some(section) = self.reader.section(root, "policy") {
            self.reader.only(&section, &["trust_annotations", "pass_keys", "pass_instructions"]);
            trusts_annotations = self.reader.flag(&section, "trust_annotations").unwrap_or(false);
            policy.passes_keys = self.reader.flag(&section, "pass_keys").unwrap_or(false);
            policy.passes_instructions = self.reader.flag(&section, "pass_instructions").unwrap_or(true);
        }
        if policy.uses_annotations && !trusts_annotations {
            self.reader.fault(1, "the Cedar policies read annotations, which are the word of the server: set trust_annotations = true in [policy] if you trust it in this");
        }
        let mut names = Names::default();
        for section in self.reader.rows(root, "key", KEYS_MAX) {
            if let Some(key) = self.key(&section, &mut names) {
                policy.keys.push(key);
            }
        }
        let mut names = Names::default();
        for section in self.reader.rows(root, "role", ROLES_MAX) {
            let role = self.role(&section, &policy.keys, &mut names);
            policy.roles.push(role);
        }
        let mut names = Names::default();
        for (at, section) in self.reader.rows(root, "rule", RULES_MAX).into_iter().enumerate() {
            let mut rule = self.rule(&section, at, &policy.roles, &mut names);
            if policy.cedar.iter().flat_map(CedarRules::named).any(|(name, _)| *name == *rule.id.name) {
                self.reader.fault(section.line, format!("a policy in Cedar has the name {:?} too", rule.id.name));
            }
            rule.scope = self.place_of_scope(&section, &rule.effect, &mut policy.scopes);
            if !rule.hints.is_empty() && !trusts_annotations {
                self.reader.fault(
                    section.line_of(self.reader, "annotations"),
                    "annotations come from the server: set trust_annotations = true in [policy] if you trust them",
                );
            }
            policy.uses_annotations |= !rule.hints.is_empty();
            policy.asks_for_approval |= rule.is_approve();
            policy.needs_wall_time |= rule.ceilings.as_ref().is_some_and(|ceilings| ceilings.need_wall_time());
            policy.limits_answers |= rule.ceilings.as_ref().is_some_and(|ceilings| ceilings.answer.is_some());
            policy.rules.push(rule);
        }
        policy.shows_tasks = policy.limits_answers && policy.has_task_rules();
        if self.patterns > PATTERNS_MAX {
            self.reader.fault(1, format!("the rules have more than {PATTERNS_MAX} patterns: use '*' for many of them"));
        }
        for section in self.reader.rows(root, "test", CASES_MAX) {
            if let Some(case) = self.case(&section, &policy) {
                policy.cases.push(case);
            }
        }
        policy
    }

    fn key(&mut self, section: &Section<'_>, names: &mut Names) -> Option<Key> {
        self.reader.only(section, &["name", "sha256"]);
        let name = self.name(section, names);
        let Some(text) = self.reader.text(section, "sha256") else {
            self.reader.fault(section.line, "a key needs its hash in sha256: printf %s KEY | sha256sum");
            return None;
        };
        let Some(hash) = unhex(text.as_bytes()) else {
            let line = section.line_of(self.reader, "sha256");
            self.reader.fault(line, "sha256 must be 64 hexadecimal digits, the hash of the key and not the key itself");
            return None;
        };
        Some(Key::new(name?, section.line, SecretHash::from_bytes(hash)))
    }

    fn role(&mut self, section: &Section<'_>, keys: &[Key], names: &mut Names) -> Role {
        self.reader.only(
            section,
            &["name", "networks", "edges", "keys", "proofs", "issuer", "subjects", "clients", "scopes", "claims"],
        );
        let name = self.name(section, names).unwrap_or_default();
        let networks = self.reader.texts(section, "networks").map(|list| {
            let parsed = list.into_iter().filter_map(|(text, line)| match text.parse::<Network>() {
                Ok(network) => Some(network),
                Err(error) => {
                    self.reader.fault(line, error.to_string());
                    None
                }
            });
            parsed.collect::<Networks>()
        });
        let mut own_keys = Patterns::default();
        for (key, line) in self.reader.texts(section, "keys").unwrap_or_default() {
            if !keys.iter().any(|known| *known.identity.subject == *key) {
                self.reader.fault(line, format!("no [[key]] has the name {key:?}"));
            }
            own_keys.add(key);
        }
        let mut edges = Patterns::default();
        for (text, line) in self.reader.texts(section, "edges").unwrap_or_default() {
            self.pattern(text, line, &mut edges);
        }
        let role = Role {
            name: name.into(),
            line: section.line,
            networks,
            edges,
            keys: own_keys,
            identity: self.identity_rule(section),
        };
        if role.is_empty() {
            self.reader.fault(
                section.line,
                "no caller can have this role: give it networks, edges, keys, or proofs, an issuer, subjects, clients, scopes or claims",
            );
        }
        role
    }

    fn identity_rule(&mut self, section: &Section<'_>) -> Option<IdentityRule> {
        let mut rule = IdentityRule::default();
        let mut is_said = false;
        for (text, line) in self.reader.texts(section, "proofs").unwrap_or_default() {
            is_said = true;
            let proof = self.proof(text, line);
            if proof == Some(IdentityProof::Key) {
                self.reader
                    .fault(line, "a caller with a key has no role by its proof: name the key in keys = [\"...\"]");
            }
            rule.proofs.extend(proof);
        }
        if let Some(issuer) = self.reader.text(section, "issuer") {
            is_said = true;
            rule.issuer = Some(issuer.into());
        }
        for (key, patterns) in [("subjects", &mut rule.subjects), ("clients", &mut rule.clients)] {
            for (text, line) in self.reader.texts(section, key).unwrap_or_default() {
                is_said = true;
                self.pattern(text, line, patterns);
            }
        }
        for (scope, _) in self.reader.texts(section, "scopes").unwrap_or_default() {
            is_said = true;
            rule.scopes.push(scope.into());
        }
        if let Some(claims) = self.reader.inner(section, "claims") {
            is_said = true;
            rule.claims = claims.json().map(|(name, value)| (name.into(), value)).collect();
        }
        // Two issuers may have the same names for different callers.
        if is_said && !section.has("proofs") && rule.issuer.is_none() {
            self.reader.fault(
                section.line,
                "subjects, clients, scopes and claims are those of an issuer: say which in issuer, or how they are proven in proofs",
            );
        }
        is_said.then_some(rule)
    }

    fn rule(&mut self, section: &Section<'_>, at: usize, roles: &[Role], names: &mut Names) -> Rule {
        const KEYS: [&str; 9] =
            ["name", "effect", "roles", "methods", "tools", "prompts", "resources", "annotations", "scope"];
        self.reader.only(section, &[&KEYS[..], &CEILING_KEYS].concat());
        let given = section.has("name").then(|| self.name(section, names)).flatten();
        if given == Some(PIN_RULE.1) {
            let line = section.line_of(self.reader, "name");
            self.reader.fault(line, "the name \"pin\" stands for what `pin` of the route denies: take another one");
        }
        let name: Arc<str> = given.map_or_else(|| format!("#{}", at + 1).into(), Into::into);
        let scope = self.scope(section);
        let effect = match (self.reader.text(section, "effect"), scope) {
            (Some("allow"), None) => Effect::Allow,
            (Some("approve"), None) => Effect::Approve,
            (Some("allow" | "approve"), Some(_)) => {
                let line = section.line_of(self.reader, "scope");
                self.reader
                    .fault(line, "scope is only for rules that deny: it names the scope that the caller may request");
                Effect::Allow
            }
            (Some("deny"), None) => Effect::Deny(Denial::Hidden),
            (Some("deny"), Some(scope)) => Effect::Deny(Denial::Scope(scope)),
            _ => {
                let line = section.line_of(self.reader, "effect");
                self.reader.fault(line, "effect must be \"allow\", \"approve\" or \"deny\"");
                Effect::Deny(Denial::Hidden)
            }
        };
        let roles = self.roles(section, roles);
        let mut rule = Rule {
            id: RuleId { index: at as u16, name },
            line: section.line,
            effect,
            roles,
            scope: None,
            methods: Patterns::default(),
            tools: Patterns::default(),
            prompts: Patterns::default(),
            resources: Patterns::default(),
            hints: WantedHints::default(),
            ceilings: None,
        };
        rule.ceilings = read_ceilings(self.reader, section, &rule.effect);
        let counts = rule.ceilings.as_ref().is_some_and(|ceilings| !ceilings.quota.is_empty());
        if counts && !section.has("name") {
            let why = "a rule that counts calls needs a name, so that its counts continue when the file changes";
            self.reader.fault(section.line, why);
        }
        if rule.is_approve() && !section.has("name") {
            let why =
                "a rule that asks for approval needs a name, so that its approvals stay valid when the file changes";
            self.reader.fault(section.line, why);
        }
        for (key, patterns) in
            [("methods", &mut rule.methods), ("tools", &mut rule.tools), ("prompts", &mut rule.prompts)]
        {
            for (text, line) in self.reader.texts(section, key).unwrap_or_default() {
                self.pattern(text, line, patterns);
            }
        }
        for (text, line) in self.reader.texts(section, "resources").unwrap_or_default() {
            match normal_pattern(text) {
                Ok(pattern) if rule.is_allow() => self.pattern(&pattern, line, &mut rule.resources),
                Ok(pattern) => self.pattern(&lower(&pattern), line, &mut rule.resources),
                Err(why) => self.reader.fault(line, format!("no resource can be allowed under such a URI: {why}")),
            }
        }
        if let Some(hints) = self.reader.inner(section, "annotations") {
            self.reader.only(&hints, &["read_only", "destructive", "idempotent", "open_world"]);
            rule.hints = WantedHints {
                read_only: self.reader.flag(&hints, "read_only"),
                destructive: self.reader.flag(&hints, "destructive"),
                idempotent: self.reader.flag(&hints, "idempotent"),
                open_world: self.reader.flag(&hints, "open_world"),
            };
            if rule.hints.is_empty() {
                self.reader.fault(hints.line, "annotations are empty: remove them, or ask for one");
            }
        }
        if rule.is_approve() && !rule.names_targets() {
            let why = "approval is for tools, prompts and resources: of other methods, nobody would see what they are called \
                       with. Name some in tools, prompts, resources or annotations";
            self.reader.fault(section.line, why);
        }
        rule
    }

    fn scope(&mut self, section: &Section<'_>) -> Option<Arc<str>> {
        let scope = self.reader.text(section, "scope")?;
        // RFC 6749 section 3.3.
        let is_token = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        if scope.is_empty()
            || scope.len() > SCOPE_LEN_MAX
            || !scope.split(' ').all(|one| !one.is_empty() && one.bytes().all(is_token))
        {
            let line = section.line_of(self.reader, "scope");
            self.reader.fault(line, format!("scope must be one or more scopes of OAuth with single spaces between them, of at most {SCOPE_LEN_MAX} bytes"));
        }
        Some(scope.into())
    }

    /// The place of the scopes of a rule among those of all rules.
    fn place_of_scope(&mut self, section: &Section<'_>, effect: &Effect, scopes: &mut Vec<Arc<str>>) -> Option<usize> {
        let Effect::Deny(Denial::Scope(scope)) = effect else { return None };
        let known = scopes.iter().position(|known| known == scope);
        if known.is_some() || scopes.len() < SCOPES_MAX {
            return known.or_else(|| {
                scopes.push(Arc::clone(scope));
                Some(scopes.len() - 1)
            });
        }
        let line = section.line_of(self.reader, "scope");
        self.reader.fault(line, format!("the rules have more than {SCOPES_MAX} different scopes: use fewer"));
        None
    }

    fn roles(&mut self, section: &Section<'_>, roles: &[Role]) -> RoleSet {
        let mut set = RoleSet::default();
        for (name, line) in self.reader.texts(section, "roles").unwrap_or_default() {
            match roles.iter().position(|role| *role.name == *name) {
                Some(at) => set = set.and(RoleSet::one(at)),
                None => self.reader.fault(line, format!("no [[role]] has the name {name:?}")),
            }
        }
        set
    }

    fn case(&mut self, section: &Section<'_>, policy: &ToolPolicy) -> Option<Case> {
        const TARGETS: [&str; 3] = ["tool", "prompt", "resource"];
        self.reader.only(
            section,
            &[
                "name",
                "roles",
                "key",
                "address",
                "edge",
                "identity",
                "method",
                "tool",
                "prompt",
                "resource",
                "arguments",
                "expect",
                "rule",
                "time",
            ],
        );
        let unix = self.case_time(section);
        let (is_allowed, needs_approval) = match self.reader.text(section, "expect") {
            Some("allow") => (true, false),
            Some("approve") => (true, true),
            Some("deny") => (false, false),
            _ => {
                let line = section.line_of(self.reader, "expect");
                self.reader.fault(line, "expect must be \"allow\", \"approve\" or \"deny\"");
                return None;
            }
        };
        let address = self.reader.text(section, "address").and_then(|text| {
            let address = text.parse::<IpAddr>().ok();
            if address.is_none() {
                self.reader.fault(section.line_of(self.reader, "address"), "address must be an IP address");
            }
            address
        });
        let edge = self.reader.text(section, "edge").map(str::to_owned);
        let rule = self.reader.text(section, "rule");
        if let Some(name) = rule
            && !policy.rules.iter().any(|rule| *rule.id.name == *name)
            && !policy.cedar.iter().flat_map(CedarRules::named).any(|(known, _)| known == name)
        {
            self.reader.fault(section.line_of(self.reader, "rule"), format!("no [[rule]] has the name {name:?}"));
        }
        let identity = self.case_identity(section, policy);
        let named = TARGETS.map(|key| self.reader.text(section, key).map(str::to_owned));
        let method_name = self.reader.text(section, "method");
        let (method, target) = match (named, method_name) {
            ([Some(tool), None, None], None | Some("tools/call")) => ("tools/call", OwnedTarget::Tool(tool)),
            ([None, Some(prompt), None], method) => (method.unwrap_or("prompts/get"), OwnedTarget::Prompt(prompt)),
            ([None, None, Some(uri)], method) => (method.unwrap_or("resources/read"), OwnedTarget::Resource(uri)),
            ([None, None, None], Some(method)) => (method, OwnedTarget::Nothing),
            _ => {
                self.reader.fault(section.line, "a test must name one tool, prompt, resource or method");
                return None;
            }
        };
        let arguments = self.reader.inner(section, "arguments").map(|arguments| {
            if !matches!(target, OwnedTarget::Tool(_) | OwnedTarget::Prompt(_)) {
                self.reader.fault(arguments.line, "arguments need a tool or a prompt: name one");
            }
            arguments.json().map(|(name, value)| (name.to_owned(), value)).collect()
        });
        let name = self.reader.text(section, "name").map_or_else(|| format!("line {}", section.line), str::to_owned);
        let roles = self.roles(section, &policy.roles);
        let (line, method, rule) = (section.line, method.to_owned(), rule.map(str::to_owned));
        Some(Case {
            name,
            line,
            roles,
            address,
            edge,
            identity,
            unix,
            method,
            target,
            arguments,
            is_allowed,
            needs_approval,
            rule,
        })
    }

    /// When the call of a test is made, since 1970.
    fn case_time(&mut self, section: &Section<'_>) -> Duration {
        let time = self.reader.text(section, "time").map(|text| OffsetDateTime::parse(text, &Rfc3339));
        if let Some(Err(_)) = time {
            let line = section.line_of(self.reader, "time");
            self.reader.fault(line, "time must be a text such as \"2026-07-28T12:00:00Z\"");
        }
        let seconds = time.and_then(Result::ok).map_or(0, OffsetDateTime::unix_timestamp);
        Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
    }

    /// Who calls in a test.
    fn case_identity(&mut self, section: &Section<'_>, policy: &ToolPolicy) -> Option<AgentIdentity> {
        if let Some(name) = self.reader.text(section, "key") {
            let key = policy.keys.iter().find(|key| *key.identity.subject == *name);
            if key.is_none() {
                self.reader.fault(section.line_of(self.reader, "key"), format!("no [[key]] has the name {name:?}"));
            }
            return key.map(|key| key.identity.clone());
        }
        let identity = self.reader.inner(section, "identity")?;
        self.reader.only(&identity, &["subject", "issuer", "client", "proof", "scopes", "claims"]);
        let proof = match self.reader.text(&identity, "proof") {
            Some(text) => self.proof(text, identity.line).unwrap_or(IdentityProof::Jwt),
            None => IdentityProof::Jwt,
        };
        let scopes = self.reader.texts(&identity, "scopes").unwrap_or_default();
        let claims = self.reader.inner(&identity, "claims");
        Some(AgentIdentity {
            subject: self.reader.text(&identity, "subject").unwrap_or_default().into(),
            issuer: self.reader.text(&identity, "issuer").map(Into::into),
            client: self.reader.text(&identity, "client").map(Into::into),
            proof,
            scopes: scopes.into_iter().map(|(scope, _)| scope.into()).collect(),
            claims: Arc::new(
                claims
                    .map(|claims| claims.json().map(|(name, value)| (name.to_owned(), value)).collect())
                    .unwrap_or_default(),
            ),
        })
    }

    fn proof(&mut self, text: &str, line: usize) -> Option<IdentityProof> {
        let proof = IdentityProof::ALL.into_iter().find(|proof| proof.name() == text);
        if proof.is_none() {
            let names = IdentityProof::ALL.map(IdentityProof::name).join(", ");
            self.reader.fault(line, format!("{text:?} is not a proof of identity; the proofs are {names}"));
        }
        proof
    }

    /// The name of a key, role or rule, which is its alone.
    fn name<'a>(&mut self, section: &Section<'a>, names: &mut Names) -> Option<&'a str> {
        let Some(name) = self.reader.text(section, "name") else {
            self.reader.fault(section.line, "it has no name");
            return None;
        };
        let line = section.line_of(self.reader, "name");
        let is_name =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@' | b':' | b'/');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_name) {
            self.reader.fault(line, "a name has 1 to 64 letters, digits and the characters - _ . @ : /");
        }
        if !names.0.insert(name.to_owned()) {
            self.reader.fault(line, format!("the name {name:?} is used twice"));
        }
        Some(name)
    }

    fn pattern(&mut self, text: &str, line: usize, patterns: &mut Patterns) {
        self.patterns += 1;
        if text.len() > PATTERN_LEN_MAX {
            self.reader.fault(line, format!("a pattern has at most {PATTERN_LEN_MAX} bytes"));
        } else if text.chars().any(char::is_control) {
            self.reader.fault(line, "a pattern has no control characters");
        } else {
            patterns.add(text);
        }
    }
}

/// The names of one kind that are taken.
#[derive(Default)]
struct Names(HashSet<String>);
