//! `adit tools`.

use std::collections::BTreeMap;

use clap::ValueEnum;
use diffy::{DiffOptions, Line};

use crate::base::{hex, sha256};
use crate::cli::admin_client::{AdminClient, AdminError};
use crate::cli::call_text::{NONE, plain, plain_quoted};
use crate::cli::command_line::CommandLine;
use crate::cli::table::Table;
use crate::cli::tools_args::{OfferArg, ToolsArgs, ToolsCommand};
use crate::cli::tunnel::print_answer;
use crate::control::bodies::{
    AlikeTools, ApproveTools, ApprovedTool, ListedTool, OfferName, PinName, ServerToolsInfo, StandingName, ToolsBody,
};

/// How many tools are approved with one request.
const APPROVED_AT_ONCE: usize = 100;
/// How many digits a digest has. With fewer, a server could find two definitions that begin alike.
const DIGITS: usize = 64;

/// Runs `adit tools` and returns the exit code.
#[must_use]
pub fn run_tools(args: &ToolsArgs, env: &BTreeMap<String, String>) -> u8 {
    print_answer(run(args, env))
}

async fn run(args: &ToolsArgs, env: &BTreeMap<String, String>) -> Result<String, AdminError> {
    let url = args.admin.admin.as_deref();
    match &args.command {
        ToolsCommand::List { route, pending, kind } => {
            let mut body = read(&AdminClient::without_token(url, env)?, route.as_deref(), false).await?;
            let is_shown = |tool: &ListedTool| is_of(tool, *kind) && (!pending || is_pending(tool));
            body.servers.iter_mut().for_each(|server| server.tools.retain(is_shown));
            Ok(if args.admin.json { format!("{:#}\n", serde_json::json!(body)) } else { listed(&body) })
        }
        ToolsCommand::Diff { route, tool, kind } => {
            let mut body = read(&AdminClient::without_token(url, env)?, route.as_deref(), true).await?;
            for server in &mut body.servers {
                let is_named = |known: &ListedTool| tool.as_ref().is_none_or(|tool| known.name == *tool);
                server.tools.retain(|known| is_pending(known) && is_of(known, *kind) && is_named(known));
            }
            if args.admin.json {
                return Ok(format!("{:#}\n", serde_json::json!(body.servers)));
            }
            Ok(compared(args, &body, tool.is_none(), *kind))
        }
        ToolsCommand::Approve { route, tools, kind, all, sha256, unseen, reason } => {
            let client = AdminClient::new(&args.admin, env)?;
            let mut body = read(&client, Some(route), true).await?;
            let kind = kind.or((!all).then_some(OfferArg::Tool));
            body.servers.iter_mut().for_each(|server| server.tools.retain(|tool| is_of(tool, kind)));
            let wanted = wanted(&body, route, if *all { None } else { Some(tools) }, sha256.as_deref(), *unseen)?;
            let mut left = ToolsBody::default();
            for tools in wanted.chunks(APPROVED_AT_ONCE) {
                let wanted = ApproveTools { route: route.clone(), tools: tools.to_vec(), reason: reason.clone() };
                left = client.post(&["tools", "approve"], &wanted).await?;
            }
            if args.admin.json {
                return Ok(format!("{:#}\n", serde_json::json!(left.servers)));
            }
            let names =
                wanted.iter().map(|tool| format!("  {}  {}\n", plain(&tool.sha256), titled(tool.kind, &tool.name)));
            let are_tools = wanted.iter().all(|tool| tool.kind == OfferName::Tool);
            let count = match wanted.len() {
                0 => return Ok("everything is approved already\n".to_owned()),
                1 => format!("1 {}", kind_name(wanted[0].kind)),
                count if are_tools => format!("{count} tools"),
                count => format!("{count} definitions"),
            };
            Ok(format!("approved {count} of {}:\n{}", plain(route), names.collect::<String>()))
        }
    }
}

async fn read(client: &AdminClient, route: Option<&str>, definitions: bool) -> Result<ToolsBody, AdminError> {
    let mut query: Vec<(&str, String)> = route.map(|route| ("route", route.to_owned())).into_iter().collect();
    if definitions {
        query.push(("definitions", "true".to_owned()));
    }
    client.get(&["tools"], &query).await
}

