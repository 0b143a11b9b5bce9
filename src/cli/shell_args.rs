use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// The arguments of `adit completions`.
#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell that reads the script
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: ShellName,
}

/// A shell that completes commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ShellName {
    /// Bash, with the package bash-completion
    Bash,
    /// The shell named Elvish
    Elvish,
    /// The shell named fish
    Fish,
    /// PowerShell, also under Linux
    Powershell,
    /// The shell named zsh
    Zsh,
}

/// The arguments of `adit man`.
#[derive(Args)]
pub struct ManArgs {
    /// The folder for the pages, which is created if it is not there; pages of the same names are replaced
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}
