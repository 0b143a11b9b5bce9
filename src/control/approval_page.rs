//! The page on which somebody decides about a call. It loads nothing and runs no script.

use std::fmt::Write;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::base::{html_text, printable, printable_quoted, sha256};
use crate::control::bodies::{ApprovalInfo, ApprovalStateName};
use crate::policy::redacted_arguments;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}\
h1{font-size:1.4rem}dl{display:grid;grid-template-columns:max-content 1fr;gap:.4rem 1rem}dt{color:#57606a}dd{margin:0;overflow-wrap:anywhere}\
pre{margin:0;padding:.6rem;background:#f3f5f7;white-space:pre-wrap;overflow-wrap:anywhere;max-height:24rem;overflow:auto}\
label{display:block;margin:.8rem 0 .2rem}input{font:inherit;width:100%;box-sizing:border-box;padding:.4rem}\
button{font:inherit;margin:1.2rem .8rem 0 0;padding:.5rem 1.4rem;border:1px solid #57606a;border-radius:.3rem;cursor:pointer;background:#fff;color:#1b1f24}\
button[value=approve]{background:#176636;border-color:#176636;color:#fff}small{color:#57606a}\
@media(prefers-color-scheme:dark){body{color:#e4e7eb;background:#14171a}dt,small{color:#9aa4af}pre{background:#20252a}\
input,button{background:#20252a;color:#e4e7eb;border:1px solid #57606a}}";

/// The policy of the page for browsers: its own style sheet, a form to itself, and nothing else.
pub(super) static PAGE_POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(sha256(STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
});

/// The page of a call: what is called, and the form with which to decide while it waits.
pub(super) fn call_page(call: &ApprovalInfo, shows_arguments: bool) -> String {
    let mut out = match call.state {
        ApprovalStateName::Waiting => begin("A call waits for your decision"),
        ApprovalStateName::Approved => begin("The call is approved"),
        ApprovalStateName::Denied => begin("The call is denied"),
    };
    if let Some(by) = &call.by {
        let _ = writeln!(out, "<p>Decided by {}.</p>", shown(by));
    }
    out.push_str("<dl>");
    for (title, text) in [
        ("Caller", &call.caller),
        ("Server", &call.host),
        ("Method", &call.method),
        ("Name", &call.name),
        ("Rule", &call.rule),
        ("Asked at", &call.asked_at),
        ("Ticket", &call.ticket),
    ] {
        let _ = writeln!(out, "<dt>{title}</dt><dd>{}</dd>", shown(text));
    }
    let _ = writeln!(out, "<dt>Arguments</dt><dd>{}</dd>", arguments(call, shows_arguments));
    let _ = writeln!(out, "<dt>Ends in</dt><dd>{}</dd></dl>", time_left(call.ends_in_s));
    match call.state {
        ApprovalStateName::Waiting => out.push_str(FORM),
        ApprovalStateName::Approved => out.push_str("<p>Its caller may make it once before that.</p>\n"),
        ApprovalStateName::Denied => out.push_str("<p>Until then its caller is told that it was denied.</p>\n"),
    }
    end(out)
}

const FORM: &str = "<form method=\"post\">\
<label for=\"by\">Your name (optional; it is logged as not proven)</label><input id=\"by\" name=\"by\" maxlength=\"80\" autocomplete=\"name\">\
<label for=\"reason\">Reason (optional)</label><input id=\"reason\" name=\"reason\" maxlength=\"500\" autocomplete=\"off\">\
<button name=\"decision\" value=\"approve\">Approve once</button><button name=\"decision\" value=\"deny\">Deny</button></form>\n\
<p><small>Whoever has this link can decide about this call, once. Do not forward it.</small></p>\n";

/// A page that says one thing.
pub(super) fn plain_page(title: &str, text: &str) -> String {
    let mut out = begin(title);
    let _ = writeln!(out, "<p>{}</p>", html_text(text));
    end(out)
}

fn begin(title: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"robots\" content=\"noindex\"><title>adit: {title}</title><style>{STYLE}</style>\n<h1>{title}</h1>\n"
    )
}

fn end(mut out: String) -> String {
    out.push_str("</html>\n");
    out
}

/// A text that a caller, a server or an approver has chosen.
fn shown(text: &str) -> String {
    html_text(&printable(text))
}

fn arguments(call: &ApprovalInfo, shows_arguments: bool) -> String {
    let Some(bytes) = call.argument_bytes else { return "none".to_owned() };
    let digest = format!("{bytes} bytes, SHA-256 {}", shown(call.argument_sha256.as_deref().unwrap_or_default()));
    let text = call.arguments.as_ref().filter(|_| shows_arguments).map(|text| redacted_arguments(text));
    match (text, shows_arguments) {
        (Some(Some(text)), _) => format!("<pre>{}</pre><small>{digest}</small>", html_text(&printable_quoted(&text))),
        (_, true) => format!("{digest}<br><small>They are too long to be shown.</small>"),
        (_, false) => {
            format!("{digest}<br><small>The operator shows them with <code>adit approvals list</code> only.</small>")
        }
    }
}

fn time_left(s: u64) -> String {
    match s {
        s if s < 120 => format!("{s} seconds"),
        s if s < 7_200 => format!("{} minutes", s / 60),
        s => format!("{} hours", s / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> ApprovalInfo {
        ApprovalInfo {
            ticket: "apr_1".to_owned(),
            state: ApprovalStateName::Waiting,
            by: None,
            host: "a.test".to_owned(),
            rule: "refunds".to_owned(),
            caller: "<b>ali\u{202e}ce</b>".to_owned(),
            method: "tools/call".to_owned(),
            name: "\"><script>x</script>".to_owned(),
            arguments: Some(
                r#"{"api_key":"AKIAIOSFODNN7EXAMPLE","card":"4111 1111 1111 1111","note":"</pre><img>"}"#.to_owned(),
            ),
            argument_bytes: Some(12),
            argument_sha256: Some("ab".to_owned()),
            asked_at: "2026-07-28T12:00:00Z".to_owned(),
            ends_in_s: 70,
        }
    }

    #[test]
    fn text_of_callers_is_escaped_on_the_page() {
        let page = call_page(&call(), true);
        assert!(
            page.contains("&lt;b&gt;ali\\u{202e}ce&lt;/b&gt;") && page.contains("&lt;/pre&gt;&lt;img&gt;"),
            "{page}"
        );
        assert!(!page.contains("<script") && !page.contains("<b>") && !page.contains("<img") && !page.contains("src="));
        assert!(page.contains("<form method=\"post\">") && page.contains("70 seconds"));
    }

    #[test]
    fn arguments_are_shown_redacted_and_only_if_enabled() {
        let page = call_page(&call(), true);
        assert!(page.contains("[redacted:secret]") && page.contains("[redacted:card]"), "{page}");
        assert!(!page.contains("AKIA") && !page.contains("4111") && page.contains("12 bytes, SHA-256 ab"), "{page}");
        let hidden = call_page(&call(), false);
        assert!(!hidden.contains("note") && hidden.contains("12 bytes, SHA-256 ab"), "{hidden}");
        let unreadable = ApprovalInfo { arguments: Some("{\"a\":".to_owned()), ..call() };
        assert!(!call_page(&unreadable, true).contains("{&quot;a"));
        let long = ApprovalInfo { arguments: None, ..call() };
        assert!(call_page(&long, true).contains("too long"));
    }

    #[test]
    fn a_call_that_was_decided_has_no_form() {
        let decided = ApprovalInfo { state: ApprovalStateName::Denied, by: Some("bob <x>".to_owned()), ..call() };
        let page = call_page(&decided, false);
        assert!(!page.contains("<form") && page.contains("Decided by bob &lt;x&gt;."), "{page}");
    }

    #[test]
    fn the_policy_of_the_page_allows_its_style_sheet_and_no_script() {
        let policy = &**PAGE_POLICY;
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("script"));
        assert!(!policy.contains("unsafe") && !STYLE.contains('\n'));
    }
}
