//! `adit init`: asks for what a role needs, and writes a commented configuration for it.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::cli::command_line::CommandLine;
use crate::cli::error_pages::{CONFIG, line};
use crate::cli::init_args::{InitArgs, InitConnectorArgs, InitEdgeArgs, InitRole};
use crate::cli::output::print;
use crate::cli::{EXIT_FAILURE, EXIT_USAGE};
use crate::config::{Config, FileText, Purpose, Sources};

/// The longest answer, in bytes.
const ANSWER_LEN_MAX: usize = 4_096;
/// How often one question is asked.
const ASKED_MAX: usize = 5;
/// The file may name secrets later.
const FILE_MODE: u32 = 0o600;

/// Runs `adit init` and returns the exit code.
#[must_use]
pub fn run_init(args: &InitArgs, env: &BTreeMap<String, String>) -> u8 {
    let is_terminal = io::stdin().is_terminal();
    let mut ask = Ask { input: io::stdin().lock(), output: io::stderr(), is_terminal };
    match init(args, env, &mut ask) {
        Ok(text) => {
            print(&text);
            0
        }
        Err((code, why)) => {
            eprintln!("{why}{}", line(CONFIG));
            code
        }
    }
}

/// Where values come from that no flag gives.
struct Ask<I, O> {
    input: I,
    output: O,
    /// Without a terminal nothing is asked, and the preset is used, if there is one.
    is_terminal: bool,
}

/// A value to ask for.
struct Question {
    flag: &'static str,
    what: &'static str,
    /// What an empty answer means; `None` if there must be one.
    preset: Option<&'static str>,
}

impl<I: BufRead, O: Write> Ask<I, O> {
    /// The value of a flag, or the answer.
    fn value(&mut self, given: &Option<String>, question: &Question) -> Result<String, (u8, String)> {
        let missing = || (EXIT_USAGE, format!("{} is missing: {}", question.flag, question.what));
        if let Some(given) = given {
            return Ok(given.clone());
        }
        if !self.is_terminal {
            return question.preset.map(str::to_owned).ok_or_else(missing);
        }
        let failed = |error: io::Error| (EXIT_FAILURE, format!("the answer cannot be read: {error}"));
        for _ in 0..ASKED_MAX {
            let preset = question.preset.filter(|preset| !preset.is_empty());
            let hint = match (preset, question.preset) {
                (Some(preset), _) => format!(" [{preset}]"),
                (None, Some(_)) => " [none]".to_owned(),
                (None, None) => String::new(),
            };
            write!(self.output, "{}{hint}: ", question.what).and_then(|()| self.output.flush()).map_err(failed)?;
            let mut answer = String::new();
            let mut limited = io::Read::take(&mut self.input, ANSWER_LEN_MAX as u64);
            if limited.read_line(&mut answer).map_err(failed)? == 0 {
                return Err(missing());
            }
            match (answer.trim(), question.preset) {
                ("", None) => {}
                ("", Some(preset)) => return Ok(preset.to_owned()),
                (answer, _) => return Ok(answer.to_owned()),
            }
        }
        Err(missing())
    }
}

fn init(
    args: &InitArgs,
    env: &BTreeMap<String, String>,
    ask: &mut Ask<impl BufRead, impl Write>,
) -> Result<String, (u8, String)> {
    let (output, purpose) = match &args.role {
        InitRole::Edge(args) => (&args.output, Purpose::Edge),
        InitRole::Connector(args) => (&args.output, Purpose::Connect),
    };
    if output.exists() {
        let why = format!("{} exists, and is not changed: choose another name with --output", output.display());
        return Err((EXIT_FAILURE, why));
    }
    let text = match &args.role {
        InitRole::Edge(args) => edge(args, ask)?,
        InitRole::Connector(args) => connector(args, ask)?,
    };
    let file = Some(FileText { path: output.clone(), text: text.clone() });
    let env = env.clone();
    let sources = Sources { purpose, profile: None, file, env, flags: Vec::new(), credentials: Vec::new() };
    let config = Config::load(&sources).map_err(|faults| (EXIT_USAGE, format!("nothing was written: {faults}")))?;
    write_new(output, &text).map_err(|error| {
        (EXIT_FAILURE, format!("{} cannot be written: {error}; choose another with --output", output.display()))
    })?;
    let missing =
        config.check_files().err().map_or_else(String::new, |faults| format!("\nStill missing:\n\n{faults}\n"));
    Ok(format!("{} was written.\n{missing}\nNext:\n\n{}", output.display(), next(&args.role, output)))
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    file.write_all(text.as_bytes())
}

