//! `adit cloudflared`, and the program when it is started under the name `cloudflared`.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;

use crate::cli::output::print;
use crate::cli::run::{EXIT_FAILURE, on_control_thread, service_manager};
use crate::config::{
    CLOUDFLARED_HELP, CloudflaredCommand, CloudflaredConfig, CloudflaredUsage, cloudflared_variables, parse_cloudflared,
};
use crate::process::{CloudflaredProcess, ask_ready};

/// The name under which the program takes the command line of cloudflared.
const NAME: &str = "cloudflared";
/// The exit code for a wrong command line, as there.
const EXIT_CLOUDFLARED_USAGE: u8 = 255;

/// The words after `adit cloudflared`.
#[derive(Args)]
pub struct CloudflaredArgs {
    /// The command line of cloudflared: `tunnel [flags] run [flags]`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORDS")]
    words: Vec<String>,
}

/// The words of a command line of cloudflared, if the program was started under that name.
#[must_use]
pub fn cloudflared_words(args: impl IntoIterator<Item = std::ffi::OsString>) -> Option<CloudflaredArgs> {
    let mut args = args.into_iter();
    let name = args.next()?;
    let is_cloudflared = Path::new(&name).file_name().is_some_and(|name| name == NAME);
    let words = args.map(|word| word.to_string_lossy().into_owned());
    is_cloudflared.then(|| CloudflaredArgs { words: words.collect() })
}

/// Runs a command line of cloudflared, and returns the exit code.
#[must_use]
pub fn run_cloudflared(args: &CloudflaredArgs, env: &BTreeMap<String, String>) -> u8 {
    let (words, env) = (&args.words, &with_variables(env));
    match parse_cloudflared(words) {
        Ok(CloudflaredCommand::Run) => match CloudflaredConfig::load(words, env) {
            Ok(config) => run(&config, env),
            Err(usage) => refuse(&usage),
        },
        Ok(CloudflaredCommand::Ready) => match CloudflaredConfig::metrics_of(words, env) {
            Ok(address) => on_control_thread(async { ask_ready(&address).await.map(|()| 0) }),
            Err(usage) => refuse(&usage),
        },
        Ok(CloudflaredCommand::Version) => {
            print(&format!("cloudflared version adit/{} (built {})\n", env!("CARGO_PKG_VERSION"), "from adit"));
            0
        }
        Ok(CloudflaredCommand::Help) => {
            print(CLOUDFLARED_HELP);
            0
        }
        Err(usage) => refuse(&usage),
    }
}

/// The environment with the variables of cloudflared, which other commands do not read.
fn with_variables(env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = env.clone();
    all.extend(cloudflared_variables().filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?))));
    all
}

fn run(config: &CloudflaredConfig, env: &BTreeMap<String, String>) -> u8 {
    let code = on_control_thread(async {
        CloudflaredProcess::start(config).await?.run(&service_manager(env)).await?;
        Ok(0)
    });
    // Also a fault of a file is one of the run here.
    if code == 0 { code } else { EXIT_FAILURE }
}

fn refuse(usage: &CloudflaredUsage) -> u8 {
    eprintln!("{usage}\nSee 'cloudflared tunnel run --help'.");
    EXIT_CLOUDFLARED_USAGE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_decides() {
        let words = |args: &[&str]| cloudflared_words(args.iter().map(Into::into)).map(|args| args.words);
        assert_eq!(
            words(&["/usr/bin/cloudflared", "tunnel", "run"]),
            Some(vec!["tunnel".to_owned(), "run".to_owned()])
        );
        assert_eq!((words(&["adit", "cloudflared"]), words(&[])), (None, None));
    }

    #[test]
    fn a_wrong_command_line_has_the_exit_code_of_cloudflared() {
        let run = |line: &str| {
            let words = line.split_whitespace().map(str::to_owned).collect();
            run_cloudflared(&CloudflaredArgs { words }, &BTreeMap::new())
        };
        assert_eq!((run("tunnel run --frob"), run("tunnel run")), (EXIT_CLOUDFLARED_USAGE, EXIT_CLOUDFLARED_USAGE));
        assert_eq!(run("tunnel ready"), EXIT_CLOUDFLARED_USAGE);
    }
}
