//! Ceilings and approvals of a connector that runs as users run it.

use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::time::Instant;

use serde_json::{Value, json};

use super::site::{Site, text_of};
use crate::process::{Adit, PATIENCE, command};

/// A connector with a policy, which can be started again.
struct Governed {
    site: Site,
    args: Vec<String>,
    token: PathBuf,
    log: PathBuf,
}

impl Governed {
    fn new() -> Governed {
        let site = Site::new("epoll");
        let made = site.create(&["--host", "a.test"]);
        let dir = site.data_dir().with_file_name("governed");
        fs::create_dir(&dir).unwrap();
        let (policy, log, token) = (dir.join("policy.toml"), dir.join("audit"), dir.join("admin.token"));
        let rules = "[[rule]]\nname = 'deletes'\neffect = 'approve'\ntools = ['delete_*']\n\
                     [[rule]]\nname = 'mails'\neffect = 'allow'\ntools = ['mail']\ncalls_per_day = 2\n";
        fs::write(&policy, rules).unwrap();
        adit::private::write(&token, b"0123456789abcdef0123456789abcdef").unwrap();
        let config = format!(
            "[connect]\nstate_dir = '{}'\nadmin_token_file = '{}'\n[audit]\nmode = 'required'\ndir = '{}'\n\
             [[route]]\nhost = 'a.test'\nupstream = 'http://{}'\npolicy_file = '{}'\n",
            dir.join("state").display(),
            token.display(),
            log.display(),
            site.upstream.address,
            policy.display()
        );
        let path = dir.join("connect.toml");
        adit::private::write(&path, config.as_bytes()).unwrap();
        let args = site.connector_args_of(&path, &made.token.tunnel_token);
        Governed { site, args, token, log }
    }

    /// Starts the connector, and returns it and where its admin API is.
    fn start(&self) -> (Adit, String) {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let connector = Adit::start(&args);
        let [started, _] = connector.events(["started", "linked"]);
        (connector, started["admin"].as_str().unwrap().to_owned())
    }

    fn approvals(&self, admin: &str, more: &[&str]) -> Output {
        let access = ["--json", "--admin", admin, "--admin-token-file", text_of(&self.token)];
        command(&[&["approvals"], more, &access].concat()).output().unwrap()
    }

    /// What the policy says of a call, once the edge has noticed that the connector was started again.
    fn said(&self, tool: &str) -> Value {
        let began = Instant::now();
        loop {
            let (status, answer) = self.site.call("a.test", tool);
            if status == 200 {
                return answer;
            }
            assert!(began.elapsed() < PATIENCE, "{status} {answer}");
        }
    }
}

