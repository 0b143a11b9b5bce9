//! A small proxy with one chosen fault: it shows that the comparison through an intermediary can fail.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

/// What the proxy does to what passes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Drops `Mcp-Method` from requests.
    DropMcpMethod,
    /// Answers 502 where the server answered 4xx.
    HideClientErrors,
}

/// Starts the proxy in front of `upstream`; it ends with the test process.
pub(crate) fn start(upstream: SocketAddr, fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
    let address = listener.local_addr().expect("a bound listener has an address");
    thread::spawn(move || {
        for agent in listener.incoming() {
            let agent = agent.expect("an accepted connection");
            thread::spawn(move || {
                // A peer that goes away in the middle is everyday life here.
                let _ = carry(agent, upstream, fault);
            });
        }
    });
    address
}

/// Carries one exchange, then closes: every head is seen, because no connection is used twice.
fn carry(agent: TcpStream, upstream: SocketAddr, fault: Fault) -> std::io::Result<()> {
    let server = TcpStream::connect(upstream)?;
    agent.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut from_agent = BufReader::new(agent.try_clone()?);
    let mut head = read_head(&mut from_agent)?;
    head.retain(|line| !is_header(line, "connection"));
    if matches!(fault, Fault::DropMcpMethod) {
        head.retain(|line| !is_header(line, "mcp-method"));
    }
    write_head(&server, &head)?;
    let mut to_server = server.try_clone()?;
    let requests = thread::spawn(move || {
        let _ = pump(&mut from_agent, &mut to_server);
        // The agent is gone, or done: the server learns of it either way.
        let _ = to_server.shutdown(Shutdown::Both);
    });
    let mut from_server = BufReader::new(server);
    let mut head = read_head(&mut from_server)?;
    head.retain(|line| !is_header(line, "connection"));
    if matches!(fault, Fault::HideClientErrors) && head[0].starts_with("HTTP/1.1 4") {
        head[0] = "HTTP/1.1 502 Bad Gateway\r\n".to_owned();
    }
    write_head(&agent, &head)?;
    let mut to_agent = agent.try_clone()?;
    let _ = pump(&mut from_server, &mut to_agent);
    let _ = agent.shutdown(Shutdown::Both);
    let _ = requests.join();
    Ok(())
}

/// The start line and the header lines, each with its end of line, without the empty one.
fn read_head(from: &mut impl BufRead) -> std::io::Result<Vec<String>> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == "\r\n" {
            return Ok(head);
        }
        head.push(line);
    }
}

fn write_head(mut to: &TcpStream, head: &[String]) -> std::io::Result<()> {
    to.write_all(format!("{}connection: close\r\n\r\n", head.concat()).as_bytes())
}

fn is_header(line: &str, name: &str) -> bool {
    line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name))
}

/// Copies each piece as it comes.
fn pump(from: &mut impl Read, to: &mut impl Write) -> std::io::Result<()> {
    let mut piece = [0; 16 * 1024];
    loop {
        let len = from.read(&mut piece)?;
        if len == 0 {
            return Ok(());
        }
        to.write_all(&piece[..len])?;
    }
}
