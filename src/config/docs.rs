use std::fmt::Write;

use crate::config::section::{Part, Preset, Reload, Setting};
use crate::config::table::{CREDENTIAL_KEYS, FILE_ENV, PARTS, ROUTES_ENV};

/// An example from which both roles can start.
const EXAMPLE: &str = r#"[edge]
agents_listen = "0.0.0.0:443"
agents_cert_file = "agents.crt"      # relative to this file
agents_key_file = "agents.key"
connectors_cert_file = "edge.crt"
connectors_key_file = "edge.key"
drain_timeout_ms = "30s"             # or 30000

[[tunnel]]
id = "tnl_demo"
secret_file = "demo.secret"
hosts = ["demo.example.com"]

[connect]
edge = "edge.example.com:7844"
tunnel = "tnl_demo"
secret_file = "demo.secret"
edge_ca_file = "edge-ca.pem"

[[route]]
host = "demo.example.com"
upstream = "http://127.0.0.1:9000"

[log]
level = "info"
"#;

/// The page `docs/CONFIG.md`, generated from the table of settings.
#[must_use]
pub fn markdown() -> String {
    let credentials = CREDENTIAL_KEYS.map(|key| format!("`{key}`")).join(", ");
    let mut page = format!(
        "# Configuration\n\n\
         This page is generated from the program's table of settings by `cargo run -- config docs > docs/CONFIG.md`.\n\n\
         Both roles read the same file: `adit edge` requires `[edge]` and `[[tunnel]]`, `adit connect` requires `[connect]`\n\
         and `[[route]]`. `--config` or `{FILE_ENV}` names the file; without either no file is read.\n\n\
         A value comes from the default, the profile, the file, the environment or a flag; each of these takes precedence\n\
         over the ones before it. Every setting outside the lists of tables has a variable, and `--set KEY=VALUE` as a flag.\n\
         `adit config show` prints every value and its origin, `adit config check` prints only what is wrong.\n\n\
         - An unknown key is an error, and so is an unknown variable whose name begins with `ADIT_` (except\n\
           `ADIT_TEST_…`). An empty variable counts as not set. White space around the value of a variable, and around a\n\
           secret or token in a file, does not count. Variables that Kubernetes sets for a service, such as\n\
           `ADIT_EDGE_PORT=tcp://…`, are ignored with one warning.\n\
         - Files are UTF-8, with or without a byte order mark.\n\
         - A duration is a number in the unit of its key, or a string with a unit: `us` and `ms` for `_us`; `ms`, `s`,\n\
           `m` and `h` for `_ms`. Only whole numbers are allowed: `\"1500ms\"`, not `\"1.5s\"`.\n\
         - A size is a number of bytes, or a string with `B`, `KiB`, `MiB` or `GiB`.\n\
         - A relative path in a file starts from the folder of the file, in a variable or a flag from the working folder.\n\
         - A list with one value may be written as that value. In a variable commas separate the values, and a flag is given\n\
           several times.\n\
         - `{ROUTES_ENV}` gives routes as `HOST=URL`, separated by commas, and `--route` gives one. Either replaces all\n\
           `[[route]]` of the file.\n\
         - A connector has one credential setting: {credentials}.\n\
           The setting with the highest precedence is used; two with the same precedence are an error.\n\
         - A *live* setting takes effect on SIGHUP and when the file changes, every other setting after a restart.\n\n\
         ```toml\n{EXAMPLE}```\n"
    );
    for part in &PARTS {
        section(&mut page, part);
    }
    page
}

fn section(page: &mut String, part: &Part) {
    let heading = if part.record { format!("[[{}]]", part.name) } else { format!("[{}]", part.name) };
    // Writing to a String cannot fail.
    let _ = write!(page, "\n## `{heading}`\n\n{}\n", part.about());
    for setting in part.settings {
        let _ = write!(page, "\n### `{}`\n\n{}\n\n{}\n", setting.key, setting.doc(), facts(setting));
    }
}

/// The line under a setting: type, default, limits, example, variable, flag, reload.
fn facts(setting: &Setting) -> String {
    let mut facts = vec![setting.kind.to_owned()];
    facts.push(match setting.preset {
        Preset::Value(text) => format!("default `{text}`"),
        Preset::Unset => "not set by default".to_owned(),
        Preset::Required => "required".to_owned(),
    });
    facts.extend(setting.bounds.map(|(least, greatest)| format!("{least} to {greatest}")));
    facts.push(format!("example `{}`", setting.example));
    facts.extend(setting.env().map(|env| format!("`{env}`")));
    facts.extend(setting.flag.map(|flag| format!("`{flag}`")));
    if setting.reload == Reload::Live {
        facts.push("live".to_owned());
    }
    facts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, FileText, Purpose, Sources};

    #[test]
    fn the_example_is_a_valid_file() {
        let file = FileText { path: "adit.toml".into(), text: EXAMPLE.to_owned() };
        let sources = Sources {
            purpose: Purpose::Check,
            profile: None,
            file: Some(file),
            env: [].into(),
            flags: Vec::new(),
            credentials: Vec::new(),
        };
        let config = Config::load(&sources).unwrap();
        assert!(config.edge.is_some() && config.connect.is_some());
    }

    #[test]
    fn of_keys_that_exclude_each_other_the_page_names_all() {
        let page = markdown();
        let line = page.lines().find(|line| line.starts_with("- A connector has one credential setting")).unwrap();
        for key in CREDENTIAL_KEYS {
            assert!(line.contains(&format!("`{key}`")), "{key} is missing in: {line}");
        }
    }

    #[test]
    fn every_setting_and_variable_is_in_the_page() {
        let page = markdown();
        for setting in crate::config::settings() {
            assert!(page.contains(&format!("### `{}`", setting.key)) && page.contains(&setting.doc()));
            assert!(setting.env().is_none_or(|env| page.contains(&env)));
        }
    }
}
