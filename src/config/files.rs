//! The files of the configuration and those that it names, as they are read and checked.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::base::{Secret, plain_text, single_value};
use crate::config::error::{ConfigError, ConfigErrors, Origin};
use crate::config::load::Config;
use crate::config::named_file::{open_at_once, read_named};
use crate::config::reader::{Holds, NamedFile, secret_advice};
use crate::config::sources::FileText;
use crate::config::values::{SECRET_LEN_MAX, SecretSource, SecretText};
use crate::policy::{CEDAR_ABSENT, CedarRules, POLICY_FILE_LEN_MAX, PolicyFault, ToolPolicy};
use crate::private::{self, PrivateError};

/// The longest configuration file that is read, in bytes.
pub const CONFIG_FILE_LEN_MAX: u64 = 1 << 20;

impl FileText {
    /// Reads a configuration file.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is longer than [`CONFIG_FILE_LEN_MAX`] or is not UTF-8 text.
    pub fn read(path: &Path) -> Result<FileText, ConfigErrors> {
        match read_text(path, CONFIG_FILE_LEN_MAX) {
            Ok(text) => Ok(FileText { path: path.to_path_buf(), text }),
            Err(error) => {
                let origin = Origin::File { name: path.display().to_string().into(), line: 0 };
                Err(ConfigErrors::new(vec![ConfigError::new(origin, "", format!("cannot read the file: {error}"))]))
            }
        }
    }
}

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretFault {
    /// The file cannot be read, or others than its owner could read or change it.
    #[error("the secret: {0}")]
    File(#[from] PrivateError),
    /// The file does not contain a valid secret.
    #[error("{} holds no valid secret: {why}", path.display())]
    Unfit {
        /// The file that should hold it.
        path: PathBuf,
        /// What is wrong with it, without its content.
        why: String,
    },
}

impl SecretSource {
    /// Reads the secret. A byte order mark and surrounding white space are ignored.
    ///
    /// # Errors
    ///
    /// The file cannot be read or is accessible to others than its owner, or its content is too short or too long.
    pub fn read(&self) -> Result<Secret, SecretFault> {
        match self {
            SecretSource::Inline(text) => Ok(text.0.clone()),
            SecretSource::File(path) => {
                // The longest secret, and some white space after it. Longer content is refused in any case.
                let content = private::read(path, SECRET_LEN_MAX + 16)?;
                let text = plain_text(&content).map_err(|error| error.to_string());
                let secret = text.and_then(|text| SecretText::new(single_value(text)));
                secret.map(|secret| secret.0).map_err(|why| SecretFault::Unfit { path: path.clone(), why })
            }
        }
    }
}

impl Config {
    /// Checks that every file that a setting names can be opened, that secret files hold secrets, and that files with secrets
    /// or keys are private.
    ///
    /// # Errors
    ///
    /// A fault for each file that fails.
    pub fn check_files(&self) -> Result<(), ConfigErrors> {
        let faults: Vec<ConfigError> = self
            .files
            .iter()
            .filter_map(|named| Some(ConfigError::new(named.origin.clone(), named.key.as_str(), wrong_with(named)?)))
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(ConfigErrors::new(faults)) }
    }
}

/// The fault of a file, if it has one.
fn wrong_with(file: &NamedFile) -> Option<String> {
    let path = &file.path;
    match file.holds {
        Holds::Public => {
            open_at_once(path).and_then(no_folder).err().map(|error| format!("cannot read {}: {error}", path.display()))
        }
        Holds::Secret => SecretSource::File(path.clone()).read().err().map(|error| match error {
            SecretFault::Unfit { .. } => format!("{error}; {}", secret_advice(&file.key)),
            SecretFault::File(_) => error.to_string(),
        }),
        // Whether its annotations are trusted is said by the lists, which are not known here.
        Holds::Policy => named_text(path).and_then(|text| parse_policy(path, &text, None)).err(),
        Holds::Cedar => read_cedar_file(path).err(),
        Holds::Key => private::check(path).err().map(|error| error.to_string()),
        Holds::SettingsWithSecret => {
            let error = private::check(path).err()?;
            Some(format!("this file holds a secret, and {error}, or move the secret to a file of its own"))
        }
    }
}

/// Reads a policy from what a command names, which may be a pipe. A file whose name ends with `.cedar` is a policy without lists.
///
/// # Errors
///
/// That it cannot be read, or all of its faults.
pub fn read_policy(path: &Path, cedar: Option<&Path>) -> Result<ToolPolicy, String> {
    let read = |path: &Path| {
        let message = |error: io::Error| format!("cannot read {}: {error}", path.display());
        read_text(path, POLICY_FILE_LEN_MAX).map_err(message)
    };
    let is_cedar = cedar.is_none() && path.extension().is_some_and(|extension| extension == "cedar");
    let (lists, cedar) = if is_cedar { (None, Some(path)) } else { (Some(path), cedar) };
    let cedar = cedar.map(|path| parse_cedar(path, &read(path)?)).transpose()?;
    parse_policy(path, &lists.map(read).transpose()?.unwrap_or_default(), cedar)
}

