use std::fmt;
use std::path::Path;

use crate::base::shell_word;
use crate::cli::admin_args::AdminArgs;

/// A command that is printed for people to run. Its words are quoted where a shell requires it.
#[derive(Clone, Debug)]
pub(super) struct CommandLine(String);

impl CommandLine {
    /// A command that begins with these words, such as `adit tunnel list`.
    pub(super) fn new(words: &str) -> CommandLine {
        CommandLine(words.to_owned())
    }

    /// Adds a word, quoted if necessary.
    pub(super) fn word(mut self, word: &str) -> CommandLine {
        self.0 = format!("{} {}", self.0, shell_word(&printable(word)));
        self
    }

    /// Adds a flag and its value.
    pub(super) fn flag(self, flag: &str, value: &str) -> CommandLine {
        self.word(flag).word(value)
    }

    /// Adds a flag whose value is already quoted for the shell.
    pub(super) fn flag_as_written(mut self, flag: &str, value: &str) -> CommandLine {
        self.0 = format!("{} {flag} {}", self.0, printable(value));
        self
    }

    /// Adds `--data-dir`, if it was given on the command line. If it came from the environment, the next command has it
    /// too.
    pub(super) fn data_dir(self, given: Option<&Path>) -> CommandLine {
        match given {
            Some(dir) => self.flag("--data-dir", &dir.to_string_lossy()),
            None => self,
        }
    }

    /// Adds the flags with which this command reached the admin API.
    pub(super) fn admin(mut self, args: &AdminArgs) -> CommandLine {
        if let Some(url) = &args.admin {
            self = self.flag("--admin", url);
        }
        if let Some(file) = &args.admin_token_file {
            self = self.flag("--admin-token-file", &file.to_string_lossy());
        }
        self.data_dir(args.data_dir.as_deref())
    }
}

impl fmt::Display for CommandLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Removes characters that could control a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
