//! The command line of an MCP server that is started as a child process, and its environment.

use std::path::Path;

use serde_json::Value;

use crate::config::setting_type::{Raw, SettingType};
use crate::config::values::MASK;

/// The most words of a command line.
const WORDS_MAX: usize = 256;
/// The longest word or variable, in bytes.
const WORD_LEN_MAX: usize = 32 * 1024;
/// The most variables.
const VARIABLES_MAX: usize = 256;

/// A program and its arguments; empty if there is none. In a file it is a list. In a variable or a flag it is the name of a program
/// alone, or a list in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandWords(pub Vec<String>);

/// Variables of an environment, written as `NAME=value`. Their values are not displayed, because they may be keys.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EnvVariables(pub Vec<(String, String)>);

impl std::fmt::Debug for EnvVariables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// The texts of a list. A single word may be a list in JSON.
fn words(raw: &Raw, expected: &str) -> Result<Vec<String>, String> {
    match raw {
        Raw::List(items) => items.iter().map(|item| item.text(expected).map(str::to_owned)).collect(),
        Raw::Word(text) | Raw::Text(text) if text.starts_with('[') => {
            serde_json::from_str(text).map_err(|_| format!("expected {expected}, as a list of texts in JSON"))
        }
        single => Ok(vec![single.text(expected)?.to_owned()]),
    }
}

impl SettingType for CommandWords {
    const KIND: &'static str = "command";

    fn parse(raw: &Raw, _dir: &Path) -> Result<CommandWords, String> {
        let words = words(raw, "a program and its arguments")?;
        if words.len() > WORDS_MAX || words.iter().any(|word| word.len() > WORD_LEN_MAX) {
            return Err(format!("a command has at most {WORDS_MAX} words of {WORD_LEN_MAX} bytes"));
        }
        if words.first().is_some_and(String::is_empty) || words.iter().any(|word| word.contains('\0')) {
            return Err("the program is empty, or a word holds a NUL character".to_owned());
        }
        Ok(CommandWords(words))
    }

    fn to_json(&self) -> Value {
        Value::from(self.0.as_slice())
    }

    fn absent() -> Option<CommandWords> {
        Some(CommandWords::default())
    }
}

impl SettingType for EnvVariables {
    const KIND: &'static str = "list of variables";

    fn parse(raw: &Raw, _dir: &Path) -> Result<EnvVariables, String> {
        let words = words(raw, "variables, each as NAME=value")?;
        let variable = |word: String| {
            let (name, value) = word.split_once('=').filter(|(name, _)| !name.is_empty())?;
            (word.len() <= WORD_LEN_MAX && !word.contains('\0')).then(|| (name.to_owned(), value.to_owned()))
        };
        // The value may be a key, so the message does not repeat it.
        let variables: Option<Vec<_>> = words.into_iter().map(variable).collect();
        let variables = variables.filter(|variables| variables.len() <= VARIABLES_MAX);
        let why = || {
            format!("expected at most {VARIABLES_MAX} variables, each as NAME=value of at most {WORD_LEN_MAX} bytes")
        };
        variables.map(EnvVariables).ok_or_else(why)
    }

    fn to_json(&self) -> Value {
        Value::from_iter(self.0.iter().map(|(name, _)| format!("{name}={MASK}")))
    }

    fn absent() -> Option<EnvVariables> {
        Some(EnvVariables::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_a_list_or_one_program() {
        let parse = |raw| CommandWords::parse(&raw, Path::new("/")).map(|words| words.0);
        let list = Raw::List(vec![Raw::Text("npx".into()), Raw::Text("a b".into())]);
        assert_eq!(parse(list), Ok(vec!["npx".into(), "a b".into()]));
        assert_eq!(parse(Raw::Word("my program".into())), Ok(vec!["my program".into()]));
        assert_eq!(parse(Raw::Word("[\"x\",\"y,z\"]".into())), Ok(vec!["x".into(), "y,z".into()]));
        for wrong in [Raw::Integer(1), Raw::Word(String::new()), Raw::Word("a\0".into()), Raw::Word("[1]".into())] {
            assert!(parse(wrong).is_err());
        }
    }

    #[test]
    fn values_of_variables_are_not_shown() {
        let parse = |text: &str| EnvVariables::parse(&Raw::Text(text.into()), Path::new("/"));
        let variables = parse("KEY=hunter2=,").unwrap();
        assert_eq!(variables.0, [("KEY".to_owned(), "hunter2=,".to_owned())]);
        assert!(!format!("{variables:?}{}", variables.to_json()).contains("hunter2"));
        for wrong in ["hunter2", "=hunter2", "[\"hunter2\"]"] {
            assert!(!parse(wrong).unwrap_err().contains("hunter2"), "{wrong}");
        }
    }
}
