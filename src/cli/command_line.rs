use std::fmt;
use std::path::Path;

use crate::base::shell_word;
use crate::cli::tunnel_args::AdminArgs;

/// A command as it is printed for people to run. Each word is quoted where a shell would take it apart.
#[derive(Clone, Debug)]
pub(super) struct CommandLine(String);

impl CommandLine {
    /// A command that begins with these words, such as `adit tunnel list`.
    pub(super) fn new(words: &str) -> CommandLine {
        CommandLine(words.to_owned())
    }

    /// The same with one word more.
    pub(super) fn word(mut self, word: &str) -> CommandLine {
        self.0 = format!("{} {}", self.0, shell_word(&printable(word)));
        self
    }

    /// The same with a flag and its value.
    pub(super) fn flag(self, flag: &str, value: &str) -> CommandLine {
        self.word(flag).word(value)
    }

    /// The same with a flag whose value is written for the shell already.
    pub(super) fn flag_as_written(mut self, flag: &str, value: &str) -> CommandLine {
        self.0 = format!("{} {flag} {}", self.0, printable(value));
        self
    }

    /// The same with `--data-dir`, if one was given on the command line. One of the environment applies to the next command too.
    pub(super) fn data_dir(self, given: Option<&Path>) -> CommandLine {
        match given {
            Some(dir) => self.flag("--data-dir", &dir.to_string_lossy()),
            None => self,
        }
    }

    /// The same with the flags by which this command reached the admin API.
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

/// Text without what could control a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
