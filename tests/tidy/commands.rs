//! Commands of adit that people are told to run are understood by its command line: those of the documentation, of the help
//! texts, and of the messages in the sources.

use std::fs;
use std::path::Path;

use adit::cli::Cli;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};

use crate::source::Source;
use crate::{Fault, fault};

/// What stands for a value in a command that is checked.
const ANY_VALUE: &str = "1";

/// Why a command is not understood. One that is only named may lack what it needs, but not have what nobody knows.
fn fault_of(command: &str, has_open_values: bool) -> Option<String> {
    let error = Cli::try_parse_from(words(command)).err()?;
    let is_named_only = matches!(
        error.kind(),
        ErrorKind::MissingRequiredArgument
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            | ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
    );
    // A flag that is named as it is, without its value.
    let lacks_value = error.get(ContextKind::InvalidValue) == Some(&ContextValue::String(String::new()));
    let is_open = has_open_values && matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue);
    (!is_named_only && !lacks_value && !is_open).then(|| error.to_string())
}

/// As a shell would split it, as far as the pages go: quotes around whole words, and comments.
fn words(command: &str) -> Vec<String> {
    let quoted = |word: &str| word.trim_matches(['\'', '"']).to_owned();
    let mut words: Vec<String> = Vec::new();
    let mut open = false;
    for word in command.split_whitespace() {
        match words.last_mut() {
            Some(last) if open => *last = format!("{last} {word}"),
            _ if word.starts_with('#') => break,
            _ => words.push(word.to_owned()),
        }
        open ^= word.matches(['\'', '"']).count() % 2 == 1;
    }
    words.iter().map(|word| quoted(word)).collect()
}

/// The commands in the messages of a source that the command line does not understand. They stand between backticks, and
/// values that are filled in or left open count as given.
pub(crate) fn unknown_commands(source: &Source) -> Vec<Fault> {
    if !source.path.starts_with("src/") {
        return Vec::new();
    }
    let shown = source.literals.iter().filter(|(at, _)| !source.is_for_tests_at(*at));
    let commands =
        shown.flat_map(|(at, literal)| commands_of(&unescaped(literal)).into_iter().map(move |command| (*at, command)));
    let remedy = "print a command as `adit --help` knows it";
    commands
        .filter_map(|(at, command)| {
            let filled = filled_in(&command);
            fault_of(&filled, filled != command).map(|why| fault(source, at, format!("`{command}`: {why}"), remedy))
        })
        .collect()
}

fn commands_of(text: &str) -> Vec<String> {
    let code = text.split('`').skip(1).step_by(2).filter(|code| code.starts_with("adit "));
    code.map(str::to_owned).collect()
}

/// The text of a literal, without the breaks of its lines.
fn unescaped(literal: &str) -> String {
    let mut lines = literal.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |text, line| text + line.trim_start()).replace("\\n", "\n").replace("\\\"", "\"")
}

/// A command with some value wherever a message puts one in.
fn filled_in(command: &str) -> String {
    let mut filled = String::new();
    let mut rest = command;
    while let Some((before, (inside, after))) = rest.split_once('{').and_then(|(b, r)| Some((b, r.split_once('}')?))) {
        // What follows another value without a space brings flags of its own, or none.
        let follows = before.is_empty() && filled.ends_with(ANY_VALUE);
        filled.push_str(before);
        filled.push_str(if follows || inside.starts_with('{') { "" } else { ANY_VALUE });
        rest = after;
    }
    (filled + rest).replace('…', ANY_VALUE)
}

/// The commands that a page of documentation shows: lines of its blocks, and code within its text.
fn shown_commands(page: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, part) in page.split("```").enumerate() {
        if at % 2 == 0 {
            found.extend(part.split('`').skip(1).step_by(2).map(|code| code.replace('\n', " ")));
        } else if let Some(lines) = part.strip_prefix("sh\n") {
            let lines = lines.replace("\\\n", " ");
            found.extend(lines.lines().map(|line| {
                // As another user, or in a container.
                let line = line.trim_start_matches("sudo -u adit ").trim_start_matches("sudo ");
                line.split_once("-- /usr/bin/adit ").map_or_else(|| line.to_owned(), |(_, args)| format!("adit {args}"))
            }));
        }
    }
    found.retain(|command| command.starts_with("adit ") && !command.contains(['|', '…']));
    found
}

#[test]
fn every_command_that_the_documentation_shows_is_understood() {
    // Examples in help texts are indented lines.
    let all = Cli::command();
    let helps = all.get_subcommands().filter_map(|command| command.get_after_help()).map(|help| {
        let help = help.to_string();
        ("a help text".to_owned(), format!("```sh\n{}```", help.replace("\n  ", "\n")))
    });
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["", "docs"].iter().flat_map(|folder| fs::read_dir(root.join(folder)).expect("a folder can be listed"));
    let pages = files.map(|file| file.expect("a file is there").path());
    let pages = pages.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let pages = pages.map(|path| (path.display().to_string(), fs::read_to_string(&path).expect("a page is text")));
    let mut seen = 0;
    for (name, page) in pages.chain(helps) {
        for command in shown_commands(&page) {
            seen += 1;
            if let Some(why) = fault_of(&command, false) {
                panic!("{name}: {command}: {why}");
            }
        }
    }
    assert!(seen > 45, "only {seen} commands were found");
}

#[test]
fn a_command_that_is_not_understood_is_seen() {
    let lines =
        |text: &str| unknown_commands(&Source::new("src/x.rs", text)).iter().map(|f| f.line).collect::<Vec<_>>();
    for wrong in [
        "adit tunnel cert ad {tunnel} x.pem",
        "adit tunnel update {tunnel} --hosts a.test",
        "adit tunnel update tnl_a --host … --hots x",
        "adit edge init --data-dirs {}",
        "adit  conect",
    ] {
        assert_eq!(lines(&format!("\nlog(\"run `{wrong}` again\")")), [2], "{wrong}");
    }
    assert_eq!(lines("\"one `adit up` and\\\n     another `adit tunnel \\\n  lits`\""), [1]);
    for right in ["adit tunnel update {tunnel}{hosts}", "adit tunnel rotate", "adit tunnel update --help", "adit_x"] {
        assert_eq!(lines(&format!("\"`{right}`\"")), [] as [usize; 0], "{right}");
    }
    assert_eq!(
        lines("// `adit tunnel lits`\n#[cfg(test)]\nmod tests { fn f() { \"`adit tunnel lits`\" } }"),
        [] as [usize; 0]
    );
}
