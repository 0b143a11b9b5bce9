//! A first deployment as people make it, on two hosts: with the commands that the program prints, through a firewall that
//! lets nothing in to the connector's. The hosts are two namespaces of networks with one wire between them.

mod private_host;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::process::{Adit, command};
use crate::space;

use private_host::{EDGE, PrivateHost, UPSTREAM_PORT};

const HOST: &str = "orders.test";
/// How long an answer to a knock that a firewall drops is waited for.
const KNOCK: Duration = Duration::from_millis(700);

pub(crate) fn a_new_user_reaches_a_server_behind_a_firewall_that_lets_nothing_in() -> Result<(), String> {
    let inside = PrivateHost::new();
    let knock = || TcpStream::connect_timeout(&SocketAddr::from((inside.address, UPSTREAM_PORT)), KNOCK);
    assert!(knock().is_ok(), "without a firewall the server can be reached, or this would prove nothing");
    inside.raise_firewall()?;
    assert_eq!(knock().unwrap_err().kind(), ErrorKind::TimedOut, "nothing comes in");

    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let here = Shell { data: &data, dir: dir.path() };
    here.run(&["edge", "init", "--name", EDGE]);
    let edge = Adit::of(here.command(&["edge", "--json", "--log-level", "error"]));
    edge.event("listening");
    assert_eq!(call(), 421);
    let created = here.run(&["tunnel", "create", "--host", HOST]);
    let id = word_after(&created, "id ");
    assert_eq!(call(), 503, "nobody serves it yet");

    // The connector is started by the very command that was printed, where the token was put.
    let token = dir.path().join("tunnel.token");
    adit::private::write(&token, word_after(&created, "token ").as_bytes()).unwrap();
    let printed = created.lines().find(|line| line.trim_start().starts_with("adit connect ")).unwrap();
    let first = Adit::of(inside.command(dir.path(), printed.split_whitespace().skip(1)));
    first.event("linked");
    assert_eq!(call(), 200);

    // Another secret, which the connector is given by flags; then the first one is ended.
    let rotated = here.run(&["tunnel", "rotate", &id, "--overlap", "1h"]);
    let route = format!("{HOST}=http://127.0.0.1:{UPSTREAM_PORT}");
    let (secret, edge_at) = (word_after(&rotated, "secret "), format!("{EDGE}:7844"));
    let args = ["connect", "--id", &id, "--secret", &secret, "--edge", &edge_at, "--route", &route];
    let second = Adit::of(inside.command(dir.path(), args.into_iter()));
    second.event("linked");
    assert_eq!(call(), 200);
    first.signal("TERM");
    assert_eq!(first.ended(), Some(0));
    assert_eq!(call(), 200);

    let revoked = here.run(&["tunnel", "revoke", &id]);
    assert!(revoked.contains("is revoked"), "{revoked}");
    assert_eq!(call(), 503, "as soon as the command has returned");
    second.event("unlinked");
    assert_eq!(knock().unwrap_err().kind(), ErrorKind::TimedOut, "still nothing comes in");
    assert!(inside.dropped() >= 2, "it was the firewall that dropped both knocks");
    Ok(())
}

/// The edge's host, where its operator types.
struct Shell<'a> {
    data: &'a Path,
    dir: &'a Path,
}

impl Shell<'_> {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = command(args);
        command.env("ADIT_EDGE_DATA_DIR", self.data).current_dir(self.dir);
        command
    }

    fn run(&self, args: &[&str]) -> String {
        let done = self.command(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", space::text(&done));
        String::from_utf8(done.stdout).unwrap()
    }
}

/// What stands behind a name at the beginning of a line.
fn word_after(message: &str, name: &str) -> String {
    let line = message.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("no {name}in {message}")).trim().to_owned()
}

/// The status of a tool call by an agent on the edge's host.
fn call() -> u16 {
    let body = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo"}}"#;
    let mut stream = TcpStream::connect("127.0.0.1:8443").unwrap();
    write!(
        stream,
        "POST /mcp HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {answer:?}")).parse().unwrap()
}
