use std::fmt;
use std::path::Path;

use crate::base::shell_word;
use crate::cli::admin_args::AdminArgs;
use crate::cli::call_text::is_seen;

/// A command that is printed for people to run. Its words are quoted where a shell requires it.
#[derive(Clone, Debug)]
pub(super) struct CommandLine(String);

impl CommandLine {
    /// A command that begins with these words, such as `adit tunnel list`.
    pub(super) fn new(words: &str) -> CommandLine {
        CommandLine(words.to_owned())
    }

    /// Adds a word, quoted if necessary. What a terminal does not show is written out, so that the shell makes the same word of it.
    pub(super) fn word(mut self, word: &str) -> CommandLine {
        self.0 = format!("{} {}", self.0, if word.chars().all(is_seen) { shell_word(word) } else { written_out(word) });
        self
    }

    /// Adds a flag and its value.
    pub(super) fn flag(self, flag: &str, value: &str) -> CommandLine {
        // Without `=`, such a value would be read as a flag.
        if value.starts_with('-') { self.word(&format!("{flag}={value}")) } else { self.word(flag).word(value) }
    }

    /// Adds the last words of a command, none of which is a flag, whatever it begins with.
    pub(super) fn operands(self, words: &[&str]) -> CommandLine {
        let is_like_flag = words.iter().any(|word| word.starts_with('-'));
        let line = if is_like_flag { self.word("--") } else { self };
        words.iter().fold(line, |line, word| line.word(word))
    }

    /// Whether a shell can give this word to a program: none ends at a NUL, and what is written out keeps its end.
    pub(super) fn can_have(word: &str) -> bool {
        !word.contains('\0') && !word.ends_with('\n')
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

/// A word that a shell makes of characters that a terminal shows: all others are bytes in octal digits.
fn written_out(word: &str) -> String {
    let byte = |byte: &u8| match byte {
        b'.' | b'/' | b'_' | b':' | b'=' | b',' | b' ' => char::from(*byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(*byte).to_string(),
        byte => format!("\\{byte:03o}"),
    };
    format!("\"$(printf '{}')\"", word.as_bytes().iter().map(byte).collect::<String>())
}

/// Removes characters that could control a terminal, or that it does not show.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| is_seen(*c)).collect()
}
