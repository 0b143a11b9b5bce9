use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::HostPattern;
use crate::config::{ConfigError, ConfigErrors, IdentityConfig, Origin, read_policy_files};
use crate::control::{Inventories, PinnedServer};
use crate::policy::{Approvals, PinMode, Quotas, ToolPins, ToolPolicy};
use crate::process::settings::CallerReader;

/// Reads the policies of hosts, and what hosts require of their callers. What a policy has learned about the tools of
/// its server is kept across reloads.
#[derive(Default)]
pub(crate) struct PolicyReader {
    pub(crate) callers: CallerReader,
    /// What is known of the tools of servers.
    pub(crate) inventories: Arc<Inventories>,
    known: Known,
    /// The policies that were read but are not in effect yet.
    next: Option<Known>,
    /// The servers whose tools are looked at then, by host.
    pins: BTreeMap<String, PinnedServer>,
    /// What callers have used of what the rules allow, whatever is read again.
    quotas: Arc<Quotas>,
    /// The calls that wait for approval.
    approvals: Arc<Approvals>,
}

/// What a host or route has of a policy.
pub(super) struct PolicySource<'a> {
    pub(super) host: &'a HostPattern,
    /// Its file, if it has one.
    pub(super) file: Option<&'a Path>,
    /// Its file in Cedar, if it has one.
    pub(super) cedar: Option<&'a Path>,
    /// The setting that names the files, without `policy_file`.
    pub(super) key: String,
    /// What becomes of tools that nobody has approved.
    pub(super) pin: PinMode,
    /// The URL of the server behind it; empty where that is not known.
    pub(super) server: &'a str,
}

/// The policies by host, by the server behind the host where it is known, and by file. What one server says about its tools does not
/// hold for another.
type Known = HashMap<(String, String, PathBuf, PathBuf), Arc<ToolPolicy>>;

impl PolicyReader {
    /// Begins a reading with the issuers of tokens. What is read next is compared with what is in effect, whatever was
    /// read and rejected before.
    ///
    /// # Errors
    ///
    /// All faults of the issuers, which then stay as they were.
    pub(crate) fn begin(&mut self, config: &IdentityConfig) -> Result<(), ConfigErrors> {
        self.callers.read_issuers(config)?;
        self.next = Some(Known::new());
        self.pins.clear();
        Ok(())
    }

    /// What callers have used, which all policies that are read share.
    pub(crate) fn quotas(&self) -> &Arc<Quotas> {
        &self.quotas
    }

    /// The calls that wait for approval, of all policies that are read.
    pub(crate) fn approvals(&self) -> &Arc<Approvals> {
        &self.approvals
    }

    /// Puts what was read into effect, and drops what is gone.
    pub(crate) fn put_in_force(&mut self) {
        self.known = self.next.take().unwrap_or_else(|| std::mem::take(&mut self.known));
        self.callers.put_in_force();
        self.inventories.put_in_force(&self.pins);
    }

    /// Whether a host that was read hides tools that nobody has approved.
    pub(crate) fn has_quarantine(&self) -> bool {
        self.pins.values().any(|pinned| pinned.mode == PinMode::Quarantine)
    }

    /// The tools of a server, as they are treated once what is read is put in force.
    fn pins_of(&mut self, host: String, mode: PinMode, server: &str) -> Option<ToolPins> {
        let pinned = self.pins.entry(host).or_insert_with_key(|host| PinnedServer {
            upstream: server.to_owned(),
            mode,
            tools: self.inventories.of_route(host),
        });
        ToolPins::new(mode, &pinned.tools)
    }

    /// The policy of a host, if it has rules or its tools are looked at. One whose file is as before stays the same. It is reported if
    /// it cannot be read.
    pub(super) fn read(
        &mut self,
        PolicySource { host, file, cedar, key, pin, server }: PolicySource<'_>,
        faults: &mut Vec<ConfigError>,
    ) -> Option<Arc<ToolPolicy>> {
        if file.is_none() && cedar.is_none() && pin == PinMode::Off {
            return None;
        }
        let pins = if pin == PinMode::Off { None } else { self.pins_of(host.to_string(), pin, server) };
        // Without a file it has no rule, and allows everything.
        let read = read_policy_files(file, cedar);
        let key = format!("{key}.{}", if file.is_none() && cedar.is_some() { "cedar_file" } else { "policy_file" });
        let mut read = read.map_err(|why| faults.push(ConfigError::new(Origin::Default, key, why))).ok()?.pinned(pins);
        let path = |file: Option<&Path>| file.map(Path::to_path_buf).unwrap_or_default();
        let place = (host.to_string(), server.to_owned(), path(file), path(cedar));
        let next = self.next.get_or_insert_default();
        if let Some(known) = self.known.get(&place) {
            if **known == read {
                next.insert(place, Arc::clone(known));
                return Some(Arc::clone(known));
            }
            read.learn_from(known);
        }
        read.count_in(&self.quotas, &self.approvals, &place.0);
        if let Some(cedar) = cedar {
            tracing::info!(%host, file = %cedar.display(), policy = %read.digest(), "Cedar policy read");
            read.doubtful_cedar().iter().for_each(|fault| tracing::warn!(file = %cedar.display(), "{fault}"));
        }
        if let Some(file) = file {
            tracing::info!(%host, file = %file.display(), policy = %read.digest(), "policy read");
            read.useless().iter().for_each(|fault| tracing::warn!(file = %file.display(), "{fault}"));
        }
        let read = Arc::new(read);
        next.insert(place, Arc::clone(&read));
        Some(read)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Config, FileText, Purpose, Sources};

