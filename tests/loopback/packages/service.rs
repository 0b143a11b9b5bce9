//! The units of systemd and the files that the Debian package installs beside them.

use std::path::Path;

use adit::config::{Config, FileText, Flag, Purpose, Sources};

use super::{assert_is_understood, longest_drain, profiles, read, seconds};

/// A unit: its settings in their order, continued lines joined.
struct Unit {
    name: String,
    settings: Vec<(String, String)>,
}

impl Unit {
    fn read(name: &str) -> Unit {
        let text = read(&format!("systemd/{name}")).replace("\\\n", " ");
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '[', ';']));
        let pair = |line: &str| {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{name}: {line}"));
            (key.to_owned(), value.trim().to_owned())
        };
        Unit { name: name.to_owned(), settings: lines.map(pair).collect() }
    }

    fn all(&self, key: &str) -> Vec<&str> {
        self.settings.iter().filter(|(name, _)| name == key).map(|(_, value)| value.as_str()).collect()
    }

    fn one(&self, key: &str) -> &str {
        match self.all(key)[..] {
            [value] => value,
            ref values => panic!("{}: {key} stands {} times", self.name, values.len()),
        }
    }
}

/// What the unit and its file of settings make of the configuration.
fn config_of(file: &str, args: &[String]) -> Config {
    let flag = |pair: &[String]| {
        let key = adit::config::settings().find(|setting| setting.flag == Some(pair[0].as_str()));
        key.map(|setting| Flag::new(&setting.path(), pair[1].clone()))
    };
    let flags = args.windows(2).filter_map(flag).collect();
    let file = FileText { path: file.into(), text: read(&format!("systemd/{file}")) };
    let sources = Sources {
        purpose: Purpose::Check,
        profile: None,
        file: Some(file),
        env: [].into(),
        flags,
        credentials: Vec::new(),
    };
    Config::load(&sources).unwrap_or_else(|faults| panic!("{faults}"))
}

#[test]
fn units_start_the_program_as_its_command_line_and_its_settings_say() {
    for (role, section) in [("edge", "edge"), ("connect", "connect")] {
        let unit = Unit::read(&format!("adit-{role}.service"));
        let args: Vec<String> = unit.one("ExecStart").split_whitespace().map(str::to_owned).collect();
        assert_eq!(args[0], "/usr/bin/adit", "{role}");
        assert_is_understood(&args[1..], &unit.name);
        let file = args.iter().position(|arg| arg == "--config").map(|at| Path::new(&args[at + 1]));
        let file = file.expect("a unit has a file of settings");
        assert_eq!(file.parent(), Some(Path::new("/etc/adit")));
        let name = file.file_name().unwrap().to_str().unwrap();

        // Every credential that is loaded is used, from the file that the settings name, and no other is used.
        let toml: toml::Table = toml::from_str(&read(&format!("systemd/{name}"))).unwrap();
        let credentials = unit.all("LoadCredential");
        let used = args.iter().filter_map(|arg| arg.strip_prefix("${CREDENTIALS_DIRECTORY}/"));
        let loaded = |credential: &str| credentials.iter().any(|one| one.starts_with(&format!("{credential}:")));
        assert!(used.clone().all(loaded) && used.count() == credentials.len(), "{credentials:?}");
        for credential in credentials {
            let (_, source) = credential.split_once(':').expect("a credential has a source");
            let is_named = toml[section].as_table().unwrap().values().any(|value| value.as_str() == Some(source));
            assert!(is_named, "{source} is not in {name}");
        }
        let config = config_of(name, &args);
        let state = match role {
            "edge" => config.edge.as_ref().unwrap().data_dir.as_ref().unwrap().0.clone(),
            _ => config.connect.as_ref().unwrap().state_dir.as_ref().unwrap().0.clone(),
        };
        assert_eq!(state, Path::new("/var/lib").join(unit.one("StateDirectory")), "{role}");
        assert!(seconds(unit.one("TimeoutStopSec")) > longest_drain(section), "{role}");
    }
}

#[test]
fn units_are_watched_and_confined() {
    for (role, capabilities) in [("edge", "CAP_NET_BIND_SERVICE"), ("connect", "")] {
        let unit = Unit::read(&format!("adit-{role}.service"));
        for (key, value) in [
            ("Type", "notify"),
            ("NotifyAccess", "main"),
            ("DynamicUser", "yes"),
            ("NoNewPrivileges", "yes"),
            ("ProtectSystem", "strict"),
            ("ProtectHome", "yes"),
            ("StateDirectoryMode", "0700"),
            ("LimitCORE", "0"),
            ("CapabilityBoundingSet", capabilities),
        ] {
            assert_eq!(unit.one(key), value, "{role}: {key}");
        }
        assert!(seconds(unit.one("WatchdogSec")).as_secs() >= 10);
        assert_eq!(unit.all("SystemCallFilter"), ["@system-service", "~@privileged @keyring"], "{role}");
        let families = unit.one("RestrictAddressFamilies");
        assert!(["AF_INET", "AF_INET6", "AF_UNIX"].iter().all(|family| families.split(' ').any(|one| one == *family)));
    }
}

#[test]
fn the_debian_package_holds_the_units_and_their_settings() {
    let root = profiles().parent().unwrap().to_path_buf();
    let manifest: toml::Table = toml::from_str(&std::fs::read_to_string(root.join("Cargo.toml")).unwrap()).unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let assets: Vec<(String, String)> = deb["assets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|asset| {
            let part = |at: usize| asset[at].as_str().unwrap().to_owned();
            (part(0), part(1))
        })
        .collect();
    for (source, _) in assets.iter().filter(|(source, _)| !source.starts_with("target/")) {
        assert!(root.join(source).is_file(), "{source} is not there");
    }
    let holds = |target: &str| assets.iter().any(|(_, to)| to == target);
    for file in ["usr/bin/adit", "etc/adit/edge.toml", "etc/adit/connect.toml", "usr/share/doc/adit/OPERATING.md"] {
        assert!(holds(file) || holds(&file[..=file.rfind('/').unwrap()]), "{file}");
    }
    let kept: Vec<&str> = deb["conf-files"].as_array().unwrap().iter().map(|file| file.as_str().unwrap()).collect();
    assert_eq!(kept, ["/etc/adit/edge.toml", "/etc/adit/connect.toml"]);
    let scripts = deb["maintainer-scripts"].as_str().unwrap();
    for unit in deb["systemd-units"].as_array().unwrap() {
        let (name, folder) = (unit["unit-name"].as_str().unwrap(), unit["unit-scripts"].as_str().unwrap());
        assert!(root.join(folder).join(format!("{name}.service")).is_file(), "{name}");
        assert!(root.join(scripts).is_dir());
        // Without settings of their own they could not start.
        assert_eq!((unit["enable"].as_bool(), unit["start"].as_bool()), (Some(false), Some(false)), "{name}");
    }
}