/// What is to be approved; `tools` says which, or all that are pending.
fn wanted(
    body: &ToolsBody,
    route: &str,
    tools: Option<&Vec<String>>,
    sha256: Option<&str>,
    unseen: bool,
) -> Result<Vec<ApprovedTool>, AdminError> {
    let usage = |message: String| Err(AdminError::Usage(message));
    let Some(server) = body.servers.first() else {
        return usage(format!("no route {} has `pin`: `adit tools list` shows all", plain(route)));
    };
    let approved =
        |tool: &ListedTool| ApprovedTool { kind: tool.kind, name: tool.name.clone(), sha256: tool.sha256.clone() };
    let Some(tools) = tools else {
        let pending = || server.tools.iter().filter(|tool| is_pending(tool));
        if let Some((tool, why)) = pending().find_map(|tool| Some((tool, unshown(tool)?))) {
            return usage(format!(
                "{}: {why}. Nothing is approved: name the tools instead of --all",
                plain(&tool.name)
            ));
        }
        if sha256.is_some_and(|digits| !digest_of_all(pending()).eq_ignore_ascii_case(digits)) {
            return usage("the tools are others by now: look at `adit tools diff` again".to_owned());
        }
        return Ok(pending().map(approved).collect());
    };
    if sha256.is_some_and(|digits| digits.len() != DIGITS) || (sha256.is_some() && tools.len() != 1) {
        return usage(format!("--sha256 is for one tool, and has {DIGITS} digits"));
    }
    let mut wanted = Vec::new();
    for name in tools {
        let Some(tool) = server.tools.iter().find(|tool| tool.name == *name) else {
            return usage(format!(
                "no list of {} has named this: {}; --kind says what it is",
                plain(route),
                plain(name)
            ));
        };
        if let Some(why) = unshown(tool).filter(|_| tool.standing == StandingName::Unreadable) {
            return usage(format!("{}: {why}: until then nobody can approve it", plain(name)));
        }
        if sha256.is_some_and(|digits| !tool.sha256.eq_ignore_ascii_case(digits)) {
            return usage(format!("{} has another definition by now: look at `adit tools diff` again", plain(name)));
        }
        if let Some(why) = unshown(tool).filter(|_| !unseen) {
            return usage(format!("{}: {why}. --unseen approves what you know from elsewhere", plain(name)));
        }
        wanted.push(approved(tool));
    }
    Ok(wanted)
}

fn kind_name(kind: OfferName) -> &'static str {
    match kind {
        OfferName::Tool => "tool",
        OfferName::Prompt => "prompt",
        OfferName::Resource => "resource",
        OfferName::Template => "template",
    }
}

fn is_of(tool: &ListedTool, kind: Option<OfferArg>) -> bool {
    kind.is_none_or(|kind| match kind {
        OfferArg::Tool => tool.kind == OfferName::Tool,
        OfferArg::Prompt => tool.kind == OfferName::Prompt,
        OfferArg::Resource => tool.kind == OfferName::Resource,
        OfferArg::Template => tool.kind == OfferName::Template,
    })
}

/// A name with what it is of; the name alone is a tool.
fn titled(kind: OfferName, name: &str) -> String {
    let name = plain(name);
    if kind == OfferName::Tool { name } else { format!("{} {name}", kind_name(kind)) }
}

fn is_pending(tool: &ListedTool) -> bool {
    tool.standing != StandingName::Approved
}

fn standing(tool: &ListedTool) -> &'static str {
    match tool.standing {
        StandingName::New => "new",
        StandingName::Changed => "changed",
        StandingName::Approved => "approved",
        StandingName::Unreadable => "unreadable",
    }
}

/// The digest of the names and digests of tools.
fn digest_of_all<'a>(tools: impl Iterator<Item = &'a ListedTool>) -> String {
    let all: Vec<_> = tools.map(|tool| (kind_name(tool.kind), &*tool.name, &*tool.sha256)).collect();
    hex(&sha256(serde_json::json!(all).to_string().as_bytes()))
}

/// Why nobody can look at a definition, if it is so.
fn unshown(tool: &ListedTool) -> Option<&'static str> {
    match (tool.standing, &tool.definition) {
        (StandingName::Unreadable, _) => Some("its definition can be read in two ways, which the server has to mend"),
        (_, None) => Some(
            "its definition cannot be shown: it has more than 64 KiB, or those of the server or of all servers take all \
             memory that there is for them",
        ),
        _ => None,
    }
}

