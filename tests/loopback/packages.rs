//! The files in `profiles/` that install and run adit: every flag, setting, path and port in them is one that the program has, and
//! those that belong together agree.

mod container;
mod kubernetes;
mod service;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use adit::cli::Cli;
use adit::config::{self, Preset};
use adit::control::DRAIN_GRACE;
use clap::Parser;
use serde_json::{Map, Value};
use yaml_rust2::{Yaml, YamlLoader};

/// The user that runs adit in containers.
const USER: i64 = 65_532;

fn profiles() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles")
}

fn read(file: &str) -> String {
    let path = profiles().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The one document of a YAML file, with its aliases and merges resolved.
fn yaml(file: &str) -> Value {
    let documents = YamlLoader::load_from_str(&read(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    assert_eq!(documents.len(), 1, "{file}");
    value_of(&documents[0])
}

fn value_of(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::String(text) | Yaml::Real(text) => Value::String(text.clone()),
        Yaml::Integer(number) => (*number).into(),
        Yaml::Boolean(truth) => (*truth).into(),
        Yaml::Array(items) => items.iter().map(value_of).collect(),
        Yaml::Hash(members) => {
            let mut found = Map::new();
            for (name, member) in members {
                let name = name.as_str().expect("a name is text");
                match value_of(member) {
                    Value::Object(merged) if name == "<<" => {
                        merged.into_iter().for_each(|(name, value)| {
                            found.entry(name).or_insert(value);
                        });
                    }
                    value => {
                        found.insert(name.to_owned(), value);
                    }
                }
            }
            Value::Object(found)
        }
        Yaml::Null => Value::Null,
        Yaml::Alias(_) | Yaml::BadValue => panic!("{yaml:?} cannot be read"),
    }
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|item| item.as_str().expect("a list of strings").to_owned()).collect()
}

/// Panics unless the command line of adit understands these arguments.
fn assert_is_understood(args: &[String], place: &str) {
    let all = [&["adit".to_owned()], args].concat();
    if let Err(error) = Cli::try_parse_from(all) {
        panic!("{place}: {args:?}: {error}");
    }
}

/// Panics unless this variable is one of a setting.
fn assert_is_setting(name: &str, place: &str) {
    let is_known = config::settings().any(|setting| setting.env().as_deref() == Some(name)) || name == "ADIT_ROUTES";
    assert!(is_known || !name.starts_with("ADIT_"), "{place}: no setting has the variable {name}");
}

/// How long a role may take to end with its default settings.
fn longest_drain(role: &str) -> Duration {
    let key = format!("{role}.drain_timeout_ms");
    let setting = config::settings().find(|setting| setting.path() == key).expect("both roles have the setting");
    let Preset::Value(text) = setting.preset else { panic!("{key} has no default") };
    seconds(text) + DRAIN_GRACE
}

fn seconds(text: &str) -> Duration {
    let number = text.strip_suffix('s').and_then(|number| number.parse().ok());
    Duration::from_secs(number.unwrap_or_else(|| panic!("{text} is no number of seconds")))
}

#[test]
fn the_collector_receives_where_the_documentation_sends() {
    let receivers = &yaml("otel/collector.yaml")["receivers"];
    let at = receivers["otlp"]["protocols"]["http"]["endpoint"].as_str().unwrap();
    let page = fs::read_to_string(profiles().join("../docs/TELEMETRY.md")).unwrap();
    assert!(page.contains(&format!("endpoint = \"http://{at}\"")), "{at}");
}

#[test]
fn every_file_of_settings_and_data_can_be_read() {
    let mut folders = vec![profiles()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // What helm renders is read by another test.
                if !path.ends_with("templates") {
                    folders.push(path);
                }
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let fault = match path.extension().and_then(|extension| extension.to_str()) {
                Some("yaml") => YamlLoader::load_from_str(&text).err().map(|error| error.to_string()),
                Some("json") => serde_json::from_str::<Value>(&text).err().map(|error| error.to_string()),
                Some("toml") => toml::from_str::<toml::Table>(&text).err().map(|error| error.to_string()),
                _ => continue,
            };
            assert_eq!(fault, None, "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 15, "only {seen} files were found");
}
