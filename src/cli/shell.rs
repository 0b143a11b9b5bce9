//! `adit completions` and `adit man`: what shells and `man` know of the command line.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::args::Cli;
use crate::cli::output::print;
use crate::cli::run::EXIT_FAILURE;
use crate::cli::shell_args::{CompletionsArgs, ManArgs, ShellName};

/// Prints the script with which a shell completes commands, and returns the exit code.
#[must_use]
pub fn run_completions(args: &CompletionsArgs) -> u8 {
    let shell = match args.shell {
        ShellName::Bash => Shell::Bash,
        ShellName::Elvish => Shell::Elvish,
        ShellName::Fish => Shell::Fish,
        ShellName::Powershell => Shell::PowerShell,
        ShellName::Zsh => Shell::Zsh,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "adit", &mut script);
    print(&String::from_utf8_lossy(&script));
    0
}

/// Writes a page for each command, and returns the exit code.
#[must_use]
pub fn run_man(args: &ManArgs) -> u8 {
    match write_pages(&args.dir) {
        Ok(pages) => {
            print(&format!("{pages} pages in {}: `man -l adit.1` shows the first\n", args.dir.display()));
            0
        }
        Err(error) => {
            eprintln!(
                "the pages cannot be written to {}: {error}; choose a folder that you may write to",
                args.dir.display()
            );
            EXIT_FAILURE
        }
    }
}

fn write_pages(dir: &Path) -> io::Result<usize> {
    fs::create_dir_all(dir)?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut pages = 0;
    let mut open = vec![(command, "adit".to_owned())];
    while let Some((command, name)) = open.pop() {
        let below = command.get_subcommands().filter(|below| !below.is_hide_set());
        open.extend(below.map(|below| (below.clone(), format!("{name}-{}", below.get_name()))));
        let mut page = Vec::new();
        clap_mangen::Man::new(command.display_name(name.clone())).render(&mut page)?;
        fs::write(dir.join(format!("{name}.1")), page)?;
        pages += 1;
    }
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_and_hidden_ones_have_none() {
        let dir = tempfile::tempdir().unwrap();
        let pages = write_pages(&dir.path().join("man")).unwrap();
        assert!(pages > 50, "{pages}");
        let page = fs::read_to_string(dir.path().join("man/adit-tunnel-key-create.1")).unwrap();
        assert!(page.contains(".TH") && page.contains("template"), "{page}");
        let names = fs::read_dir(dir.path().join("man")).unwrap().map(|file| file.unwrap().file_name());
        let names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
        assert_eq!(names.len(), pages);
        assert!(!names.iter().any(|name| name.contains("guard") || name.contains("-help")), "{names:?}");
        let main = fs::read_to_string(dir.path().join("man/adit.1")).unwrap();
        assert!(main.contains("adit\\-connect") || main.contains("connect"), "{main}");
    }
}