fn listed(ToolsBody { servers, alike }: &ToolsBody) -> String {
    let mut table =
        Table::new(["ROUTE", "KIND", "NAME", "STANDING", "PIN", "SHA-256", "FIRST SEEN", "LAST SEEN", "APPROVED"]);
    for ServerToolsInfo { route, pin, tools, .. } in servers {
        for tool in tools {
            table.row([
                plain(route),
                kind_name(tool.kind).to_owned(),
                plain(&tool.name),
                standing(tool).to_owned(),
                match pin {
                    PinName::Warn => "warn".to_owned(),
                    PinName::Quarantine => "quarantine".to_owned(),
                },
                plain(&tool.sha256),
                plain(&tool.first_seen_at),
                plain(&tool.last_seen_at),
                tool.approved_at.as_deref().map_or(NONE.to_owned(), plain),
            ]);
        }
    }
    let mut text = table.text("no route has `pin`, or no list has passed yet");
    for AlikeTools { same_name, tools } in alike {
        let names: Vec<String> =
            tools.iter().map(|tool| format!("{} of {}", titled(tool.kind, &tool.tool), plain(&tool.route))).collect();
        let what = if *same_name { "has the same name as" } else { "looks like" };
        text.push_str(&format!("note: {}\n", names.join(&format!(" {what} "))));
    }
    for server in servers.iter().filter(|server| server.left_out > 0) {
        let route = plain(&server.route);
        text.push_str(&format!(
            "note: there is no room for all that {route} offers: some is not known, and counts as new\n"
        ));
    }
    text
}

fn compared(args: &ToolsArgs, body: &ToolsBody, is_all: bool, of: Option<OfferArg>) -> String {
    let mut text = String::new();
    for ServerToolsInfo { route, tools, .. } in &body.servers {
        for tool in tools {
            text.push_str(&format!("{} of {}: {}\n", titled(tool.kind, &tool.name), plain(route), standing(tool)));
            if let Some(why) = unshown(tool) {
                text.push_str(&format!("  {why}; its SHA-256 is {}\n\n", plain(&tool.sha256)));
                continue;
            }
            if tool.approved_sha256.is_some() && tool.approved_definition.is_none() {
                text.push_str("  what was approved was not kept, so that all of it is shown as new\n");
            }
            text.push_str(&changes(tool.approved_definition.as_deref(), tool.definition.as_deref()));
            if !CommandLine::can_have(&tool.name) {
                text.push_str("  no command line can have its name: approve it through the admin API\n\n");
                continue;
            }
            let approve = CommandLine::new("adit tools approve");
            let approve = match tool.kind {
                OfferName::Tool => approve,
                kind => approve.flag("--kind", kind_name(kind)),
            };
            let approve = approve.flag("--sha256", &tool.sha256).admin(&args.admin);
            text.push_str(&format!("  {}\n\n", approve.operands(&[route, &tool.name])));
        }
        if is_all && tools.len() > 1 && tools.iter().all(|tool| unshown(tool).is_none()) {
            let approve = CommandLine::new("adit tools approve --all").flag("--sha256", &digest_of_all(tools.iter()));
            let approve = match of {
                Some(of) => {
                    approve.flag("--kind", of.to_possible_value().as_ref().map_or("tool", |value| value.get_name()))
                }
                None => approve,
            };
            let approve = approve.admin(&args.admin).operands(&[route]);
            text.push_str(&format!("all of {}, as shown here:\n  {approve}\n\n", plain(route)));
        }
    }
    if text.is_empty() { "nothing is new or has changed\n".to_owned() } else { text }
}

/// What has changed in a definition, line by line.
fn changes(before: Option<&str>, now: Option<&str>) -> String {
    let (before, now) = (before.map(broken).unwrap_or_default(), now.map(broken).unwrap_or_default());
    let mut options = DiffOptions::new();
    // The definition is shown whole.
    options.set_context_len(usize::MAX);
    let mut text = String::new();
    for line in options.create_patch(&before, &now).hunks().iter().flat_map(|hunk| hunk.lines()) {
        let (sign, line) = match line {
            Line::Delete(line) => ('-', line),
            Line::Insert(line) => ('+', line),
            Line::Context(line) => (' ', line),
        };
        text.push_str(&format!("  {sign} {}\n", plain_quoted(line.trim_end_matches('\n'))));
    }
    text
}