/// The commands that follow.
fn next(role: &InitRole, output: &Path) -> String {
    let with_config = |words: &str| CommandLine::new(words).flag("--config", &output.to_string_lossy());
    let (first, run, last) = match role {
        InitRole::Edge(args) => {
            let dir = args.data_dir.as_deref().unwrap_or(DATA_DIR);
            let create = CommandLine::new("adit edge init").flag("--data-dir", dir).flag("--name", "EDGE.EXAMPLE.COM");
            (Some(create), "adit edge", Some(CommandLine::new("adit tunnel create").flag("--data-dir", dir)))
        }
        InitRole::Connector(_) => (None, "adit connect", None),
    };
    let lines =
        [first, Some(with_config("adit config check")), Some(with_config("adit doctor")), Some(with_config(run)), last];
    lines.into_iter().flatten().map(|line| format!("  {line}\n")).collect()
}

/// The usual data directory of an edge.
const DATA_DIR: &str = "/var/lib/adit";

fn edge(args: &InitEdgeArgs, ask: &mut Ask<impl BufRead, impl Write>) -> Result<String, (u8, String)> {
    let question = |flag, what, preset| Question { flag, what, preset };
    let data_dir = ask.value(
        &args.data_dir,
        &question("--data-dir", "The folder for the authority, the tunnels and the admin token", Some(DATA_DIR)),
    )?;
    let certificate = ask.value(
        &args.agents_cert_file,
        &question(
            "--agents-cert-file",
            "The certificate chain for agents (PEM); without it, plain HTTP on loopback",
            Some(""),
        ),
    )?;
    let key = match certificate.as_str() {
        "" => String::new(),
        _ => ask.value(
            &args.agents_key_file,
            &question("--agents-key-file", "The private key of that certificate", None),
        )?,
    };
    let preset = if certificate.is_empty() { "127.0.0.1:8443" } else { "0.0.0.0:443" };
    let listen = ask.value(&args.listen, &question("--listen", "The address for agents", Some(preset)))?;
    let domain = ask.value(
        &args.tunnel_domain,
        &question(
            "--tunnel-domain",
            "The domain for tunnels that are created without hosts, such as tunnel.example.com",
            Some(""),
        ),
    )?;
    Ok(format!(
        "# An edge, which agents call and connectors dial. Every setting: docs/CONFIG.md.\n\
         #\n#     adit edge --config FILE\n\n\
         [edge]\n\
         # What `adit edge init` creates: the authority for connectors, the store of tunnels and the admin token.\n\
         data_dir = {}\n\
         # Where agents connect.\nagents_listen = {}\n{}\
         # Where connectors connect; their certificates are issued by the authority in data_dir.\n\
         connectors_listen = \"0.0.0.0:7844\"\n\
         # Metrics, status and the API of `adit tunnel`, on this machine alone.\nadmin_listen = \"127.0.0.1:9443\"\n{}\n\
         [log]\n# text for people, json for programs.\nformat = \"text\"\n",
        toml_text(&data_dir),
        toml_text(&listen),
        match certificate.as_str() {
            "" => "# For agents on other machines: a certificate, and the key, which only its owner can read (mode 0600).\n\
                   # agents_cert_file = \"agents.pem\"\n# agents_key_file = \"agents.key\"\n"
                .to_owned(),
            _ => format!(
                "# The chain, end entity first, and the key, which only its owner can read (mode 0600).\n\
                 agents_cert_file = {}\nagents_key_file = {}\n",
                toml_text(&certificate),
                toml_text(&key)
            ),
        },
        match domain.as_str() {
            "" => "# A tunnel that is created without hosts gets one below this domain.\n# tunnel_domain = \"tunnel.example.com\"\n"
                .to_owned(),
            _ => format!("# A tunnel that is created without hosts gets one below this domain.\ntunnel_domain = {}\n", toml_text(&domain)),
        },
    ))
}

fn connector(args: &InitConnectorArgs, ask: &mut Ask<impl BufRead, impl Write>) -> Result<String, (u8, String)> {
    let question = |flag, what, preset| Question { flag, what, preset };
    let edge = ask.value(&args.edge, &question("--edge", "The edge to dial, such as edge.example.com:7844", None))?;
    let token = ask.value(
        &args.token_file,
        &question("--token-file", "The file with the token that `adit tunnel create` printed", Some("tunnel.token")),
    )?;
    let state = ask.value(
        &args.state_dir,
        &question("--state-dir", "A folder for certificates, so that a restart needs no new ones", Some("")),
    )?;
    let host = ask.value(&args.host, &question("--host", "The host name that agents call", None))?;
    let upstream = if args.command.is_empty() {
        let what = "The MCP server, such as http://127.0.0.1:3000";
        format!("upstream = {}\n", toml_text(&ask.value(&args.upstream, &question("--upstream", what, None))?))
    } else {
        let words: Vec<String> = args.command.iter().map(|word| toml_text(word)).collect();
        format!(
            "# A program that speaks MCP over its standard input and output; no shell reads the command.\n\
             upstream = \"stdio\"\ncommand = [{}]\n",
            words.join(", ")
        )
    };
    Ok(format!(
        "# A connector, which dials the edge and calls MCP servers. Every setting: docs/CONFIG.md.\n\
         #\n#     adit connect --config FILE\n\n\
         [connect]\n\
         # The edge's address for connectors.\nedge = {}\n\
         # The token that `adit tunnel create` printed, in a file that only its owner can read (mode 0600).\ntoken_file = {}\n{}\
         # Metrics and status: `adit top` and `adit calls` ask there. Remove it to have none.\nadmin_listen = \"127.0.0.1:9444\"\n\n\
         # Each host that agents call, and the MCP server behind it. `adit import` adds those of other tools.\n\
         [[route]]\nhost = {}\n{upstream}\n\
         [log]\n# text for people, json for programs.\nformat = \"text\"\n",
        toml_text(&edge),
        toml_text(&token),
        match state.as_str() {
            "" => "# Keeps the certificate over a restart.\n# state_dir = \"/var/lib/adit\"\n".to_owned(),
            _ => format!("# Keeps the certificate over a restart.\nstate_dir = {}\n", toml_text(&state)),
        },
        toml_text(&host),
    ))
}

