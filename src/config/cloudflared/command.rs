//! The words of a command line of cloudflared.

use std::collections::BTreeMap;

use super::flags::{FLAGS, FlagKind, FlagMeaning, FlagSpec, spec};

/// The help of the command.
pub const CLOUDFLARED_HELP: &str = "\
Usage: cloudflared tunnel [flags] run [flags] [TUNNEL]

Connects a private server to an edge in the protocol of cloudflared, over QUIC or HTTP/2.

  --token TOKEN            The token of the tunnel (TUNNEL_TOKEN), or --token-file FILE
  --credentials-file FILE  The credentials of the tunnel, in place of a token
  --url URL                The server that gets all calls, as http://localhost:8080
  --config FILE            A file with these flags and with ingress rules
  --edge HOST:PORT         An address of the edge; repeat it for more connections (TUNNEL_EDGE)
  --cacert FILE            The authorities that the edge's certificate must come from (TUNNEL_CACERT)
  --protocol auto          How the edge is reached: quic, http2, or auto, which tries both
  --metrics HOST:PORT      Where /ready, /metrics and /healthcheck are served
  --grace-period 30s       How long calls may take at the end

Other commands: cloudflared tunnel ready, cloudflared version.
docs/CLOUDFLARED.md has all flags, and what differs from cloudflared.
";

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloudflaredCommand {
    /// To run a connector.
    Run,
    /// To ask a running connector whether it is ready.
    Ready,
    /// To print the version.
    Version,
    /// To print the help.
    Help,
}

/// Why a command line cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CloudflaredUsage(pub String);

/// The flags that were given, by their first names.
pub(super) type Given = BTreeMap<&'static str, Vec<String>>;

/// A command line: what it asks for, its flags, and the tunnel that it names.
#[derive(Clone, Debug)]
pub(super) struct Words {
    pub(super) command: CloudflaredCommand,
    pub(super) flags: Given,
    pub(super) tunnel: Option<String>,
}

/// What the words after the program's name ask for.
///
/// # Errors
///
/// What is wrong with them.
pub fn parse_cloudflared(words: &[String]) -> Result<CloudflaredCommand, CloudflaredUsage> {
    read(words).map(|words| words.command)
}

/// Reads the words after the program's name.
pub(super) fn read(words: &[String]) -> Result<Words, CloudflaredUsage> {
    let mut flags = Given::new();
    let mut names: Vec<&str> = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let Some(flag) = word.strip_prefix('-').filter(|flag| !flag.is_empty()) else {
            names.push(word);
            continue;
        };
        let (name, value) = match flag.trim_start_matches('-').split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag.trim_start_matches('-'), None),
        };
        match name {
            "help" | "h" => return Ok(Words { command: CloudflaredCommand::Help, flags, tunnel: None }),
            "version" | "v" | "V" => return Ok(Words { command: CloudflaredCommand::Version, flags, tunnel: None }),
            _ => {}
        }
        let known = spec(name).ok_or_else(|| CloudflaredUsage(format!("flag provided but not defined: -{name}")))?;
        let value = match (value, known.kind) {
            (Some(value), _) => value,
            (None, FlagKind::Switch) => "true".to_owned(),
            (None, FlagKind::Value | FlagKind::List) => {
                rest.next().cloned().ok_or_else(|| CloudflaredUsage(format!("flag needs an argument: -{name}")))?
            }
        };
        add(&mut flags, known, value);
    }
    let (command, tunnel) = match &names[..] {
        ["tunnel", "run"] => (CloudflaredCommand::Run, None),
        ["tunnel", "run", tunnel] => (CloudflaredCommand::Run, Some((*tunnel).to_owned())),
        ["tunnel", "ready"] => (CloudflaredCommand::Ready, None),
        ["version"] => (CloudflaredCommand::Version, None),
        [] | ["help", ..] => (CloudflaredCommand::Help, None),
        ["tunnel"] => {
            let why = "quick tunnels and named tunnels without `run` are not supported: use `cloudflared tunnel run --token TOKEN`";
            return Err(CloudflaredUsage(why.to_owned()));
        }
        other => {
            let why = format!("the command `{}` is not supported: use `cloudflared tunnel run`", other.join(" "));
            return Err(CloudflaredUsage(why));
        }
    };
    Ok(Words { command, flags, tunnel })
}

/// Adds a value of a flag. Only lists have more than one.
pub(super) fn add(flags: &mut Given, known: &FlagSpec, value: String) {
    let values = flags.entry(known.names[0]).or_default();
    if known.kind != FlagKind::List {
        values.clear();
    }
    values.push(value);
}