#[test]
fn a_call_is_made_once_after_it_was_approved_and_a_day_goes_on_after_a_restart() {
    let governed = Governed::new();
    let Governed { site, log, .. } = &governed;
    let start = || governed.start();
    let (connector, admin) = start();
    let approvals = |more: &[&str]| governed.approvals(&admin, more);
    let listed = || serde_json::from_slice::<Value>(&approvals(&["list"]).stdout).unwrap();
    assert_eq!(listed(), json!([]));
    let (status, waits) = site.call("a.test", "delete_a");
    let data = &waits["error"]["data"];
    assert_eq!(
        (status, &data["reason"], &data["limit"]),
        (200, &json!("approval_needed"), &json!("approval")),
        "{waits}"
    );
    let ticket = data["ticket"].as_str().unwrap();
    assert_eq!(site.call("a.test", "delete_a").1["error"]["data"]["ticket"], ticket, "it is asked for once");
    let (one, all) = (&listed()[0], listed());
    assert_eq!((all.as_array().unwrap().len(), &one["ticket"], &one["state"]), (1, &json!(ticket), &json!("waiting")));
    assert_eq!((&one["name"], &one["host"], &one["rule"]), (&json!("delete_a"), &json!("a.test"), &json!("deletes")));

    let approved = approvals(&["approve", ticket, "--by", "bob", "--reason", "agreed"]);
    assert!(approved.status.success(), "{approved:?}");
    assert_eq!(listed()[0]["by"], "bob");
    let again = approvals(&["deny", ticket, "--by", "eve"]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stderr).contains("already"), "{again:?}");
    let (status, done) = site.call("a.test", "delete_a");
    assert!(status == 200 && done.get("result").is_some(), "{done}");
    let (_, waits) = site.call("a.test", "delete_a");
    assert_eq!(waits["error"]["data"]["reason"], "approval_needed", "it was approved once");
    assert!(approvals(&["deny", ticket, "--by", "eve"]).status.success());
    assert_eq!(site.call("a.test", "delete_a").1["error"]["data"]["reason"], "approval_denied");
    let nothing = approvals(&["approve", "apr_00000000000000000000000000000000", "--by", "bob"]);
    assert_eq!(nothing.status.code(), Some(1), "{nothing:?}");
    let refused = command(&["approvals", "list", "--admin", &admin]).output().unwrap();
    assert!(!refused.status.success(), "arguments are shown to nobody without the token: {refused:?}");

    assert_eq!(site.call("a.test", "mail").0, 200);
    connector.signal("TERM");
    assert_eq!(connector.ended(), Some(0));
    let (connector, _) = start();
    assert_eq!(site.call("a.test", "mail").0, 200);
    let (status, over) = site.call("a.test", "mail");
    assert_eq!((status, &over["error"]["data"]["reason"]), (429, &json!("day_budget_reached")), "{over}");
    connector.signal("TERM");
    assert_eq!(connector.ended(), Some(0));

    let query = |args: &[&str]| -> Vec<Value> {
        let done = site.run(&[&["audit", "query", "--json", text_of(log)], args].concat());
        String::from_utf8(done.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let calls = query(&["--rule", "deletes"]);
    let told: Vec<(&Value, Option<&Value>)> = calls.iter().map(|line| (&line["decision"], line.get("limit"))).collect();
    let (allowed, denied, limit) = (json!("allowed"), json!("denied"), json!("approval"));
    let waits = (&denied, Some(&limit));
    assert_eq!(told, [waits, waits, (&allowed, None), waits, waits], "{calls:?}");
    assert!(calls.iter().all(|line| line["approval"] == ticket), "{calls:?}");
    let actions: Vec<Value> = query(&[]).into_iter().filter(|line| line["kind"] == "action").collect();
    let told: Vec<[&Value; 3]> =
        actions.iter().map(|line| [&line["action"], &line["subject"], &line["reason"]]).collect();
    let (yes, no, ticket) = (json!("call.approved"), json!("call.denied"), json!(ticket));
    assert_eq!(told, [[&yes, &ticket, &json!("by bob: agreed")], [&no, &ticket, &json!("by eve")]]);
    let limits: Vec<Value> =
        query(&["--rule", "mails"]).into_iter().filter_map(|line| line.get("limit").cloned()).collect();
    assert_eq!(limits, [json!("calls_per_day")]);
}

#[test]
fn approvals_and_their_use_survive_a_process_that_is_killed() {
    let governed = Governed::new();
    let (connector, admin) = governed.start();
    let ticket = |tool: &str| governed.said(tool)["error"]["data"]["ticket"].as_str().unwrap().to_owned();
    let tickets = ["delete_a", "delete_b", "delete_c"].map(ticket);
    for (ticket, decision) in tickets.iter().zip(["approve", "approve", "deny"]) {
        assert!(governed.approvals(&admin, &[decision, ticket, "--by", "bob"]).status.success());
    }
    assert!(governed.said("delete_a").get("result").is_some());
    connector.signal("KILL");
    connector.ended();

    let (_connector, admin) = governed.start();
    let listed = governed.approvals(&admin, &["list"]).stdout;
    let mut listed: Vec<Value> = serde_json::from_slice(&listed).unwrap();
    listed.sort_by_key(|one| one["name"].to_string());
    let states: Vec<(&Value, &Value)> = listed.iter().map(|one| (&one["name"], &one["state"])).collect();
    let (approved, denied) = (json!("approved"), json!("denied"));
    assert_eq!(
        states,
        [(&json!("delete_b"), &approved), (&json!("delete_c"), &denied)],
        "decided before it was killed"
    );
    assert_eq!(governed.said("delete_a")["error"]["data"]["reason"], "approval_needed", "it was made before that");
    assert!(governed.said("delete_b").get("result").is_some());
    assert_eq!(governed.said("delete_b")["error"]["data"]["reason"], "approval_needed", "it was approved once");
    assert_eq!(governed.said("delete_c")["error"]["data"]["reason"], "approval_denied");
}
