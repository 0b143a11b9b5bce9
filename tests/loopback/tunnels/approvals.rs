//! Ceilings and approvals of a connector that runs as users run it.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Instant;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::site::{Site, text_of};
use crate::clients::{Program, file, server};
use crate::conformance::setup::SetUp;
use crate::process::{Adit, PATIENCE, command};
use crate::support::read_message;

/// A connector with a policy, which can be started again.
struct Governed {
    site: Site,
    args: Vec<String>,
    token: PathBuf,
    log: PathBuf,
}

impl Governed {
    fn new(more: &str) -> Governed {
        let site = Site::new("epoll");
        let upstream = site.upstream.address;
        Governed::before(site, "a.test", upstream, more)
    }

    /// The same for another host and server.
    fn before(site: Site, host: &str, upstream: SocketAddr, more: &str) -> Governed {
        let made = site.create(&["--host", host]);
        let dir = site.data_dir().with_file_name("governed");
        fs::create_dir(&dir).unwrap();
        let (policy, log, token) = (dir.join("policy.toml"), dir.join("audit"), dir.join("admin.token"));
        let rules = "[[rule]]\nname = 'deletes'\neffect = 'approve'\ntools = ['delete_*', 'work']\n\
                     [[rule]]\nname = 'mails'\neffect = 'allow'\ntools = ['mail']\ncalls_per_day = 2\n";
        fs::write(&policy, rules).unwrap();
        adit::private::write(&token, b"0123456789abcdef0123456789abcdef").unwrap();
        adit::private::write(&dir.join("webhook.secret"), b"the secret of a webhook").unwrap();
        let config = format!(
            "[connect]\nstate_dir = '{}'\nadmin_token_file = '{}'\n[audit]\nmode = 'required'\ndir = '{}'\n\
             [[route]]\nhost = '{host}'\nupstream = 'http://{upstream}'\npolicy_file = '{}'\n{more}",
            dir.join("state").display(),
            token.display(),
            log.display(),
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
    fn call_until_answered(&self, tool: &str) -> Value {
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
    let governed = Governed::new("");
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
    let answer: Vec<(&Value, Option<&Value>)> =
        calls.iter().map(|line| (&line["decision"], line.get("limit"))).collect();
    let (allowed, denied, limit) = (json!("allowed"), json!("denied"), json!("approval"));
    let waits = (&denied, Some(&limit));
    assert_eq!(answer, [waits, waits, (&allowed, None), waits, waits], "{calls:?}");
    assert!(calls.iter().all(|line| line["approval"] == ticket), "{calls:?}");
    let actions: Vec<Value> = query(&[]).into_iter().filter(|line| line["kind"] == "action").collect();
    let answer: Vec<[&Value; 3]> =
        actions.iter().map(|line| [&line["action"], &line["subject"], &line["reason"]]).collect();
    let (yes, no, ticket) = (json!("call.approved"), json!("call.denied"), json!(ticket));
    assert_eq!(answer, [[&yes, &ticket, &json!("by bob: agreed")], [&no, &ticket, &json!("by eve")]]);
    let limits: Vec<Value> =
        query(&["--rule", "mails"]).into_iter().filter_map(|line| line.get("limit").cloned()).collect();
    assert_eq!(limits, [json!("calls_per_day")]);
}

#[test]
fn approvals_and_their_use_survive_a_process_that_is_killed() {
    let governed = Governed::new("");
    let (connector, admin) = governed.start();
    let ticket =
        |tool: &str| governed.call_until_answered(tool)["error"]["data"]["ticket"].as_str().unwrap().to_owned();
    let tickets = ["delete_a", "delete_b", "delete_c"].map(ticket);
    for (ticket, decision) in tickets.iter().zip(["approve", "approve", "deny"]) {
        assert!(governed.approvals(&admin, &[decision, ticket, "--by", "bob"]).status.success());
    }
    assert!(governed.call_until_answered("delete_a").get("result").is_some());
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
    assert_eq!(
        governed.call_until_answered("delete_a")["error"]["data"]["reason"],
        "approval_needed",
        "it was made before that"
    );
    assert!(governed.call_until_answered("delete_b").get("result").is_some());
    assert_eq!(
        governed.call_until_answered("delete_b")["error"]["data"]["reason"],
        "approval_needed",
        "it was approved once"
    );
    assert_eq!(governed.call_until_answered("delete_c")["error"]["data"]["reason"], "approval_denied");
}

/// A client of the Python SDK that handles tasks asks by itself, and makes the call again once it was approved.
#[test]
fn a_client_of_an_sdk_waits_for_an_approval_as_for_a_task() {
    let (_server, address) = server();
    let governed = Governed::before(Site::new("epoll"), "localhost", address, "");
    let (_connector, admin) = governed.start();
    let url = format!("http://localhost:{}/mcp", governed.site.agents.port());
    let mut client = Program::start(Command::new(&SetUp::get().python).arg(file("approved.py")).arg(url));
    for (decision, end) in [("approve", "done"), ("deny", "-31071")] {
        let ticket = client.line();
        let decided = governed.approvals(&admin, &[decision, &ticket, "--by", "bob"]);
        assert!(decided.status.success(), "{decided:?}");
        assert_eq!(client.line(), end);
    }
}

/// The settings that send notifications to this listener.
fn webhook(listener: &TcpListener, more: &str) -> String {
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    format!("[approvals]\nwebhook_url = '{url}'\nwebhook_secret_file = 'webhook.secret'\n{more}")
}

/// The next notification, which is accepted.
fn notified(listener: &TcpListener) -> String {
    let (mut socket, _) = listener.accept().unwrap();
    let message = read_message(&mut socket);
    socket.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").unwrap();
    message
}

#[test]
fn a_webhook_reports_a_pending_call() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let governed = Governed::new(&webhook(&listener, ""));
    let _connector = governed.start();
    let ticket = governed.call_until_answered("delete_a")["error"]["data"]["ticket"].as_str().unwrap().to_owned();
    let message = notified(&listener);
    let (head, body) = message.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /hook HTTP/1.1\r\n"), "{head}");
    let field = |name: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).unwrap().1
    };
    let (id, time) = (field("webhook-id"), field("webhook-timestamp"));
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"the secret of a webhook");
    let signature = STANDARD.decode(field("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    hmac::verify(&key, format!("{id}.{time}.{body}").as_bytes(), &signature).unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!((&body["type"], &body["data"]["ticket"]), (&json!("approval.waiting"), &json!(ticket)));
    assert_eq!(body["data"]["name"], "delete_a");
    assert!(body["data"].get("approval_url").is_none(), "no link is configured");
}

/// A page of the admin listener, as its configured host: its status, its head and its text.
fn page(admin: &str, path: &str, host: &str, form: Option<&str>) -> (u16, String, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let url = format!("http://{admin}{path}");
        let request = match form {
            Some(form) => {
                let form = form.to_owned();
                client.post(url).header("content-type", "application/x-www-form-urlencoded").body(form)
            }
            None => client.get(url),
        };
        let answer = request.header("host", host).send().await.unwrap();
        let (status, head) = (answer.status().as_u16(), format!("{:?}", answer.headers()));
        (status, head, answer.text().await.unwrap())
    })
}