/// Adds the flags that variables set and the command line does not.
pub(super) fn add_variables(flags: &mut Given, env: &BTreeMap<String, String>) {
    for known in FLAGS.iter().filter(|known| !known.variables.is_empty()) {
        if flags.contains_key(known.names[0]) {
            continue;
        }
        let set = known.variables.iter().find_map(|name| env.get(*name)).filter(|value| !value.is_empty());
        let Some(value) = set else { continue };
        match known.kind {
            FlagKind::List => value.split(',').for_each(|part| add(flags, known, part.trim().to_owned())),
            FlagKind::Switch | FlagKind::Value => add(flags, known, value.clone()),
        }
    }
}

/// The flags that are given and change nothing, and the fault of one that asks for something that is not there.
pub(super) fn unused(flags: &Given) -> Result<Vec<&'static str>, CloudflaredUsage> {
    let mut ignored = Vec::new();
    for (name, values) in flags {
        match spec(name).map(|known| known.meaning) {
            Some(FlagMeaning::Ignored) => ignored.push(*name),
            Some(FlagMeaning::Missing(remedy)) if values.iter().any(|value| value != "false") => {
                return Err(CloudflaredUsage(format!("`{name}` is not supported: {remedy}")));
            }
            _ => {}
        }
    }
    Ok(ignored)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Words, CloudflaredUsage> {
        read(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn flags_stand_at_any_level_and_in_any_form() {
        let read = words(
            "--no-autoupdate tunnel --edge a:1 --edge=b:2 -metrics 127.0.0.1:0 run -p http2 --token=abc= --url http://x \
             my-tunnel",
        )
        .unwrap();
        assert_eq!((read.command, read.tunnel.as_deref()), (CloudflaredCommand::Run, Some("my-tunnel")));
        let get = |name: &str| read.flags.get(name).map(|values| values.join("+"));
        assert_eq!(get("edge").as_deref(), Some("a:1+b:2"));
        assert_eq!(get("protocol").as_deref(), Some("http2"));
        assert_eq!((get("token").as_deref(), get("no-autoupdate").as_deref()), (Some("abc="), Some("true")));
        assert_eq!(unused(&read.flags).unwrap(), ["no-autoupdate"]);
    }

    #[test]
    fn variables_are_used_where_the_command_line_has_nothing() {
        let mut read = words("tunnel run --url http://x:1").unwrap();
        let env =
            [("TUNNEL_URL", "http://y:1"), ("TUNNEL_EDGE", "a:1, a:1"), ("TUNNEL_TOKEN", "t"), ("NO_AUTOUPDATE", "")];
        add_variables(&mut read.flags, &env.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert_eq!(read.flags["url"], ["http://x:1"]);
        assert_eq!(read.flags["edge"], ["a:1", "a:1"]);
        assert_eq!(
            (&read.flags["token"][..], read.flags.contains_key("no-autoupdate")),
            (&["t".to_owned()][..], false)
        );
    }

    #[test]
    fn other_commands_and_unknown_flags_are_told_apart() {
        for (line, command) in [
            ("tunnel ready --metrics 127.0.0.1:1", CloudflaredCommand::Ready),
            ("--version", CloudflaredCommand::Version),
            ("version", CloudflaredCommand::Version),
            ("tunnel run --help", CloudflaredCommand::Help),
            ("", CloudflaredCommand::Help),
        ] {
            assert_eq!(words(line).unwrap().command, command, "{line}");
        }
        for (line, why) in [
            ("tunnel run --frob 1", "flag provided but not defined: -frob"),
            ("tunnel run --token", "flag needs an argument: -token"),
            ("tunnel --url http://x:1", "quick tunnels"),
            ("access tcp", "`access tcp` is not supported"),
        ] {
            assert!(words(line).unwrap_err().0.contains(why), "{line}");
        }
        assert!(unused(&words("tunnel run --no-tls-verify").unwrap().flags).unwrap_err().0.contains("origin-ca-pool"));
        assert!(unused(&words("tunnel run --no-tls-verify=false").unwrap().flags).is_ok());
    }

    #[test]
    fn each_name_belongs_to_one_flag() {
        let mut names: Vec<&str> = FLAGS.iter().flat_map(|known| known.names.iter().copied()).collect();
        let mut variables: Vec<&str> = FLAGS.iter().flat_map(|known| known.variables.iter().copied()).collect();
        for all in [&mut names, &mut variables] {
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), count);
        }
    }
}
