//! What lists show, and what is decided by URIs.

use serde_json::json;

use super::{Caller, policy_of};
use crate::policy::tools::decision::{Asked, Denial, Target, ToolDecision};

#[test]
fn lists_show_tools_that_some_arguments_allow() {
    let sees = |cedar: &str| !Caller::default().sees(&policy_of("", cedar), &["t"]).is_empty();
    let permit = |condition: &str| format!("permit(principal, action, resource is Tool) when {{ {condition} }};");
    for condition in [
        "context.arguments.a == 1",
        "!(context.arguments.a == 1)",
        "context.arguments.a == 1 || principal is User",
        "if context.arguments has a then context.arguments.a == 1 else false",
        "if principal is User then false else context.arguments.a == 1",
        "context.arguments has a && context.arguments.a == 1 && resource.name == \"t\"",
        "context has arguments && context.arguments has a",
        "!(context.arguments.a == 1 && resource.name == \"t\")",
    ] {
        assert!(sees(&permit(condition)), "{condition}");
    }
    for condition in [
        "context.arguments.a == 1 && principal is User",
        "!(context.arguments.a == 1 || principal is Anonymous)",
        "if context.arguments has a then false else principal is User",
        "if principal is Anonymous then false else context.arguments.a == 1",
    ] {
        assert!(!sees(&permit(condition)), "{condition}");
    }
    let all = "permit(principal, action, resource);";
    let forbid = |condition: &str| format!("{all}forbid(principal, action, resource) when {{ {condition} }};");
    assert!(sees(&forbid("context.arguments.a == 1")), "not with other arguments");
    assert!(!sees(&forbid("context.arguments.a == 1 || principal is Anonymous")));
    assert!(sees(&format!("{all}forbid(principal, action, resource) unless {{ context.arguments has a }};")));
    // A failure that no arguments can change hides, one that they can does not.
    let fails = "context.time.seconds + 9223372036854775807 > 0";
    let policy = |condition: &str| policy_of("", &forbid(condition));
    let late = Caller { unix_s: 1, ..Caller::default() };
    assert!(late.sees(&policy(fails), &["t"]).is_empty());
    let hidden = late.asks(&policy(fails), &Asked::tool("t"), "{}").unwrap();
    assert!(matches!(hidden, ToolDecision::Denied { how: Denial::Unevaluated(_), .. }), "{hidden:?}");
    assert_eq!((hidden.limit(), hidden.rule().map(|rule| &*rule.name)), (Some("evaluation"), Some("cedar#2")));
    let guarded = policy(&format!("context.arguments has a && {fails}"));
    assert_eq!(late.sees(&guarded, &["t"]), ["t"]);
    assert!(late.may_call(&guarded, "t", "{}") && !late.may_call(&guarded, "t", "{\"a\": 1}"));
}

#[test]
fn resources_and_templates_are_decided_by_their_uris() {
    let cedar = "permit(principal, action == Action::\"resources/read\", resource is Resource)\n\
                 when { resource.uri like \"file:///docs/*\" };\n\
                 permit(principal, action, resource == Resource::\"file:///one\");\n\
                 forbid(principal, action, resource) when { resource has uri && resource.uri like \"*/secret*\" };";
    let policy = policy_of("", cedar);
    let caller = Caller::default();
    let may = |uri: &str, method: &'static str| {
        let asked = Asked { method, target: Target::Resource(uri) };
        caller.asks(&policy, &asked, "{}").unwrap().is_allowed()
    };
    for method in ["resources/read", "resources/subscribe", "resources/unsubscribe"] {
        assert!(may("file:///docs/a", method) && may("FILE:///docs/a", method) && may("file:///one", method));
        for uri in
            ["file:///two", "file:///docs/secret", "file:///docs/SECRET", "file:///docs/../x", "file:///docs/%73ecret"]
        {
            assert!(!may(uri, method), "{uri}");
        }
    }
    let uris = ["file:///docs/a", "file:///docs/secret", "file:///one", "file:///x"].map(|uri| json!({"uri": uri}));
    assert_eq!(caller.sees_in(&policy, "resources", "uri", &uris), ["file:///docs/a", "file:///one"]);
    let templates = |cedar: &str| {
        let list = ["file:///{name}", "db:///{table}"].map(|uri| json!({"uriTemplate": uri}));
        caller.sees_in(&policy_of("", cedar), "resourceTemplates", "uriTemplate", &list)
    };
    assert_eq!(templates("permit(principal, action, resource == Resource::\"file:///one\");"), ["file:///{name}"]);
    assert_eq!(templates(cedar), ["file:///{name}", "db:///{table}"], "a condition may hold for some of its URIs");
    assert!(templates("permit(principal is User, action, resource);").is_empty());
    assert!(templates("permit(principal, action, resource is Tool);").is_empty());
    assert_eq!(templates("forbid(principal, action, resource == Resource::\"file:///one\");").len(), 2);
    // A completion is a use of what it completes.
    let completes = |cedar: &str, target| {
        let asked = Asked { method: "completion/complete", target };
        caller.asks(&policy_of("", cedar), &asked, "{}").unwrap().is_allowed()
    };
    let cedar = "permit(principal, action == Action::\"prompts/get\", resource == Prompt::\"p\") when { context.arguments has a };";
    assert!(completes(cedar, Target::Prompt("p")) && !completes(cedar, Target::Prompt("q")));
    assert!(!completes(cedar, Target::Template("file:///{x}")));
}
