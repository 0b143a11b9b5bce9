//! The way from nothing to a governed server in docs/GOVERNANCE.md is run as it is printed. Only ports are replaced.

use std::net::TcpStream;

use serde_json::Value;

use super::printed::value_of;
use super::shell::Shell;
use crate::free_address::free_address;
use crate::policy::{Got, names, serve_tools};
use crate::process::Adit;

const PAGE: &str = include_str!("../../../docs/GOVERNANCE.md");
/// How far blocks are indented, which belong to the items of a list.
const INDENT: &str = "   ";

/// The blocks of the page's first section: the language of each, and its text.
fn blocks() -> Vec<(&'static str, String)> {
    let (_, section) = PAGE.split_once("\n## From nothing to a governed server\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let mut lines = section.lines().map(|line| line.strip_prefix(INDENT).unwrap_or(line));
    let mut blocks = Vec::new();
    while let Some(language) = lines.by_ref().find_map(|line| line.strip_prefix("```")) {
        let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        blocks.push((language, text.join("\n") + "\n"));
    }
    blocks
}

/// What somebody has who follows the page.
struct Walk {
    shell: Shell,
    /// The printed ports, and those in their place.
    ports: [(&'static str, String); 3],
    /// Where the edge's admin API is, which has a fixed port where no setting says otherwise.
    admin: String,
    running: Vec<Adit>,
    /// What the last command has printed.
    printed: String,
}

impl Walk {
    fn with_ports(&self, text: &str) -> String {
        self.ports.iter().fold(text.to_owned(), |text, (printed, port)| text.replace(printed, port))
    }

    fn write(&self, name: &str, text: &str) {
        adit::private::write(&self.shell.path(name), self.with_ports(text).as_bytes()).unwrap();
    }

    /// Runs a block, line by line.
    fn run(&mut self, block: &str) {
        for line in self.with_ports(block).replace("\\\n", "").lines() {
            match line.strip_suffix(" &") {
                Some(line) => {
                    let mut command = self.shell.command(&format!("exec {line}"));
                    command.env("ADIT_EDGE_ADMIN_LISTEN", &self.admin).env("ADIT_CONNECT_ADMIN_LISTEN", "off");
                    self.running.push(Adit::of(command));
                    if line.starts_with("adit edge") {
                        while TcpStream::connect(&self.admin).is_err() {}
                    }
                }
                None => {
                    let pasted = if line.contains("cat > ") {
                        value_of(&self.printed, "token").to_owned()
                    } else {
                        String::new()
                    };
                    let line = format!("export ADIT_ADMIN_URL=http://{}; {line}", self.admin);
                    self.printed = self.shell.run(&line, &pasted);
                }
            }
        }
    }

    fn tools(&self) -> Vec<String> {
        let list: Value =
            serde_json::from_str(&self.printed).unwrap_or_else(|error| panic!("{error}: {}", self.printed));
        names(&list).into_iter().map(str::to_owned).collect()
    }
}

#[test]
fn the_page_leads_from_nothing_to_a_governed_server() {
    let got = Got::default();
    let server = serve_tools(&got, ["get_ticket", "search", "put_ticket", "delete_ticket"]);
    let agents = free_address().port().to_string();
    let ports = [("8080", agents), ("7844", free_address().port().to_string()), ("9000", server.port().to_string())];
    let (shell, admin, running, printed) = (Shell::new(), free_address().to_string(), Vec::new(), String::new());
    let mut walk = Walk { shell, ports, admin, running, printed };
    let blocks = blocks();
    let [policy, check, (_, fragment), edge, connect, list, denied, query, diff] = &blocks[..] else {
        panic!("other blocks: {blocks:#?}")
    };
    let languages: Vec<&str> = blocks.iter().map(|(language, _)| *language).collect();
    assert_eq!(languages, ["toml", "sh", "toml", "sh", "toml", "sh", "sh", "sh", "sh"]);
    walk.write("policy.toml", &policy.1);
    walk.run(&check.1);
    assert!(walk.printed.contains("batch-writes"), "{}", walk.printed);
    let route = fragment.replace("tickets.example.com", "localhost");
    assert!(connect.1.contains(&route), "what is explained is what is tried:\n{route}\n{}", connect.1);
    walk.run(&edge.1);
    walk.write("connect.toml", &connect.1);
    walk.run(&list.1);
    assert_eq!(walk.tools(), ["get_ticket", "search"]);
    let with_key = walk.with_ports(&list.1).replace("\\\n", "");
    let with_key = with_key.lines().last().unwrap();
    walk.run(&format!("{with_key} -H 'Authorization: Bearer open-sesame'\n"));
    assert_eq!(walk.tools(), ["get_ticket", "search", "put_ticket"]);
    walk.run(&denied.1);
    assert!(walk.printed.contains("Unknown tool: delete_ticket"), "{}", walk.printed);
    assert!(!got.lock().unwrap().iter().any(|request| request.contains("delete_ticket")));
    for line in query.1.lines() {
        walk.run(line);
        assert!(walk.printed.contains("delete_ticket"), "{line}: {}", walk.printed);
    }
    walk.run(&diff.1);
    let diff: Value = serde_json::from_str(&walk.printed).unwrap();
    assert_eq!((&diff["calls"], diff["changed"].as_array().map(Vec::len)), (&Value::from(3), Some(0)), "{diff}");
}