/// Reads the policy that settings name. It is read again while the process runs, so its files have to be plain: a pipe would stop
/// the process until somebody writes to it.
///
/// # Errors
///
/// That it cannot be read, or all of its faults.
pub fn read_policy_files(lists: Option<&Path>, cedar: Option<&Path>) -> Result<ToolPolicy, String> {
    let cedar = cedar.map(|path| Ok::<_, String>((path, read_cedar_file(path)?))).transpose()?;
    // Without a file of lists, what is wrong with both is said of the Cedar file.
    let path = lists.or(cedar.as_ref().map(|(path, _)| *path)).unwrap_or(Path::new(""));
    let text = lists.map(named_text).transpose()?.unwrap_or_default();
    parse_policy(path, &text, cedar.map(|(_, rules)| rules))
}

fn read_cedar_file(path: &Path) -> Result<CedarRules, String> {
    parse_cedar(path, &named_text(path)?)
}

/// The text of a plain file that a setting names.
fn named_text(path: &Path) -> Result<String, String> {
    let len_max = usize::try_from(POLICY_FILE_LEN_MAX).unwrap_or(usize::MAX);
    let content = read_named(path, len_max).map_err(|error| error.to_string())?;
    let text = plain_text(&content).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(text.to_owned())
}

fn parse_policy(path: &Path, text: &str, cedar: Option<CedarRules>) -> Result<ToolPolicy, String> {
    ToolPolicy::parse_with(text, cedar).map_err(|faults| faults_text(path, "policy", &faults))
}

fn parse_cedar(path: &Path, text: &str) -> Result<CedarRules, String> {
    if let Some(why) = CEDAR_ABSENT {
        // Nothing is wrong with the file.
        return Err(format!("cannot read {}: {why}", path.display()));
    }
    CedarRules::parse(text).map_err(|faults| faults_text(path, "Cedar policy", &faults))
}

fn faults_text(path: &Path, what: &str, faults: &[PolicyFault]) -> String {
    let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
    format!("{} is not a valid {what}: {}", path.display(), faults.join("; "))
}

fn open(path: &Path) -> io::Result<File> {
    File::open(path).and_then(no_folder)
}

fn no_folder(file: File) -> io::Result<File> {
    if file.metadata()?.is_dir() { Err(io::ErrorKind::IsADirectory.into()) } else { Ok(file) }
}

fn read_text(path: &Path, len_max: u64) -> io::Result<String> {
    let mut content = Vec::new();
    open(path)?.take(len_max + 1).read_to_end(&mut content)?;
    if content.len() as u64 > len_max {
        return Err(io::Error::other(format!("longer than {len_max} bytes")));
    }
    plain_text(&content).map(str::to_owned).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;
    use crate::private::FileError;

    #[test]
    fn a_secret_file_may_end_with_a_line_end_and_must_hold_a_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let read = |content: &str| {
            private::write(&path, content.as_bytes()).unwrap();
            SecretSource::File(path.clone()).read()
        };
        assert_eq!(read("\u{feff}0123456789abcdef\r\n").unwrap().expose(), b"0123456789abcdef");
        assert!(matches!(read("short\n"), Err(SecretFault::Unfit { .. })));
        assert!(matches!(
            read(&"x".repeat(5_000)),
            Err(SecretFault::File(PrivateError::File(FileError::TooLong { .. })))
        ));
        let absent = SecretSource::File(dir.path().join("none")).read();
        assert!(matches!(absent, Err(SecretFault::File(PrivateError::File(FileError::Unreadable { .. })))));
    }

    #[test]
    fn a_pipe_in_place_of_a_policy_does_not_stop_a_reload() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let refused = read_policy_files(Some(&pipe), None).unwrap_err();
        assert!(refused.contains("is not a plain file"), "{refused}");
        let file = NamedFile { path: pipe.clone(), holds: Holds::Public, key: "x".into(), origin: Origin::Default };
        assert_eq!(wrong_with(&file), None, "who reads it says what is wrong with it");
        // What a command names may be a pipe.
        let writer = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::write(pipe, "[[rule]]\nname = 'r'\neffect = 'allow'\ntools = ['a']\n").unwrap()
        });
        assert!(read_policy(&pipe, None).is_ok());
        writer.join().unwrap();
    }

    #[test]
    fn a_file_in_another_encoding_is_named_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let utf16: Vec<u8> = "\u{feff}0123456789abcdef".encode_utf16().flat_map(u16::to_le_bytes).collect();
        private::write(&path, &utf16).unwrap();
        let secret = SecretSource::File(path.clone()).read().err().unwrap().to_string();
        let config = FileText::read(&path).err().unwrap().to_string();
        for message in [secret, config] {
            assert!(
                message.contains(path.to_str().unwrap()) && message.ends_with("it is UTF-16: save it as UTF-8"),
                "{message}"
            );
        }
        private::write(&path, b"0123456789\0abcdef").unwrap();
        assert!(SecretSource::File(path).read().err().unwrap().to_string().contains("NUL byte"));
    }

    #[test]
    fn a_file_that_is_not_there_or_too_long_is_a_fault_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let absent = FileText::read(&dir.path().join("absent.toml")).err().unwrap().to_string();
        assert!(absent.contains("absent.toml: cannot read the file"), "{absent}");
        let long = dir.path().join("long.toml");
        std::fs::write(&long, vec![b' '; CONFIG_FILE_LEN_MAX as usize + 1]).unwrap();
        assert!(FileText::read(&long).err().unwrap().to_string().contains("longer than"));
        assert!(FileText::read(dir.path()).is_err());
    }
}
