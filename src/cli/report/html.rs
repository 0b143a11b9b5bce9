//! A report as one page that needs no other file, and runs no script.

use std::fmt::Write;

use crate::base::html_text;
use crate::cli::call_text::plain;
use crate::cli::report::model::{ServerReport, ToolReport};
use crate::cli::report::text::unapproved;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin:2rem 0 .3rem}table{border-collapse:collapse;width:100%}\
td,th{text-align:left;padding:.2rem .6rem;border-bottom:1px solid #d5d9de;vertical-align:top}\
.bad{color:#a11}.good{color:#176636}small{color:#57606a}\
@media(prefers-color-scheme:dark){body{color:#e4e7eb;background:#14171a}td,th{border-color:#3a4047}.bad{color:#ff8a80}.good{color:#7bd69a}small{color:#9aa4af}}";

/// The whole report as a page.
pub(super) fn html(report: &ToolReport) -> String {
    let ToolReport { made_at, since, audit, servers, alike, gaps } = report;
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>adit report</title><style>{STYLE}</style>\n<h1>What agents can call</h1>\n\
         <p><small>Made {}, of calls since {}. audit.mode is {audit}.</small></p>\n",
        escaped(made_at),
        escaped(since),
    );
    for server in servers {
        of_server(server, &mut out);
    }
    for (title, lines) in [("May be taken for each other", alike), ("Not known", gaps)] {
        if !lines.is_empty() {
            let _ = write!(out, "<h2>{title}</h2>\n<ul>");
            lines.iter().for_each(|line| out.push_str(&format!("<li>{}</li>", escaped(line))));
            out.push_str("</ul>\n");
        }
    }
    out.push_str("</html>\n");
    out
}

fn of_server(server: &ServerReport, out: &mut String) {
    let class = if server.unapproved.is_empty() && server.is_inventoried { "good" } else { "bad" };
    let callers = server.callers.iter().map(|caller| format!("{} ({})", escaped(&caller.name), caller.calls));
    let _ = writeln!(
        out,
        "<h2>{} <small>{}</small></h2>\n<p>Called {} times, {} denied, by {} callers{}{}.<br>\
         Not approved: <span class=\"{class}\">{}</span></p>",
        escaped(&server.route),
        escaped(&server.upstream),
        server.calls,
        server.denied,
        server.callers_count,
        if server.callers_count > 0 { ": " } else { "" },
        callers.collect::<Vec<_>>().join(", "),
        html_text(&unapproved(server)),
    );
    out.push_str("<ul>");
    for notice in &server.notices {
        let class = if notice.is_good { "good" } else { "bad" };
        out.push_str(&format!("<li class=\"{class}\">{}</li>", escaped(&notice.what)));
    }
    out.push_str("</ul>\n");
    if server.tools.is_empty() {
        return;
    }
    out.push_str("<table><tr><th>Tool</th><th>Standing</th><th>Calls</th><th>Denied</th></tr>\n");
    for tool in &server.tools {
        let class = if tool.standing == "approved" { "good" } else { "bad" };
        let _ = writeln!(
            out,
            "<tr><td>{}</td><td class=\"{class}\">{}</td><td>{}</td><td>{}</td></tr>",
            escaped(&tool.name),
            tool.standing,
            tool.calls,
            tool.denied,
        );
    }
    out.push_str("</table>\n");
}

/// A text that servers and agents may have chosen, as a page shows it.
fn escaped(text: &str) -> String {
    html_text(&plain(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::report::model::ToolUse;

    #[test]
    fn names_from_servers_are_escaped() {
        let tool = ToolUse { name: "<script>x</script>\u{202e}".to_owned(), standing: "new", ..ToolUse::default() };
        let unapproved = vec!["a\"<i>".to_owned()];
        let server =
            ServerReport { route: "a\"<b>".to_owned(), tools: vec![tool], unapproved, ..ServerReport::default() };
        let report = ToolReport {
            made_at: String::new(),
            since: String::new(),
            audit: "off",
            servers: vec![server],
            alike: vec!["a & b".to_owned()],
            gaps: Vec::new(),
        };
        let page = html(&report);
        assert!(page.contains("&lt;script&gt;x&lt;/script&gt;\\u{202e}") && page.contains("a &amp; b"), "{page}");
        assert!(page.contains("called were a\\&quot;&lt;i&gt;<"), "as in a table: {page}");
        assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
    }
}