#[test]
fn a_signed_link_decides_exactly_one_call() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let governed = Governed::new(&webhook(&listener, "link_url = 'https://approve.example/ops/'\n"));
    let (connector, admin) = governed.start();
    let link = |message: String| {
        let body: Value = serde_json::from_str(message.split_once("\r\n\r\n").unwrap().1).unwrap();
        let url = body["data"]["approval_url"].as_str().unwrap().to_owned();
        url.strip_prefix("https://approve.example/ops").unwrap().to_owned()
    };
    let reason = |tool: &str| {
        governed.call_until_answered(tool)["error"]["data"]["reason"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(reason("delete_a"), "approval_needed");
    let first = link(notified(&listener));
    let open = |path: &str, form: Option<&str>| page(&admin, path, "approve.example", form);

    // Programs that open links decide nothing.
    for _ in 0..3 {
        let (status, head, html) = open(&first, None);
        assert!(status == 200 && html.contains("delete_a") && html.contains("<form"), "{html}");
        for field in ["default-src 'none'", "frame-ancestors 'none'", "no-referrer", "no-store", "nosniff", "DENY"] {
            assert!(head.contains(field), "{field}: {head}");
        }
        assert!(!head.contains("set-cookie"));
    }
    assert_eq!(reason("delete_a"), "approval_needed");
    assert_eq!(page(&admin, &first, "evil.example", Some("decision=approve")).0, 404, "another host");
    assert_eq!(page(&admin, "/v1/status", "approve.example", None).0, 403, "the name opens the pages alone");
    for form in ["", "decision=maybe", "by=bob", "decision=approve&by=a%00b"] {
        assert_eq!(open(&first, Some(form)).0, 400, "{form}");
    }
    let last = first.chars().next_back().unwrap();
    let forged = format!("{}{}", &first[..first.len() - 1], if last == 'A' { 'E' } else { 'A' });
    assert_eq!((open(&forged, None).0, open(&forged, Some("decision=approve")).0), (404, 404));
    let other = first.replacen("apr_", "apr_0", 1);
    assert_eq!(open(&other, Some("decision=approve")).0, 404);
    assert_eq!(reason("delete_a"), "approval_needed");

    let form = "decision=approve&by=%3Cb%3Ebob%3C%2Fb%3E&reason=agreed";
    let (status, _, html) = open(&first, Some(form));
    assert!(status == 200 && html.contains("is approved") && html.contains("&lt;b&gt;bob"), "{html}");
    assert_eq!(open(&first, Some("decision=deny")).0, 409);
    assert!(open(&first, None).2.contains("Decided by"));
    assert!(governed.call_until_answered("delete_a").get("result").is_some());
    assert_eq!(open(&first, None).0, 410, "the call was made");
    assert_eq!(reason("delete_a"), "approval_needed");
    let second = link(notified(&listener));
    assert_ne!(first, second, "the same call, made again");
    assert_eq!(open(&first, Some("decision=approve")).0, 410, "a link is of one call");
    assert_eq!(open(&second, Some("decision=deny&by=&reason=")).0, 200);
    assert_eq!(reason("delete_a"), "approval_denied");

    assert_eq!(reason("delete_b"), "approval_needed");
    let third = link(notified(&listener));
    let counted = page(&admin, "/metrics", "localhost", None).2;
    for line in [
        "adit_approval_deliveries_total{outcome=\"delivered\"} 3",
        "adit_approval_links_total{outcome=\"approved\"} 1",
        "adit_approval_links_total{outcome=\"denied\"} 1",
        "adit_approvals_unwritten_total{} 0",
    ] {
        assert!(counted.contains(line), "{line}: {counted}");
    }
    connector.signal("TERM");
    assert_eq!(connector.ended(), Some(0));
    let (connector, admin) = governed.start();
    let again = page(&admin, &third, "approve.example", Some("decision=approve"));
    assert_eq!(again.0, 200, "the key of links is kept: {}", again.2);
    assert!(governed.call_until_answered("delete_b").get("result").is_some());
    connector.signal("TERM");
    assert_eq!(connector.ended(), Some(0));
    let done = governed.site.run(&["audit", "query", "--json", text_of(&governed.log)]);
    let lines = String::from_utf8(done.stdout).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let actions: Vec<Value> =
        lines.filter(|line| line["kind"] == "action").map(|line| json!([line["action"], line["reason"]])).collect();
    let by = "by <b>bob</b> (by link, name not proven): agreed";
    let unnamed = "by unnamed (by link)";
    assert_eq!(
        actions,
        [json!(["call.approved", by]), json!(["call.denied", unnamed]), json!(["call.approved", unnamed])]
    );
}
