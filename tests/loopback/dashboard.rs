//! The dashboard of an edge and of a connector, in a real browser: Chromium without a screen, driven by Playwright. `walk.mjs` does
//! what people do, and checks each view with axe.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

use crate::conformance::setup::SetUp;
use crate::fetched::{fetched, run};
use crate::process::{Adit, command};
use crate::tunnels::site::{Site, begin_call, text_of};

/// The driver of the browser, and the checks of accessibility.
const PINS: [(&str, &str); 2] = [
    ("package.json", include_str!("dashboard/package.json")),
    ("package-lock.json", include_str!("dashboard/package-lock.json")),
];
/// The names of Chromium, with and without support for screens.
const BROWSERS: [&str; 3] = ["chromium-headless-shell", "chromium", "chromium-browser"];
/// The variable with a folder to which pictures of each view are written.
const PICTURES: &str = "ADIT_TEST_PICTURES";
/// The token of the connector.
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const HOST: &str = "a.test";
/// A name that a caller chose to harm whoever looks at it.
const HOSTILE: &str = "<img src=/x onerror=alert(1)>";
/// The pause between two calls. Views are to have something new every time.
const PAUSE: Duration = Duration::from_millis(20);

/// An edge and a connector with audit logs and a policy that asks for approval.
struct Watched {
    site: Site,
    connector: Adit,
    /// The admin API of the connector.
    admin: String,
    token: PathBuf,
}

impl Watched {
    fn start() -> Watched {
        let mut site = Site::new("epoll");
        site.end_edge();
        site.configure("[audit]\nmode = 'best_effort'\n");
        site.run_edge("epoll");
        let dir = site.data_dir().with_file_name("connector");
        fs::create_dir(&dir).unwrap();
        let (policy, token) = (dir.join("policy.toml"), dir.join("admin.token"));
        let rules = "[[rule]]\nname = 'deletes'\neffect = 'approve'\ntools = ['delete_*']\n\
                     [[rule]]\nname = 'reads'\neffect = 'allow'\ntools = ['*']\n";
        fs::write(&policy, rules).unwrap();
        adit::private::write(&token, TOKEN.as_bytes()).unwrap();
        let config = format!(
            "[connect]\nstate_dir = '{}'\nadmin_token_file = '{}'\n[audit]\nmode = 'best_effort'\n\
             [[route]]\nhost = '{HOST}'\nupstream = 'http://{}'\npolicy_file = '{}'\n",
            dir.join("state").display(),
            token.display(),
            site.upstream.address,
            policy.display()
        );
        let path = dir.join("connect.toml");
        adit::private::write(&path, config.as_bytes()).unwrap();
        let made = site.create(&["--host", HOST]);
        let args = site.connector_args_of(&path, &made.token.tunnel_token);
        let connector = Adit::start(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let [started, _] = connector.events(["started", "linked"]);
        let admin = started["admin"].as_str().unwrap().to_owned();
        Watched { site, connector, admin, token }
    }

    /// The log-in URL of the edge.
    fn edge_url(&self) -> String {
        let printed: Value = self.site.adit(&["dashboard", "--json"]);
        assert_eq!((&printed["read_only"], &printed["ends_in_s"]), (&json!(false), &json!(60)));
        printed["url"].as_str().unwrap().to_owned()
    }

    /// The log-in URL of the connector, as people see it.
    fn connector_url(&self) -> String {
        let args = ["dashboard", "--admin", &self.admin, "--admin-token-file", text_of(&self.token)];
        let printed = command(&args).output().unwrap();
        assert!(printed.status.success(), "{printed:?}");
        String::from_utf8(printed.stdout).unwrap().trim_end().to_owned()
    }

    /// Makes calls of all kinds until `work` has ended.
    fn with_calls<T>(&self, work: impl FnOnce() -> T) -> T {
        let ((working, is_over), agents) = (channel::<()>(), self.site.agents);
        let call = move || {
            for tool in ["search", "read_file", "delete_all", HOSTILE].into_iter().cycle() {
                if is_over.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
                // While its breaker is forced open, a call is refused.
                begin_call(agents, HOST, tool).answer();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(call);
            // Dropped at the end, also of a test that fails: the calls end then.
            let _working = working;
            work()
        })
    }
}

/// The browser of this machine.
fn browser() -> PathBuf {
    let folders: Vec<PathBuf> = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    let found = BROWSERS
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("this test needs Chromium. Install it (Debian: `apt-get install chromium-headless-shell`; elsewhere: chromium).")
    })
}

/// The packages for Node, fetched once.
fn packages() -> PathBuf {
    const REMEDY: &str = "this test needs `npm` and the public npm registry. Install Node.js with npm (Debian, Ubuntu: \
        `apt-get install nodejs npm`), and set NPM_CONFIG_REGISTRY where the registry is reached through a mirror.";
    static FETCHED: OnceLock<PathBuf> = OnceLock::new();
    let fetch = |home: &Path| {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(home);
        run(&mut npm, REMEDY);
    };
    FETCHED.get_or_init(|| fetched("dashboard", &PINS, fetch)).join("node_modules")
}

