//! A connector that is killed and started again, beside another one: its server still has the sessions that it began. And an edge
//! that is told to end.

use std::io::Write;
use std::net::TcpStream;

use super::site::{Site, text_of};
use crate::process::Adit;
use crate::sessions::serve;
use crate::support::read_message;

const SESSIONS: usize = 6;
const HOST: &str = "a.test";

/// One request, in a session or to begin one: status, server and session of the answer.
fn call(site: &Site, session: Option<&str>) -> (String, String, Option<String>) {
    let session = session.map(|id| format!("Mcp-Session-Id: {id}\r\n")).unwrap_or_default();
    let mut agent = TcpStream::connect(site.agents).unwrap();
    let body = r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#;
    write!(agent, "POST /mcp HTTP/1.1\r\nHost: {HOST}\r\n{session}Content-Length: {}\r\n\r\n{body}", body.len())
        .unwrap();
    let answer = read_message(&mut agent);
    let field = |name: &str| {
        let mut lines = answer.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(": "));
        lines.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    };
    let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
    (status, field("x-server").unwrap_or_default(), field("mcp-session-id"))
}

#[test]
fn a_restarted_connector_has_the_sessions_that_it_had_before() {
    let site = Site::new("auto");
    let made = site.create(&["--host", HOST]);
    let servers = ["alpha", "beta"].map(|name| (name, serve(name)));
    let start = |nth: usize| {
        let (name, server) = servers[nth];
        let mut args = site.connector_args(HOST, &made.token.tunnel_token);
        let at = args.iter().position(|arg| arg == "--route").unwrap();
        args[at + 1] = format!("{HOST}=http://{server}");
        let state = site.data_dir().with_file_name(name);
        args.extend(["--state-dir".to_owned(), text_of(&state).to_owned()]);
        let connector = Adit::start(&args.iter().map(String::as_str).collect::<Vec<_>>());
        connector.event("linked");
        connector
    };
    let links = || site.connections(&made.tunnel.id).len();
    let (first, _second) = (start(0), start(1));
    let mut sessions = Vec::new();
    while sessions.len() < SESSIONS {
        let (status, server, session) = call(&site, None);
        assert_eq!(status, "200");
        sessions.extend(session.filter(|_| server == "alpha"));
    }
    // Each has a link on both cores of the edge.
    while links() < 4 {}
    drop(first);
    while links() > 2 {}
    let _again = start(0);
    for session in &sessions {
        assert_eq!(call(&site, Some(session)), ("200".to_owned(), "alpha".to_owned(), None), "{session}");
    }
}

#[test]
fn an_edge_that_ends_serves_for_a_while_after_it_is_no_longer_ready() {
    for driver in ["epoll", "uring"] {
        let mut site = Site::new(driver);
        site.end_edge();
        site.configure("[edge]\ndrain_delay_ms = '10m'\n");
        site.run_edge(driver);
        let made = site.create(&["--host", HOST]);
        let is_ready = || {
            let mut admin = TcpStream::connect(&site.admin).unwrap();
            write!(admin, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let message = read_message(&mut admin);
            assert!(message.starts_with("HTTP/1.1 200 ") || message.starts_with("HTTP/1.1 503 "), "{message}");
            !message.contains("draining")
        };
        assert!(is_ready(), "it is not ready for another reason at the most");
        site.edge.as_ref().unwrap().signal("TERM");
        while is_ready() {}
        // Connectors and agents come in as before.
        let connector = site.connect(HOST, &made.token.tunnel_token);
        assert_eq!(site.call(HOST, "echo").0, 200, "{driver}");
        drop(connector);
        assert_ne!(site.edge.take().unwrap().ended_by("TERM"), Some(0), "{driver}: a second signal ends it at once");
    }
}