    #[test]
    fn a_refused_policy_replaces_nothing_and_a_removed_one_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let text = "[connect]\nedge = 'a:1'\ntunnel = 'tnl_a'\nsecret = 'a-very-hidden-secret-0123'\n[[route]]\nhost = 'a.test'\n\
                    upstream = 'http://127.0.0.1:1'\n";
        let sources = Sources {
            purpose: Purpose::Connect,
            profile: None,
            file: Some(FileText { path: dir.path().join("adit.toml"), text: text.to_owned() }),
            env: BTreeMap::new(),
            flags: Vec::new(),
            credentials: Vec::new(),
        };
        let config = Config::load(&sources).unwrap_or_else(|faults| panic!("{faults}"));
        let file = dir.path().join("policy.toml");
        let write = |tool: &str| {
            std::fs::write(&file, format!("[[rule]]\nname = 'r'\neffect = 'allow'\ntools = ['{tool}']\n")).unwrap();
        };
        let (mut reader, mut faults) = (PolicyReader::default(), Vec::new());
        let mut read = |reader: &mut PolicyReader, host: &str, server: &str| {
            reader.begin(&config.identity).unwrap();
            let (host, key) = (host.parse().unwrap(), "route[0]".to_owned());
            let source = PolicySource { host: &host, file: Some(&file), cedar: None, key, pin: PinMode::Off, server };
            reader.read(source, &mut faults).unwrap()
        };
        write("a");
        let first = read(&mut reader, "a.test", "one");
        reader.put_in_force();
        write("b");
        assert!(*read(&mut reader, "a.test", "one") != *first, "read, and refused for something else");
        write("a");
        assert!(Arc::ptr_eq(&read(&mut reader, "a.test", "one"), &first));
        reader.put_in_force();
        assert!(!Arc::ptr_eq(&read(&mut reader, "a.test", "another"), &first), "of another server nothing is known");
        read(&mut reader, "b.test", "one");
        reader.put_in_force();
        assert_eq!(reader.known.keys().map(|(host, ..)| &**host).collect::<Vec<_>>(), ["b.test"]);
    }

    #[test]
    fn a_faulty_cedar_file_is_reported_and_the_last_good_one_stays() {
        let dir = tempfile::tempdir().unwrap();
        let cedar = dir.path().join("p.cedar");
        let mut reader = PolicyReader::default();
        let mut read = |text: &str| {
            std::fs::write(&cedar, text).unwrap();
            let (host, mut faults) = ("a.test".parse().unwrap(), Vec::new());
            let source = PolicySource {
                host: &host,
                file: None,
                cedar: Some(&cedar),
                key: "route[0]".to_owned(),
                pin: PinMode::Off,
                server: "one",
            };
            let policy = reader.read(source, &mut faults);
            if policy.is_some() {
                reader.put_in_force();
            } else {
                reader.next = None;
            }
            (policy, faults.iter().map(ToString::to_string).collect::<String>())
        };
        let (policy, faults) = read("permit(principal, action, resource == Tool::\"a\");");
        if !cfg!(feature = "cedar") {
            assert!(
                policy.is_none() && faults.contains("--features cedar") && faults.contains("cedar_file"),
                "{faults}"
            );
            return;
        }
        let first = policy.unwrap_or_else(|| panic!("{faults}"));
        let (policy, faults) = read("permit(principal, action, resource == Tool::\"a\";");
        assert!(policy.is_none() && faults.contains("route[0].cedar_file") && faults.contains("line 1"), "{faults}");
        let (again, _) = read("permit(principal, action, resource == Tool::\"a\");");
        assert!(again.is_some_and(|again| Arc::ptr_eq(&again, &first)), "the last good one was kept");
        let (changed, _) = read("permit(principal, action, resource == Tool::\"b\");");
        assert!(changed.is_some_and(|changed| *changed != *first));
    }

    #[test]
    fn a_refused_configuration_watches_no_server() {
        let (mut reader, mut faults) = (PolicyReader::default(), Vec::new());
        let mut read = |reader: &mut PolicyReader, host: &str, server: &str| {
            reader.pins.clear();
            let (host, key, pin) = (host.parse().unwrap(), "route[0]".to_owned(), PinMode::Warn);
            reader.read(PolicySource { host: &host, file: None, cedar: None, key, pin, server }, &mut faults).unwrap();
        };
        let seen = |reader: &PolicyReader| -> Vec<(String, String)> {
            reader.inventories.all().into_iter().map(|server| (server.route, server.upstream)).collect()
        };
        read(&mut reader, "a.test", "one");
        reader.put_in_force();
        read(&mut reader, "a.test", "two");
        read(&mut reader, "b.test", "three");
        assert_eq!(seen(&reader), [("a.test".to_owned(), "one".to_owned())], "read, and refused for something else");
        let tools = reader.inventories.of_route("a.test");
        read(&mut reader, "b.test", "three");
        reader.put_in_force();
        assert_eq!(seen(&reader), [("b.test".to_owned(), "three".to_owned())]);
        assert!(!Arc::ptr_eq(&tools, &reader.inventories.of_route("a.test")), "nothing was known of it");
    }
}
