use std::collections::BTreeMap;
use std::io::{self, Write};

use serde_json::{Value, json};

use crate::base::{SERVICE_ENVS, single_value};
use crate::cli::EXIT_USAGE;
use crate::cli::check_args::ConfigCommand;
use crate::cli::settings_args::FileArgs;
use crate::config::{self, Config, ConfigErrors, NO_PROXY_ENVS, Origin, PROXY_ENVS, Purpose};

/// The environment variables that adit reads: its own, those of proxies, and those by which systemd passes credentials
/// and is told of the start. White space around the values is removed. A value that is not UTF-8 is rejected later, when it is
/// parsed.
#[must_use]
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            let is_proxy = PROXY_ENVS.contains(&name.as_str()) || NO_PROXY_ENVS.contains(&name.as_str());
            if !name.starts_with("ADIT_") && !is_proxy && !SERVICE_ENVS.contains(&name.as_str()) {
                return None;
            }
            Some((name, single_value(&value.to_string_lossy()).to_owned()))
        })
        .collect()
}

/// Runs `adit config …` and returns the exit code.
///
/// # Errors
///
/// `out` or `err` cannot be written to.
pub fn run_config(
    command: &ConfigCommand,
    env: &BTreeMap<String, String>,
    out: &mut impl Write,
    err: &mut impl Write,
) -> io::Result<u8> {
    match command {
        ConfigCommand::Docs => write!(out, "{}", config::markdown()).map(|()| 0),
        ConfigCommand::Show { file, json } => match load_config(file, env) {
            Ok(config) if *json => writeln!(out, "{:#}", config.show_json()).map(|()| 0),
            Ok(config) => {
                warn(&config, err)?;
                write!(out, "{}", config.show()).map(|()| 0)
            }
            Err(faults) => refuse(&faults, err),
        },
        ConfigCommand::Check { file, json } => {
            let checked = load_config(file, env).and_then(|config| config.check_files().map(|()| config));
            match checked {
                _ if *json => check_json(&checked, out),
                Ok(config) => {
                    warn(&config, err)?;
                    writeln!(out, "nothing is wrong").map(|()| 0)
                }
                Err(faults) => refuse(&faults, err),
            }
        }
    }
}

/// The configuration that the flags name, whatever role it is for.
pub(super) fn load_config(file: &FileArgs, env: &BTreeMap<String, String>) -> Result<Config, ConfigErrors> {
    Config::load(&file.sources(Purpose::Check, env, Vec::new())?)
}

fn warn(config: &Config, err: &mut impl Write) -> io::Result<()> {
    config.warnings.iter().try_for_each(|warning| writeln!(err, "warning: {warning}"))
}

fn refuse(faults: &ConfigErrors, err: &mut impl Write) -> io::Result<u8> {
    writeln!(err, "{faults}").map(|()| EXIT_USAGE)
}

