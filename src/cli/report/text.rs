//! A report for a terminal.

use crate::cli::call_text::plain;
use crate::cli::report::model::{Offered, ServerReport, ToolReport};

/// The most tools of a server that are named where they stand in a line.
pub(super) const NAMED_MAX: usize = 12;

/// The whole report as lines.
pub(super) fn text(report: &ToolReport) -> String {
    let ToolReport { made_at, since, audit, servers, alike, gaps } = report;
    let mut out = format!("Report of {made_at}, of calls since {since}; audit.mode is {audit}\n");
    for server in servers {
        out.push('\n');
        out.push_str(&of_server(server));
    }
    for line in alike {
        out.push_str(&format!("\nMay be taken for each other: {}\n", plain(line)));
    }
    for gap in gaps {
        out.push_str(&format!("\nNot known: {}\n", plain(gap)));
    }
    out
}

fn of_server(server: &ServerReport) -> String {
    let mut out = plain(&server.route);
    if !server.upstream.is_empty() {
        out.push_str(&format!(" ({})", plain(&server.upstream)));
    }
    let last = server.last_call.as_deref().map(|time| format!(", the last one {}", plain(time))).unwrap_or_default();
    out.push_str(&format!("\n  called        {} times, {} denied{last}\n", server.calls, server.denied));
    if server.callers_count > 0 {
        let names: Vec<String> =
            server.callers.iter().map(|caller| format!("{} ({})", plain(&caller.name), caller.calls)).collect();
        let more = server.callers_count - names.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        out.push_str(&format!("  by            {}{more}\n", names.join(", ")));
    }
    let called = server.tools.iter().filter(|tool| tool.calls > 0);
    let called: Vec<String> = called.map(|tool| format!("{} ({})", plain(&tool.name), tool.calls)).collect();
    if !called.is_empty() {
        out.push_str(&format!("  tools called  {}\n", shortened(&called)));
    }
    out.push_str(&format!("  not approved  {}\n", unapproved(server)));
    if !server.others.is_empty() {
        out.push_str(&format!("  offers also   {}\n", others(server)));
    }
    for notice in &server.notices {
        out.push_str(&format!("  {:13} {}\n", if notice.is_good { "noticed" } else { "NOT NOTICED" }, notice.what));
    }
    out
}

/// What can be called that nobody has approved, in words.
pub(super) fn unapproved(server: &ServerReport) -> String {
    let names: Vec<String> = server.unapproved.iter().map(|name| plain(name)).collect();
    match (server.is_inventoried, names.is_empty()) {
        (true, true) => "nothing that could be called".to_owned(),
        (true, false) => format!("{} tools can be called: {}", names.len(), shortened(&names)),
        (false, true) => "not known: nothing is inventoried".to_owned(),
        (false, false) => format!("whatever the server offers; called were {}", shortened(&names)),
    }
}

/// What the server offers besides tools, in words.
pub(super) fn others(server: &ServerReport) -> String {
    let line_of = |offered: &Offered| {
        let plural = if offered.count == 1 { "" } else { "s" };
        format!("{} {}{plural}, {} of them not approved", offered.count, offered.kind, offered.unapproved)
    };
    server.others.iter().map(line_of).collect::<Vec<_>>().join("; ")
}

fn shortened(names: &[String]) -> String {
    match names.len().checked_sub(NAMED_MAX) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..NAMED_MAX].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::report::model::{Count, Notice, ToolUse};

    #[test]
    fn a_server_takes_a_few_lines() {
        let mut server = ServerReport {
            route: "a.test".to_owned(),
            upstream: "http://a".to_owned(),
            calls: 3,
            callers: vec![Count { name: "al\u{1b}ice".to_owned(), calls: 3 }],
            callers_count: 2,
            tools: vec![ToolUse { name: "get".to_owned(), calls: 3, ..ToolUse::default() }],
            unapproved: (0..14).map(|nth| format!("t{nth}")).collect(),
            is_inventoried: true,
            others: vec![Offered { kind: "prompt", count: 2, unapproved: 1 }],
            notices: vec![Notice { is_good: false, what: "nobody".to_owned() }],
            ..ServerReport::default()
        };
        let text = of_server(&server);
        assert!(text.contains("by            al\\u{1b}ice (3) and 1 more\n"), "{text}");
        assert!(text.contains("14 tools can be called: t0, t1") && text.contains("t11 and 2 more"), "{text}");
        assert!(text.contains("NOT NOTICED   nobody"), "{text}");
        assert!(text.contains("offers also   2 prompts, 1 of them not approved\n"), "{text}");
        server.unapproved.clear();
        assert_eq!(unapproved(&server), "nothing that could be called");
    }
}
