//! How connections of agents end, on both real drivers: the last answer of one that stops reading before its end, and the call of
//! one that leaves.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use crate::support::{self, HOST, Tunnel};
use adit::base::Traffic;
use adit::connector::ConnectorCommand;
use adit::edge::EdgeCommand;
use adit::engine::ladder::DriverChoice;
use adit::engine::{MailSender, mailbox};

use adit::latency::{CoreFigures, Outcome};
use socket2::{Domain, SockRef, Socket, Type};

const LEN: usize = 4_000_000;
/// What the agent's system keeps that was not read, in bytes, as far as it does as it is told.
const RECEIVE_BUFFER: usize = 16 * 1024;
/// How much of an answer is missing when its agent stops: more than its system keeps, and little enough for the edge's to take.
const LEFT: usize = 60_000;
/// How Linux numbers the states of a connection (`include/net/tcp_states.h`).
const TCP_FIN_WAIT1: u8 = 4;

trait Stream: Read + Write {
    fn socket(&self) -> &TcpStream;
}

impl Stream for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }
}

impl Stream for support::Agent {
    fn socket(&self) -> &TcpStream {
        self.get_ref()
    }
}

/// An agent whose system takes little that it does not read.
fn agent(tunnel: &Tunnel, over_tls: bool) -> Box<dyn Stream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
    socket.connect(&tunnel.agents.into()).unwrap();
    let socket = TcpStream::from(socket);
    if over_tls { Box::new(tunnel.agent_on(socket)) } else { Box::new(socket) }
}

/// Asks for an answer and reads it until no more than `left` bytes of it are missing. Returns how many.
fn read_until(agent: &mut dyn Stream, last: &str, left: usize) -> usize {
    agent.write_all(format!("GET /bytes/{LEN} HTTP/{last}Host: {HOST}\r\n\r\n").as_bytes()).unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        assert_eq!(agent.read(&mut byte).unwrap(), 1);
        head.push(byte[0]);
    }
    let mut missing = LEN;
    let mut piece = [0; 1024];
    while missing > left {
        let n = agent.read(&mut piece).unwrap();
        assert!(n > 0, "the answer ended {missing} bytes early");
        missing -= n;
    }
    missing
}

/// Reads on to the end. Returns how many bytes came.
fn read_on(agent: &mut dyn Stream) -> (usize, io::Result<()>) {
    let (mut came, mut piece) = (0, [0; 16 * 1024]);
    loop {
        match agent.read(&mut piece) {
            Ok(0) => return (came, Ok(())),
            Ok(n) => came += n,
            Err(error) => return (came, Err(error)),
        }
    }
}

/// The edge's end of a connection and the agent's, as Linux writes them.
fn ends(agent: &TcpStream) -> (String, String) {
    let text = |address: SocketAddr| {
        let SocketAddr::V4(address) = address else { panic!("tests run on IPv4 loopback") };
        format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
    };
    (text(agent.peer_addr().unwrap()), text(agent.local_addr().unwrap()))
}

/// The state of the edge's end, or none when it is gone.
fn state_of_edge(ends: &(String, String)) -> Option<u8> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux lists its connections");
    table.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let found = words.next() == Some(ends.0.as_str()) && words.next() == Some(ends.1.as_str());
        found.then(|| u8::from_str_radix(words.next()?, 16).ok())?
    })
}

/// How many calls have ended so, as the edge counts.
fn ended(tunnel: &Tunnel, outcome: Outcome) -> u64 {
    counted(outcome, |index, sender| tunnel.edge.command(|| EdgeCommand::Figures(index, sender.clone())))
}

/// The same, as the connector counts.
fn ended_at_connector(tunnel: &Tunnel, outcome: Outcome) -> u64 {
    counted(outcome, |index, sender| tunnel.connector.command(|| ConnectorCommand::Figures(index, sender.clone())))
}

fn counted(outcome: Outcome, ask: impl Fn(usize, MailSender<CoreFigures>) -> usize) -> u64 {
    let figures = |index| {
        let (sender, mut figures) = mailbox(1);
        ask(index, sender);
        futures_lite::future::block_on(figures.recv()).unwrap()
    };
    (0..).map(figures).map_while(|figures| figures.set).map(|(_, set)| set.outcome(outcome)).sum()
}

fn until_ended(tunnel: &Tunnel, outcome: Outcome, calls: u64) {
    while ended(tunnel, outcome) < calls {
        thread::yield_now();
    }
}

fn each_way(test: impl Fn(DriverChoice, bool, &str)) {
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for over_tls in [false, true] {
            for last in ["1.0\r\n", "1.1\r\nConnection: close\r\n"] {
                test(driver, over_tls, last);
            }
        }
    }
}

