//! The host inside: a namespace of networks with one wire to the edge's, an MCP server, and a firewall.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::command;
use crate::space::{done, text, tried};

/// The edge's address on the wire.
pub(crate) const EDGE: &str = "10.77.0.1";
/// Where the MCP server listens, on all addresses of the host: what `adit tunnel create` takes for an example.
pub(crate) const UPSTREAM_PORT: u16 = 3000;
const IP: &str = "install iproute2";
const NFT: &str = "install nftables";
/// Nothing comes in that nobody inside asked for.
const FIREWALL: &str = "table inet guard {
    chain input {
        type filter hook input priority 0; policy drop;
        iif lo accept
        ct state established,related accept
        counter
    }
}
";

pub(crate) struct PrivateHost {
    /// Keeps the namespace; ends when its standard input does.
    holder: Child,
    pub(crate) address: Ipv4Addr,
}

impl PrivateHost {
    /// With the server, and no firewall yet. This process is on the edge's host.
    pub(crate) fn new() -> PrivateHost {
        let mut holder = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "echo; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let host = PrivateHost { holder, address: Ipv4Addr::new(10, 77, 0, 2) };
        let pid = host.pid();
        done(&["ip", "link", "set", "lo", "up"], IP);
        done(&["ip", "link", "add", "outside", "type", "veth", "peer", "name", "inside", "netns", &pid], IP);
        done(&["ip", "address", "add", &format!("{EDGE}/24"), "dev", "outside"], IP);
        done(&["ip", "link", "set", "outside", "up"], IP);
        host.run(&["ip", "link", "set", "lo", "up"]);
        host.run(&["ip", "address", "add", &format!("{}/24", host.address), "dev", "inside"]);
        host.run(&["ip", "link", "set", "inside", "up"]);
        host.serve();
        host
    }

    /// Lets nothing in from here on. Tells why where this kernel cannot.
    pub(crate) fn raise_firewall(&self) -> Result<(), String> {
        let dir = tempfile::tempdir().unwrap();
        let rules = dir.path().join("rules");
        std::fs::write(&rules, FIREWALL).unwrap();
        let words = self.inside(&["nft", "-f", rules.to_str().unwrap()]);
        let done = tried(&words.iter().map(String::as_str).collect::<Vec<_>>(), NFT);
        if text(&done).contains("nsenter: failed to execute") {
            panic!("{}; {NFT}", text(&done));
        }
        if done.status.success() { Ok(()) } else { Err(format!("this kernel takes no such rules: {}", text(&done))) }
    }

    /// How many packets the firewall has dropped.
    pub(crate) fn dropped(&self) -> u64 {
        let chain = self.run(&["nft", "list", "chain", "inet", "guard", "input"]);
        let count = chain.split("counter packets ").nth(1).and_then(|rest| rest.split(' ').next());
        count.unwrap_or_else(|| panic!("no counter in {chain}")).parse().unwrap()
    }

    /// The program, on this host.
    pub(crate) fn command<'a>(&self, dir: &Path, args: impl Iterator<Item = &'a str>) -> Command {
        let own = command(&[]);
        let program = own.get_program().to_str().unwrap();
        let words = self.inside(&[program]);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(args).args(["--json", "--log-level", "error"]);
        command.current_dir(dir).stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> String {
        done(&self.inside(words).iter().map(String::as_str).collect::<Vec<_>>(), IP)
    }

    fn inside(&self, words: &[&str]) -> Vec<String> {
        ["nsenter", "--target", &self.pid(), "--net", "--"].iter().chain(words).map(|word| (*word).to_owned()).collect()
    }

    fn pid(&self) -> String {
        self.holder.id().to_string()
    }

    /// Serves every request one and the same answer.
    fn serve(&self) {
        let network = File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
        let (ready, listening) = channel();
        thread::spawn(move || {
            // This thread alone moves; those that it makes come with it.
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, UPSTREAM_PORT)).unwrap();
            ready.send(()).unwrap();
            for stream in listener.incoming().flatten() {
                thread::spawn(move || answer(stream));
            }
        });
        listening.recv().unwrap();
    }
}

impl Drop for PrivateHost {
    fn drop(&mut self) {
        // It ends with its standard input too.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn answer(mut stream: TcpStream) {
    let (mut read, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = stream.read(&mut piece) {
        read.extend_from_slice(&piece[..n]);
        // Calls of this test end with a closing brace each, and nothing else of them has two.
        if read.ends_with(b"}}") {
            read.clear();
            let body = r#"{"jsonrpc":"2.0","id":7,"result":{}}"#;
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ";
            if write!(stream, "{head}{}\r\n\r\n{body}", body.len()).is_err() {
                return;
            }
        }
    }
}