#[test]
fn a_browser_shows_every_view_live_and_safely() {
    let watched = Watched::start();
    let walked = watched.with_calls(|| {
        let mut walk = Command::new(&SetUp::get().node);
        walk.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/loopback/dashboard/walk.mjs"));
        walk.args([packages(), browser()]).args([watched.edge_url(), watched.connector_url(), HOSTILE.to_owned()]);
        walk.args(std::env::var_os(PICTURES));
        walk.output().unwrap()
    });
    let [out, err] = [&walked.stdout, &walked.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(walked.status.success(), "{out}{err}");
    assert!(out.contains("all views were seen"), "{out}{err}");
    drop(watched.connector);
}

async fn code_of(answer: Response) -> (StatusCode, String) {
    let status = answer.status();
    let body: Value = answer.json().await.unwrap_or_default();
    (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn only_the_page_with_a_session_may_search_or_change_anything() {
    let site = Site::new("epoll");
    let (base, client) = (format!("http://{}", site.admin), Client::new());
    let printed: Value = site.adit(&["dashboard", "--json"]);
    let code = printed["url"].as_str().unwrap().split_once("#login=").unwrap().1.to_owned();
    let log_in = |origin: &str| {
        let post = client.post(format!("{base}/dashboard/session")).json(&json!({ "code": code }));
        post.header("Origin", origin).send()
    };
    let other = log_in("http://evil.test").await.unwrap();
    assert_eq!(code_of(other).await, (StatusCode::FORBIDDEN, "other_origin".to_owned()));
    let opened = log_in(&base).await.unwrap();
    let cookie = opened.headers()["set-cookie"].to_str().unwrap().to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let key = opened.json::<Value>().await.unwrap()["key"].as_str().unwrap().to_owned();
    let again = log_in(&base).await.unwrap();
    assert_eq!(code_of(again).await, (StatusCode::FORBIDDEN, "invalid_code".to_owned()));

    let ask = |method: &str, path: &str, fields: &[(&str, &str)]| {
        let mut request = client.request(method.parse().unwrap(), format!("{base}{path}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.send()
    };
    let own = ("Origin", base.as_str());
    let (cookie, key) = (("Cookie", cookie.as_str()), ("X-Adit-Session", key.as_str()));
    for (fields, status) in [
        (&[cookie, key, own][..], 404),
        (&[cookie, own], 401),
        (&[key, own], 401),
        (&[cookie, key], 403),
        (&[cookie, key, ("Origin", "http://127.0.0.1:1")], 403),
        (&[cookie, key, own, ("Sec-Fetch-Site", "cross-site")], 403),
        (&[cookie, key, own, ("Host", "evil.test")], 403),
    ] {
        // An edge without an audit log, and a doctor that is not asked for in vain.
        let method = if fields.contains(&own) { "GET" } else { "POST" };
        let path = if method == "GET" { "/dashboard/audit" } else { "/dashboard/doctor" };
        assert_eq!(ask(method, path, fields).await.unwrap().status(), status, "{method} {fields:?}");
    }
    assert_eq!(ask("GET", "/v1/approvals", &[cookie, key]).await.unwrap().status(), 200);
    let breaker = |fields: &[(&str, &str)]| {
        let body = json!({ "route": "a.test", "state": "auto" });
        let post = client.post(format!("{base}/v1/breakers")).json(&body);
        fields.iter().fold(post, |post, (name, value)| post.header(*name, *value)).send()
    };
    assert_eq!(breaker(&[cookie, key, own]).await.unwrap().status(), 404, "no such breaker, but it may ask");
    assert_eq!(breaker(&[cookie, key]).await.unwrap().status(), 401, "no origin");
    for (method, path) in [("POST", "/v1/tunnels"), ("POST", "/v1/dashboard/codes"), ("GET", "/v1/provisioning_keys")] {
        assert_eq!(ask(method, path, &[cookie, key, own]).await.unwrap().status(), 401, "{path}");
    }
    assert_eq!(ask("DELETE", "/dashboard/session", &[cookie, own]).await.unwrap().status(), 204);
    assert_eq!(ask("GET", "/v1/approvals", &[cookie, key]).await.unwrap().status(), 401, "it has ended");

    let page = ask("GET", "/", &[]).await.unwrap();
    let field = |name: &str| page.headers()[name].to_str().unwrap().to_owned();
    let policy = field("content-security-policy");
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe") && !policy.contains("http"));
    assert_eq!((field("x-content-type-options"), field("referrer-policy")), ("nosniff".into(), "no-referrer".into()));
    assert_eq!(ask("GET", "/", &[("Host", "evil.test")]).await.unwrap().status(), 403, "DNS rebinding");
}

#[test]
fn without_a_token_the_dashboard_is_read_only() {
    let up =
        Adit::start(&["up", "--json", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-level", "error"]);
    let admin = up.event("listening")["admin_url"].as_str().unwrap().to_owned();
    let printed = command(&["dashboard", "--json", "--admin", &admin]).output().unwrap();
    let printed: Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(printed, json!({ "url": format!("{admin}/"), "read_only": true, "ends_in_s": null }));
    let nobody = command(&["dashboard", "--admin", "127.0.0.1:1"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
}