/// A text in canonical form, broken into lines. Nothing else of it changes, so that what is shown is what the digest is of.
fn broken(text: &str) -> String {
    let (mut out, mut depth, mut is_text, mut is_escaped) = (String::new(), 0_usize, false, false);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if is_text {
            out.push(c);
            (is_text, is_escaped) = (is_escaped || c != '"', !is_escaped && c == '\\');
            continue;
        }
        match c {
            '{' | '[' => {
                out.push(c);
                if let Some(end) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            _ => {
                is_text = c == '"';
                out.push(c);
            }
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::admin_args::AdminArgs;
    use crate::cli::args::{Cli, Command};

    fn tool(name: &str, standing: StandingName, sha256: &str) -> ListedTool {
        let definition = (standing != StandingName::Unreadable).then(|| format!("{{\"name\":\"{name}\"}}"));
        ListedTool {
            kind: OfferName::Tool,
            name: name.to_owned(),
            standing,
            sha256: sha256.repeat(64),
            first_seen_at: "2026-07-28T12:00:00Z".to_owned(),
            last_seen_at: "2026-07-28T12:00:00Z".to_owned(),
            approved_sha256: None,
            approved_at: None,
            definition,
            approved_definition: None,
        }
    }

    fn body(tools: Vec<ListedTool>) -> ToolsBody {
        let server = ServerToolsInfo {
            route: "a.test".to_owned(),
            upstream: "http://a".to_owned(),
            pin: PinName::Quarantine,
            left_out: 0,
            tools,
        };
        ToolsBody { servers: vec![server], alike: Vec::new() }
    }

    #[test]
    fn only_the_displayed_tool_is_approved() {
        let all = body(vec![
            tool("a", StandingName::New, "0"),
            tool("b", StandingName::Approved, "1"),
            tool("c", StandingName::Changed, "2"),
        ]);
        let names = |tools: Option<&[&str]>, sha256: Option<&str>| {
            let tools = tools.map(|tools| tools.iter().map(|name| (*name).to_owned()).collect());
            let wanted = wanted(&all, "a.test", tools.as_ref(), sha256, false);
            wanted.map(|wanted| wanted.into_iter().map(|tool| tool.name).collect::<Vec<_>>()).map_err(|e| e.to_string())
        };
        assert_eq!(names(None, None).unwrap(), ["a", "c"]);
        assert_eq!(names(Some(&["c", "a"]), None).unwrap(), ["c", "a"]);
        assert_eq!(names(Some(&["c"]), Some(&"2".repeat(64))).unwrap(), ["c"]);
        assert!(names(Some(&["c"]), Some(&"23".repeat(32))).unwrap_err().contains("another definition"));
        assert!(
            names(Some(&["c"]), Some(&"2".repeat(63))).unwrap_err().contains("64 digits"),
            "a start is found for another one too"
        );
        assert!(names(Some(&["c", "a"]), Some(&"2".repeat(64))).unwrap_err().contains("one tool"));
        assert!(names(Some(&["d"]), None).unwrap_err().contains("no list"));
        assert!(wanted(&ToolsBody::default(), "b.test", None, None, false).is_err());
    }

    #[test]
    fn changes_are_shown_line_by_line_and_nothing_reaches_the_terminal() {
        let shown = changes(
            Some(r#"{"description":"adds","name":"a"}"#),
            Some("{\"description\":\"adds \u{202e}x\",\"name\":\"a\"}"),
        );
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[1], "  -   \"description\": \"adds\",");
        assert_eq!(lines[2], "  +   \"description\": \"adds \\u{202e}x\",", "{shown}");
        assert_eq!(lines[3], "      \"name\": \"a\"");
        assert!(changes(None, Some("{}")).starts_with("  + {"));
    }

    #[test]
    fn all_are_approved_as_they_were_shown() {
        let mut all = body(vec![tool("a", StandingName::New, "0"), tool("c", StandingName::Changed, "2")]);
        let shown = digest_of_all(all.servers[0].tools.iter());
        assert_eq!(wanted(&all, "a.test", None, Some(&shown), false).unwrap().len(), 2);
        all.servers[0].tools[1].sha256 = "3".repeat(64);
        assert!(wanted(&all, "a.test", None, Some(&shown), false).unwrap_err().to_string().contains("others by now"));
    }

    #[test]
    fn an_undisplayable_tool_is_approved_only_by_name_and_flag() {
        let mut all = body(vec![tool("a", StandingName::New, "0"), tool("b", StandingName::New, "1")]);
        all.servers[0].tools[1].definition = None;
        let b = vec!["b".to_owned()];
        for (tools, unseen) in [(None, false), (None, true), (Some(&b), false)] {
            let refused = wanted(&all, "a.test", tools, None, unseen).unwrap_err().to_string();
            assert!(refused.contains("64 KiB"), "{refused}");
        }
        assert_eq!(wanted(&all, "a.test", Some(&b), None, true).unwrap()[0].name, "b");
        all.servers[0].tools[1].standing = StandingName::Unreadable;
        let by_name = wanted(&all, "a.test", Some(&b), None, true).unwrap_err().to_string();
        assert!(by_name.contains("nobody can approve it") && !by_name.contains("--unseen"), "{by_name}");
        let refused = wanted(&all, "a.test", None, None, true).unwrap_err().to_string();
        assert!(refused.contains("two ways"), "{refused}");
    }

    #[test]
    fn printed_approve_commands_quote_any_tool_name() {
        let names = ["add", "--all", "--admin=http://x", "-h", "a b'c", "a\u{202e}\u{200b}\u{e0041}%s\\", "a\nb"];
        let all = body(names.iter().map(|name| tool(name, StandingName::New, "0")).collect());
        let admin = AdminArgs { admin: Some("http://127.0.0.1:1".to_owned()), ..AdminArgs::default() };
        let args = ToolsArgs { admin, command: ToolsCommand::Diff { route: None, tool: None, kind: None } };
        let shown = compared(&args, &all, true, None);
        assert!(!shown.contains(['\u{202e}', '\u{200b}', '\u{e0041}']), "{shown}");
        let commands: Vec<&str> = shown.lines().filter(|line| line.starts_with("  adit ")).collect();
        let parsed = |line: &str| {
            let split = format!("for word in {line}; do printf '%s\\0' \"$word\"; done");
            let words = std::process::Command::new("sh").args(["-c", &split]).output().unwrap().stdout;
            let words = String::from_utf8(words).unwrap();
            let command =
                Cli::try_parse_from(words.trim_end_matches('\0').split('\0')).unwrap_or_else(|e| panic!("{line}: {e}"));
            let Command::Tools(args) = command.command else { panic!("{line}") };
            assert_eq!(args.admin.admin.as_deref(), Some("http://127.0.0.1:1"), "{line}");
            args.command
        };
        for (line, name) in commands.iter().zip(names) {
            let ToolsCommand::Approve { route, tools, all, sha256, .. } = parsed(line) else { panic!("{line}") };
            assert_eq!(
                (&*route, &*tools, all, sha256),
                ("a.test", &[name.to_owned()][..], false, Some("0".repeat(64)))
            );
        }
        assert_eq!(commands.len(), names.len() + 1);
        let ToolsCommand::Approve { tools, all: true, sha256, .. } = parsed(commands[names.len()]) else { panic!() };
        assert_eq!((tools.len(), sha256), (0, Some(digest_of_all(all.servers[0].tools.iter()))));
        let other = compared(&args, &body(vec![tool("a\n", StandingName::New, "0")]), true, None);
        assert!(other.contains("through the admin API") && !other.contains("adit tools approve"), "{other}");
    }

    #[test]
    fn numbers_are_shown_as_the_server_writes_them() {
        let shown =
            changes(Some(r#"{"a":[1.0,{}],"b":"x"}"#), Some(r#"{"a":[1.00000000000000000001,{}],"b":"{\",[\\"}"#));
        assert!(shown.contains("-     1.0,\n") && shown.contains("+     1.00000000000000000001,\n"), "{shown}");
        assert!(shown.contains("+   \"b\": \"{\\\",[\\\\\"\n"), "{shown}");
        assert_eq!(broken(r#"{"maximum":1e400}"#), "{\n  \"maximum\": 1e400\n}\n");
    }
}