fn check_json(checked: &Result<Config, ConfigErrors>, out: &mut impl Write) -> io::Result<u8> {
    let (faults, warnings): (Vec<Value>, &[String]) = match checked {
        Ok(config) => (Vec::new(), &config.warnings),
        Err(faults) => {
            let fault = |fault: &config::ConfigError| {
                let place = (fault.origin != Origin::Default).then(|| fault.origin.to_string());
                json!({ "key": fault.key, "where": place, "message": fault.message })
            };
            (faults.all().iter().map(fault).collect(), &[])
        }
    };
    let code = if faults.is_empty() { 0 } else { EXIT_USAGE };
    writeln!(out, "{:#}", json!({ "ok": code == 0, "faults": faults, "warnings": warnings }))?;
    Ok(code)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::private;

    fn run(args: &[&str], env: &[(&str, &str)]) -> (u8, String, String) {
        let cli = Cli::try_parse_from([&["adit", "config"], args].concat()).unwrap_or_else(|error| panic!("{error}"));
        let Command::Config(args) = cli.command else { panic!("not a config command") };
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let code = run_config(&args.command, &env, &mut out, &mut err).unwrap();
        (code, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn show_prints_every_setting_with_its_origin() {
        let (code, out, err) = run(&["show", "--set", "engine.cores=2"], &[("ADIT_LOG", "debug")]);
        assert_eq!((code, err.as_str()), (0, ""));
        let line = |key: &str| out.lines().find(|line| line.starts_with(&format!("{key} "))).unwrap().to_owned();
        assert_eq!(line("engine.cores").split_whitespace().collect::<Vec<_>>(), ["engine.cores", "2", "--set"]);
        assert_eq!(line("log.level").split_whitespace().collect::<Vec<_>>(), ["log.level", "debug", "ADIT_LOG"]);
        for setting in config::settings().filter(|setting| setting.env().is_some()) {
            assert!(line(&setting.path()).len() > 10);
        }
    }

    #[test]
    fn a_wrong_setting_ends_with_code_2_and_plain_text() {
        let (code, out, err) = run(&["show", "--set", "engine.cors=2"], &[("ADIT_LOGG", "debug")]);
        assert_eq!((code, out.as_str()), (EXIT_USAGE, ""));
        assert_eq!(
            err,
            "ADIT_LOGG: unknown variable, did you mean ADIT_LOG?\n\
             --set: engine.cors: unknown key, did you mean \"engine.cores\"?\n"
        );
        let (code, out, _) = run(&["check", "--json", "--set", "engine.cors=2"], &[]);
        let object: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &object["ok"], &object["faults"][0]["key"]), (2, &json!(false), &json!("engine.cors")));
    }

    #[test]
    fn check_looks_at_the_files_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("adit.toml");
        let text = "[connect]\nedge = \"a:1\"\ntunnel = \"t\"\nsecret_file = \"none\"\n[[route]]\nhost = \"a\"\n\
                    upstream = \"https://b\"\nupstream_ca_file = \"ca.pem\"\n";
        std::fs::write(&path, text).unwrap();
        let (code, _, err) = run(&["check"], &[("ADIT_CONFIG", path.to_str().unwrap())]);
        assert_eq!((code, err.lines().count()), (EXIT_USAGE, 2), "{err}");
        assert!(err.contains("adit.toml:4: connect.secret_file: the secret: cannot read "), "{err}");
        assert!(err.contains("adit.toml:8: route[0].upstream_ca_file: cannot read"), "{err}");
        private::write(&dir.path().join("none"), b"0123456789abcdef\n").unwrap();
        std::fs::write(dir.path().join("ca.pem"), "").unwrap();
        let (code, out, _) = run(&["check", "--config", path.to_str().unwrap()], &[]);
        assert_eq!((code, out.as_str()), (0, "nothing is wrong\n"));
    }

    #[test]
    fn readable_secret_files_are_reported_with_the_command_that_corrects_them() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let text = "[edge]\nconnectors_cert_file = \"c\"\nconnectors_key_file = \"k\"\n[[tunnel]]\nid = \"t\"\nhosts = \"a\"\n\
                    secret_file = \"s\"\n[[tunnel]]\nid = \"u\"\nhosts = \"b\"\nsecret = \"0123456789abcdef\"\n";
        for (name, content) in [("adit.toml", text), ("c", ""), ("k", ""), ("s", "0123456789abcdef")] {
            std::fs::write(at(name), content).unwrap();
            std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(0o644)).unwrap();
        }
        let (code, _, stderr) = run(&["check", "--config", &at("adit.toml")], &[]);
        let lines: Vec<&str> = stderr.lines().collect();
        assert_eq!((code, lines.len()), (EXIT_USAGE, 3), "{stderr}");
        for (line, name) in lines.iter().zip(["k", "s", "adit.toml"]) {
            assert!(line.contains(&format!("(mode 0644): run `chmod 600 {}`", at(name))), "{line}");
        }
        assert!(!stderr.contains("0123456789abcdef"));
        for name in ["adit.toml", "k", "s"] {
            std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        assert_eq!(run(&["check", "--config", &at("adit.toml")], &[]).0, 0);
    }
}