#[test]
fn queued_bytes_arrive_although_the_agent_sends_meanwhile() {
    each_way(|driver, over_tls, last| {
        let tunnel = Tunnel::with_write_timeout(driver, Duration::from_secs(60));
        let mut agent = agent(&tunnel, over_tls);
        let missing = read_until(&mut *agent, last, LEFT);
        // The edge has given its system everything.
        let ends = ends(agent.socket());
        while state_of_edge(&ends) != Some(TCP_FIN_WAIT1) {
            thread::yield_now();
        }
        assert_eq!(ended(&tunnel, Outcome::Ok), 0, "the agent has not all of it");
        // More than the edge throws away; what it leaves may fill the connection.
        agent.socket().set_nonblocking(true).unwrap();
        let mut sent = 0;
        while sent < 4 << 20 {
            match agent.socket().write(&[b'x'; 16 * 1024]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        agent.socket().set_nonblocking(false).unwrap();
        let (came, end) = read_on(&mut *agent);
        assert_eq!(came, missing, "{driver:?}, TLS: {over_tls}: {end:?}");
        until_ended(&tunnel, Outcome::Ok, 1);
        drop(agent);
        tunnel.end();
    });
}

#[test]
fn an_agent_that_stops_reading_is_reset_and_its_answer_counts_as_cut() {
    each_way(|driver, over_tls, last| {
        let tunnel = Tunnel::with_write_timeout(driver, Duration::from_millis(200));
        for (calls, left) in [(1, LEFT), (2, 1_500_000)] {
            let mut agent = agent(&tunnel, over_tls);
            let ends = ends(agent.socket());
            let missing = read_until(&mut *agent, last, left);
            while state_of_edge(&ends).is_some() {
                thread::yield_now();
            }
            let (came, _) = read_on(&mut *agent);
            assert!(came < missing, "{driver:?}, TLS: {over_tls}");
            until_ended(&tunnel, Outcome::AgentStalled, calls);
        }
        assert_eq!(ended(&tunnel, Outcome::Ok), 0);
        tunnel.end();
    });
}

/// The head and the first event of an answer.
fn read_event(agent: &mut impl Read) -> String {
    let (mut came, mut byte) = (String::new(), [0]);
    while came.matches("\n\n").count() == 0 {
        assert_eq!(agent.read(&mut byte).unwrap(), 1, "{came}");
        came.push(char::from(byte[0]));
    }
    came
}

/// Clients of MCP close an event stream once it has brought the answer, which servers may do later.
#[test]
fn a_call_whose_agent_leaves_after_the_answer_event_has_succeeded() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let upstream = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut request = Vec::new();
            while !request.ends_with(b"}}") {
                let mut piece = [0; 4096];
                let n = socket.read(&mut piece).unwrap();
                request.extend(&piece[..n]);
            }
            let message = match request.windows(8).any(|bytes| bytes == b"answered") {
                true => r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
                false => r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1}}"#,
            };
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
            socket.write_all(format!("{head}data: {message}\n\n").as_bytes()).unwrap();
            thread::spawn(move || socket.read_to_end(&mut Vec::new()));
        }
    });
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for traffic in Traffic::ALL {
            let tunnel = Tunnel::impatient(driver, traffic, Duration::from_secs(60), upstream);
            for (name, outcome) in [("answered", Outcome::Ok), ("waiting", Outcome::AgentGone)] {
                let mut agent = tunnel.agent();
                let body = format!(
                    "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"params\":{{\"name\":\"{name}\"}}}}"
                );
                let head = format!("POST /mcp HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n");
                agent.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
                assert!(read_event(&mut agent).starts_with("HTTP/1.1 200 "));
                drop(agent);
                // Who ends the agent's TLS counts its calls.
                let count = if traffic == Traffic::Passthrough { ended_at_connector } else { ended };
                while count(&tunnel, outcome) < 1 {
                    thread::yield_now();
                }
            }
            tunnel.end();
        }
    }
}

/// An upstream that answers nothing, or `/flood` without end. Tells when it has a request, and when the connection of that has
/// ended.
fn deaf_upstream() -> (SocketAddr, Receiver<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (shared, news) = channel();
    thread::spawn(move || {
        for mut socket in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = socket.read(&mut request);
            let _ = shared.send(());
            // A reset ends it as well.
            if request.starts_with(b"GET /flood ") {
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
                while socket.write_all(&[b'x'; 64 * 1024]).is_ok() {}
            }
            let _ = socket.read_to_end(&mut Vec::new());
            let _ = shared.send(());
        }
    });
    (address, news)
}

/// What the agent sent ahead is more than the edge takes, and its end is behind that.
#[test]
fn a_closed_agent_with_unread_bytes_is_detected() {
    const AHEAD: usize = 300_000;
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for traffic in [Traffic::Plain, Traffic::Resealed, Traffic::Passthrough] {
            let (upstream, news) = deaf_upstream();
            // A link does not carry an end past bytes that it has no room for. The edge waits for that as for one that does not read.
            let tunnel = Tunnel::impatient(driver, traffic, Duration::from_millis(200), upstream);
            for (path, resets) in [("/mcp", true), ("/mcp", false), ("/flood", true), ("/flood", false)] {
                let mut agent = tunnel.agent();
                let head = format!("GET {path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
                agent.write_all(head.as_bytes()).unwrap();
                news.recv().unwrap();
                agent.write_all(&vec![b'x'; AHEAD]).unwrap();
                agent.flush().unwrap();
                // Nothing of a flood is read. Who closes before it has read all resets; a half is closed without that.
                let socket = SockRef::from(agent.get_ref()).try_clone().unwrap();
                if resets {
                    socket.set_linger(Some(Duration::ZERO)).unwrap();
                    drop((agent, socket));
                    news.recv().unwrap();
                } else {
                    socket.shutdown(Shutdown::Write).unwrap();
                    news.recv().unwrap();
                }
            }
            tunnel.end();
        }
    }
}
