//! The exit codes, which scripts rely on. `docs/OPERATING.md` has the same table.

use crate::cli::EXIT_USAGE;
use crate::cli::run::EXIT_FAILURE;

/// Each exit code, and what it means.
pub const EXIT_CODES: [(u8, &str); 3] = [
    (0, "it did what was asked, and found nothing wrong"),
    (
        EXIT_FAILURE,
        "it failed: a process cannot be reached or refused, a file cannot be read, or what was checked is not so (`adit audit verify`, \
         `adit policy test`)",
    ),
    (EXIT_USAGE, "a wrong flag, configuration or policy, or a check of `adit doctor` failed"),
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use clap::CommandFactory;

    use super::*;
    use crate::cli::args::Cli;

    fn operating() -> String {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/OPERATING.md")).unwrap()
    }

    #[test]
    fn the_documentation_has_this_table() {
        let rows: String = EXIT_CODES.iter().map(|(code, meaning)| format!("| {code} | {meaning} |\n")).collect();
        assert!(operating().contains(&rows), "docs/OPERATING.md, \"Exit codes\", needs:\n{rows}");
    }

    #[test]
    fn help_texts_name_only_codes_of_the_table() {
        let command = Cli::command();
        let mut named = 0;
        for command in command.get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let words: Vec<&str> = help.split_whitespace().collect();
            for pair in words.windows(2).filter(|pair| pair[0] == "code") {
                let code: u8 = pair[1].trim_matches([',', '.', ';']).parse().expect("a number follows");
                assert!(EXIT_CODES.iter().any(|(known, _)| *known == code), "{}: {code}", command.get_name());
                named += 1;
            }
        }
        assert!(named > 10, "{named}");
    }

    #[test]
    fn whatever_prints_for_people_prints_json_too() {
        /// What prints no facts, or has formats of its own.
        const OTHERS: [&str; 11] = [
            "adit cloudflared",        // the log of a connector
            "adit completions",        // a script
            "adit man",                // files
            "adit stdio-guard",        // nothing
            "adit config docs",        // a page
            "adit edge identity-keys", // JSON
            "adit policy schema",      // a file of Cedar
            "adit report",             // --format json
            "adit audit export",       // --format
            "adit init edge",          // a file
            "adit init connector",     // a file
        ];
        let mut open = vec![(Cli::command(), "adit".to_owned(), false)];
        let (mut seen, mut excepted) = (0, 0);
        while let Some((command, name, above)) = open.pop() {
            let own = |id: &str| command.get_arguments().any(|arg| arg.get_id() == id);
            let has = above || own("json");
            // A flag of a command with others below it holds for those where it is global.
            let is_global = command.get_arguments().any(|arg| arg.get_id() == "json" && arg.is_global_set());
            open.extend(
                command
                    .get_subcommands()
                    .map(|below| (below.clone(), format!("{name} {}", below.get_name()), above || is_global)),
            );
            if command.has_subcommands() && command.is_subcommand_required_set() || name == "adit" {
                continue;
            }
            if OTHERS.contains(&name.as_str()) {
                excepted += 1;
                continue;
            }
            assert!(has, "{name} has no --json");
            seen += 1;
        }
        assert!(seen > 40 && excepted == OTHERS.len(), "{seen} {excepted}");
    }
}