fn toml_text(text: &str) -> String {
    toml::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::private;

    fn run(args: &[&str], typed: Option<&str>) -> Result<String, (u8, String)> {
        let cli = Cli::try_parse_from([&["adit", "init"], args].concat()).unwrap_or_else(|error| panic!("{error}"));
        let Command::Init(args) = cli.command else { panic!("not an init command") };
        let is_terminal = typed.is_some();
        let mut ask = Ask { input: typed.unwrap_or_default().as_bytes(), output: Vec::new(), is_terminal };
        init(&args, &BTreeMap::new(), &mut ask)
    }

    fn check(path: &Path, purpose: Purpose) {
        let file = Some(FileText::read(path).unwrap());
        let sources =
            Sources { purpose, profile: None, file, env: BTreeMap::new(), flags: Vec::new(), credentials: Vec::new() };
        Config::load(&sources).and_then(|config| config.check_files()).unwrap_or_else(|faults| panic!("{faults}"));
    }

    #[test]
    fn a_connector_from_flags_is_accepted_by_the_check_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("connect.toml");
        let output = path.to_str().unwrap();
        let flags = [
            "connector",
            "--output",
            output,
            "--edge",
            "edge.test:7844",
            "--token-file",
            "t.token",
            "--host",
            "a.test",
        ];
        let text = run(&[&flags[..], &["--upstream", "http://127.0.0.1:3000"]].concat(), None).unwrap();
        assert!(
            text.contains("Still missing") && text.contains("t.token") && text.contains("adit connect --config"),
            "{text}"
        );
        private::write(&dir.path().join("t.token"), b"tnl_demo:0123456789abcdef0123456789").unwrap();
        check(&path, Purpose::Connect);
        let before = std::fs::read_to_string(&path).unwrap();
        let (code, why) = run(&[&flags[..], &["--", "uvx", "x"]].concat(), None).unwrap_err();
        assert!(code == EXIT_FAILURE && why.contains("is not changed"), "{why}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
        std::fs::remove_file(&path).unwrap();
        run(&[&flags[..], &["--state-dir", "state", "--", "uvx", "a \"b\""]].concat(), None).unwrap();
        check(&path, Purpose::Connect);
    }

    #[test]
    fn an_edge_asks_on_a_terminal_for_what_no_flag_gives() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("edge.toml");
        let output = path.to_str().unwrap();
        let data = dir.path().join("data");
        private::folder(&data).unwrap();
        let typed = format!("{}\n\n\ntunnel.test\n", data.display());
        run(&["edge", "--output", output], Some(&typed)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("agents_listen = \"127.0.0.1:8443\"\n")
                && text.contains("\ntunnel_domain = \"tunnel.test\"\n"),
            "{text}"
        );
        check(&path, Purpose::Edge);
    }

    #[test]
    fn a_missing_value_names_its_flag_and_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("connect.toml");
        let output = path.to_str().unwrap();
        let (code, why) = run(&["connector", "--output", output], None).unwrap_err();
        assert!(code == EXIT_USAGE && why.starts_with("--edge is missing"), "{why}");
        let (code, why) =
            run(&["connector", "--output", output, "--edge", "e.test:1"], Some("\n\n\n\n\n\n\n\n\n\n")).unwrap_err();
        assert!(code == EXIT_USAGE && why.starts_with("--host is missing"), "{why}");
        let wrong = ["--edge", "no port", "--host", "a.test", "--upstream", "http://127.0.0.1:1"];
        let (code, why) = run(&[&["connector", "--output", output], &wrong[..]].concat(), None).unwrap_err();
        assert!(code == EXIT_USAGE && why.starts_with("nothing was written: "), "{why}");
        assert!(!path.exists());
    }
}
