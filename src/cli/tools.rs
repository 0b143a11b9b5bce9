//! `adit tools`.

use std::collections::BTreeMap;

use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use crate::cli::admin_client::{AdminClient, AdminError};
use crate::cli::call_text::{NONE, plain};
use crate::cli::command_line::CommandLine;
use crate::cli::table::Table;
use crate::cli::tools_args::{ToolsArgs, ToolsCommand};
use crate::cli::tunnel::print_answer;
use crate::control::bodies::{
    AlikeTools, ApproveTools, ApprovedTool, ListedTool, PinName, ServerToolsInfo, StandingName, ToolsBody,
};

/// How many tools are approved with one request.
const APPROVED_AT_ONCE: usize = 100;
/// How many digits of a digest are shown.
const DIGITS_SHOWN: usize = 16;
/// How many digits of a digest are as good as all.
const DIGITS_MIN: usize = 12;

/// Runs `adit tools` and returns the exit code.
#[must_use]
pub fn run_tools(args: &ToolsArgs, env: &BTreeMap<String, String>) -> u8 {
    print_answer(run(args, env))
}

async fn run(args: &ToolsArgs, env: &BTreeMap<String, String>) -> Result<String, AdminError> {
    let url = args.admin.admin.as_deref();
    match &args.command {
        ToolsCommand::List { route, pending } => {
            let mut body = read(&AdminClient::without_token(url, env)?, route.as_deref(), false).await?;
            if *pending {
                body.servers.iter_mut().for_each(|server| server.tools.retain(is_pending));
            }
            Ok(if args.admin.json { format!("{:#}\n", serde_json::json!(body)) } else { listed(&body) })
        }
        ToolsCommand::Diff { route, tool } => {
            let mut body = read(&AdminClient::without_token(url, env)?, route.as_deref(), true).await?;
            for server in &mut body.servers {
                server.tools.retain(|known| is_pending(known) && tool.as_ref().is_none_or(|tool| known.name == *tool));
            }
            Ok(if args.admin.json { format!("{:#}\n", serde_json::json!(body.servers)) } else { compared(args, &body) })
        }
        ToolsCommand::Approve { route, tools, all, sha256, reason } => {
            let client = AdminClient::new(&args.admin, env)?;
            let body = read(&client, Some(route), false).await?;
            let wanted = wanted(&body, route, if *all { None } else { Some(tools) }, sha256.as_deref())?;
            let mut left = ToolsBody::default();
            for tools in wanted.chunks(APPROVED_AT_ONCE) {
                let wanted = ApproveTools { route: route.clone(), tools: tools.to_vec(), reason: reason.clone() };
                left = client.post(&["tools", "approve"], &wanted).await?;
            }
            if args.admin.json {
                return Ok(format!("{:#}\n", serde_json::json!(left.servers)));
            }
            let names = wanted.iter().map(|tool| format!("  {}  {}\n", short(&tool.sha256), plain(&tool.name)));
            let count = match wanted.len() {
                0 => return Ok("every tool is approved already\n".to_owned()),
                1 => "1 tool".to_owned(),
                count => format!("{count} tools"),
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
) -> Result<Vec<ApprovedTool>, AdminError> {
    let usage = |message: String| Err(AdminError::Usage(message));
    let Some(server) = body.servers.first() else {
        return usage(format!("no route {} has `pin`: `adit tools list` shows all", plain(route)));
    };
    let approved = |tool: &ListedTool| ApprovedTool { name: tool.name.clone(), sha256: tool.sha256.clone() };
    let Some(tools) = tools else {
        let can_be = |tool: &&ListedTool| is_pending(tool) && tool.standing != StandingName::Unreadable;
        return Ok(server.tools.iter().filter(can_be).map(approved).collect());
    };
    if sha256.is_some_and(|digits| digits.len() < DIGITS_MIN) || (sha256.is_some() && tools.len() != 1) {
        return usage(format!("--sha256 is for one tool, and has {DIGITS_MIN} digits or more"));
    }
    let mut wanted = Vec::new();
    for name in tools {
        let Some(tool) = server.tools.iter().find(|tool| tool.name == *name) else {
            return usage(format!("no list of {} has named a tool {}", plain(route), plain(name)));
        };
        if sha256.is_some_and(|digits| !tool.sha256.starts_with(&digits.to_ascii_lowercase())) {
            return usage(format!("{} has another definition by now: look at `adit tools diff` again", plain(name)));
        }
        wanted.push(approved(tool));
    }
    Ok(wanted)
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

fn short(digest: &str) -> String {
    plain(digest.get(..DIGITS_SHOWN).unwrap_or(digest))
}

fn listed(ToolsBody { servers, alike }: &ToolsBody) -> String {
    let mut table = Table::new(["ROUTE", "TOOL", "STANDING", "PIN", "SHA-256", "FIRST SEEN", "LAST SEEN", "APPROVED"]);
    for ServerToolsInfo { route, pin, tools, .. } in servers {
        for tool in tools {
            table.row([
                plain(route),
                plain(&tool.name),
                standing(tool).to_owned(),
                match pin {
                    PinName::Warn => "warn".to_owned(),
                    PinName::Quarantine => "quarantine".to_owned(),
                },
                short(&tool.sha256),
                plain(&tool.first_seen_at),
                plain(&tool.last_seen_at),
                tool.approved_at.as_deref().map_or(NONE.to_owned(), plain),
            ]);
        }
    }
    let mut text = table.text("no route has `pin`, or no list has passed yet");
    for AlikeTools { same_name, tools } in alike {
        let names: Vec<String> =
            tools.iter().map(|tool| format!("{} of {}", plain(&tool.tool), plain(&tool.route))).collect();
        let what = if *same_name { "has the same name as" } else { "looks like" };
        text.push_str(&format!("note: {}\n", names.join(&format!(" {what} "))));
    }
    for server in servers.iter().filter(|server| server.left_out > 0) {
        let route = plain(&server.route);
        text.push_str(&format!(
            "note: there is no room for all tools of {route}: some are not known, and count as new\n"
        ));
    }
    text
}

fn compared(args: &ToolsArgs, body: &ToolsBody) -> String {
    let mut text = String::new();
    for ServerToolsInfo { route, tools, .. } in &body.servers {
        for tool in tools {
            text.push_str(&format!("{} of {}: {}\n", plain(&tool.name), plain(route), standing(tool)));
            text.push_str(&changes(tool.approved_definition.as_deref(), tool.definition.as_deref()));
            let approve = CommandLine::new("adit tools approve").word(route).word(&tool.name);
            let approve = approve.flag("--sha256", &short(&tool.sha256)).admin(&args.admin);
            text.push_str(&format!("  {approve}\n\n"));
        }
    }
    if text.is_empty() { "no tool is new or has changed\n".to_owned() } else { text }
}

/// What has changed in a definition, line by line.
fn changes(before: Option<&str>, now: Option<&str>) -> String {
    let lines = |text: &str| -> Option<String> {
        let value: Value = serde_json::from_str(text).ok()?;
        Some(format!("{value:#}\n"))
    };
    let Some(now) = now.and_then(lines) else {
        return "  its definition is too long to be kept: only the digest is known\n".to_owned();
    };
    let before = before.and_then(lines).unwrap_or_default();
    let mut text = String::new();
    for change in TextDiff::from_lines(&before, &now).iter_all_changes() {
        let sign = match change.tag() {
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
            ChangeTag::Equal => ' ',
        };
        text.push_str(&format!("  {sign} {}\n", visible(change.value().trim_end_matches('\n'))));
    }
    text
}

/// A line of JSON, without what controls a terminal or is not seen there, which is what an attacker would put here.
fn visible(line: &str) -> String {
    let shown = |c: char| match c {
        '"' | '\\' | '\'' => c.to_string(),
        _ => c.escape_debug().to_string(),
    };
    line.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(name: &str, standing: StandingName, sha256: &str) -> ListedTool {
        ListedTool {
            name: name.to_owned(),
            standing,
            sha256: sha256.repeat(64),
            first_seen_at: "2026-07-28T12:00:00Z".to_owned(),
            last_seen_at: "2026-07-28T12:00:00Z".to_owned(),
            approved_sha256: None,
            approved_at: None,
            definition: None,
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
    fn what_is_approved_is_what_was_looked_at() {
        let all = body(vec![
            tool("a", StandingName::New, "0"),
            tool("b", StandingName::Approved, "1"),
            tool("c", StandingName::Changed, "2"),
        ]);
        let names = |tools: Option<&[&str]>, sha256| {
            let tools = tools.map(|tools| tools.iter().map(|name| (*name).to_owned()).collect());
            let wanted = wanted(&all, "a.test", tools.as_ref(), sha256);
            wanted.map(|wanted| wanted.into_iter().map(|tool| tool.name).collect::<Vec<_>>()).map_err(|e| e.to_string())
        };
        assert_eq!(names(None, None).unwrap(), ["a", "c"]);
        assert_eq!(names(Some(&["c", "a"]), None).unwrap(), ["c", "a"]);
        assert_eq!(names(Some(&["c"]), Some("222222222222")).unwrap(), ["c"]);
        assert!(names(Some(&["c"]), Some("222222222223")).unwrap_err().contains("another definition"));
        assert!(names(Some(&["c"]), Some("22")).unwrap_err().contains("12 digits"));
        assert!(names(Some(&["c", "a"]), Some("222222222222")).unwrap_err().contains("one tool"));
        assert!(names(Some(&["d"]), None).unwrap_err().contains("no list"));
        assert!(wanted(&ToolsBody::default(), "b.test", None, None).is_err());
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
        assert!(changes(None, None).contains("too long"));
        assert!(changes(None, Some("{}")).starts_with("  + {"));
    }
}
