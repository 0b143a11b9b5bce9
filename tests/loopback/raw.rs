//! HTTP/1.1 by hand, on both ends: what a test sends is exactly what it wrote, and what it reads is exactly what came.
//!
//! The test plays the agent and the upstream in turn, in one thread. Nothing here is timed: a step waits for bytes that
//! must come, and [`PATIENCE`] only ends a test in which they were lost.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// The start line and the fields of a message, as they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// `POST /mcp HTTP/1.1`, or `HTTP/1.1 200 OK`.
    pub(crate) start: String,
    /// Names and values, in order, as Latin-1 so that every byte has a character.
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// The values of a field, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = |(field, _): &&(String, String)| field.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).map(|(_, value)| value.as_str()).collect()
    }

    /// The one value of a field that must not be repeated.
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} is repeated: {self:?}");
        all.first().copied()
    }

    /// The status of a response.
    pub(crate) fn status(&self) -> u16 {
        let status = self.start.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        status.unwrap_or_else(|| panic!("not a status line: {}", self.start))
    }

    /// The fields without those that an intermediary may change or add, named in lower case.
    pub(crate) fn without(&self, names: &[&str]) -> Vec<(String, String)> {
        let kept = |(field, _): &&(String, String)| !names.contains(&field.to_ascii_lowercase().as_str());
        self.fields.iter().filter(kept).cloned().collect()
    }
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: TcpStream,
    /// What came and was not read yet.
    ahead: Vec<u8>,
}

impl Peer {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).expect("something listens there"))
    }

    fn new(stream: TcpStream) -> Self {
        stream.set_nonblocking(false).expect("a socket can block");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        stream.set_read_timeout(Some(PATIENCE)).expect("a read time-out");
        stream.set_write_timeout(Some(PATIENCE)).expect("a write time-out");
        Self { stream, ahead: Vec::new() }
    }

    /// A second handle, to write from another thread.
    pub(crate) fn writer(&self) -> Self {
        Self::new(self.stream.try_clone().expect("a socket can be shared"))
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the other side takes what is sent");
    }

    /// Reads a head to its empty line.
    pub(crate) fn head(&mut self) -> Head {
        let end = loop {
            if let Some(at) = self.ahead.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            assert!(self.fill(), "the connection ended in a head: {:?}", latin1(&self.ahead));
        };
        let text = latin1(&self.take(end + 4));
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let start = lines.next().expect("a split has a first part").to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no colon in {line}"));
            (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
        };
        Head { start, fields: lines.map(field).collect() }
    }

    /// Reads exactly `len` bytes.
    pub(crate) fn exactly(&mut self, len: usize) -> Vec<u8> {
        while self.ahead.len() < len {
            assert!(self.fill(), "the connection ended after {} of {len} bytes", self.ahead.len());
        }
        self.take(len)
    }

    /// Reads the whole body that belongs to a head, and its trailers.
    pub(crate) fn body(&mut self, head: &Head) -> Vec<u8> {
        if let Some(length) = head.one("content-length") {
            return self.exactly(length.parse().expect("Content-Length is a number"));
        }
        if head.one("transfer-encoding").is_none() {
            return Vec::new();
        }
        let mut body = Vec::new();
        loop {
            let chunk = self.chunk();
            if chunk.is_empty() {
                return body;
            }
            body.extend(chunk);
        }
    }

    /// Reads decoded bytes of a chunked body until `len` are there, however they were cut into chunks.
    pub(crate) fn decoded(&mut self, len: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while all.len() < len {
            let chunk = self.chunk();
            assert!(!chunk.is_empty(), "the body ended after {} of {len} bytes", all.len());
            all.extend(chunk);
        }
        assert_eq!(all.len(), len, "more came than was sent: {:?}", latin1(&all));
        all
    }

    /// Reads one chunk; the last one is empty and its trailers are thrown away.
    pub(crate) fn chunk(&mut self) -> Vec<u8> {
        let size = self.line();
        let len = usize::from_str_radix(size.trim(), 16).unwrap_or_else(|_| panic!("not a chunk size: {size:?}"));
        if len == 0 {
            while !self.line().is_empty() {}
            return Vec::new();
        }
        let chunk = self.exactly(len);
        assert_eq!(self.exactly(2), b"\r\n");
        chunk
    }

    /// Reads the end of a chunked body and gives its trailers.
    pub(crate) fn trailers(&mut self) -> Vec<String> {
        assert_eq!(self.line(), "0");
        let mut trailers = Vec::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                return trailers;
            }
            trailers.push(line);
        }
    }

    /// Waits until the other side has closed, whatever came before; tells what came.
    pub(crate) fn until_closed(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.ahead)
    }

    /// Closes at once, both ways.
    pub(crate) fn close(self) {
        drop(self);
    }

    fn line(&mut self) -> String {
        let end = loop {
            if let Some(at) = self.ahead.windows(2).position(|window| window == b"\r\n") {
                break at;
            }
            assert!(self.fill(), "the connection ended in a line: {:?}", latin1(&self.ahead));
        };
        let mut line = self.take(end + 2);
        line.truncate(end);
        latin1(&line)
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let rest = self.ahead.split_off(len);
        std::mem::replace(&mut self.ahead, rest)
    }

    /// Reads some bytes; false at the end of the connection, however it came.
    fn fill(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => false,
            Ok(len) => {
                self.ahead.extend_from_slice(&piece[..len]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing came ({error}) after {:?}", latin1(&self.ahead)),
        }
    }

    /// The other end of the connection.
    pub(crate) fn other_end(&self) -> OtherEnd {
        let address = |end: std::io::Result<SocketAddr>| end.expect("a connection has two ends");
        OtherEnd { there: address(self.stream.peer_addr()), here: address(self.stream.local_addr()) }
    }

    /// Whether bytes or an end wait to be read.
    fn has_news(&self) -> bool {
        self.stream.set_nonblocking(true).expect("a socket can be non-blocking");
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).expect("a socket can block");
        !matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }
}

/// The end of a connection that the program under test holds.
pub(crate) struct OtherEnd {
    there: SocketAddr,
    here: SocketAddr,
}

impl OtherEnd {
    /// Waits until it is closed.
    pub(crate) fn until_gone(&self) {
        let started = Instant::now();
        while tcp_state(self.there, self.here) == Some(TCP_ESTABLISHED) {
            assert!(started.elapsed() < PATIENCE, "the connection is still held");
            std::thread::yield_now();
        }
    }
}

/// The private server, played by the test.
pub(crate) struct Upstream {
    listener: TcpListener,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Connections on which another request may come.
    kept: Vec<Peer>,
}

impl Upstream {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
        listener.set_nonblocking(true).expect("a listener can be non-blocking");
        let address = listener.local_addr().expect("a bound listener has an address");
        Self { listener, address, kept: Vec::new() }
    }

    /// The next request's head, on whichever connection it comes, and that connection.
    pub(crate) fn next(&mut self) -> (Head, Peer) {
        let started = Instant::now();
        loop {
            if let Some(mut peer) = self.poll() {
                let head = peer.head();
                return (head, peer);
            }
            assert!(started.elapsed() < PATIENCE, "no request arrived");
            std::thread::yield_now();
        }
    }

    /// Gives a connection back, on which another request may come.
    pub(crate) fn keep(&mut self, peer: Peer) {
        self.kept.push(peer);
    }

    /// Closes every connection that was given back, and waits until the other side's system has been told: what is sent
    /// there after that cannot cross the close.
    pub(crate) fn close_kept(&mut self) {
        for peer in self.kept.drain(..) {
            let there = peer.stream.peer_addr().expect("a connection has two ends");
            peer.close();
            let started = Instant::now();
            while tcp_state(there, self.address) == Some(TCP_ESTABLISHED) {
                assert!(started.elapsed() < PATIENCE, "the close did not arrive");
                std::thread::yield_now();
            }
        }
    }

    /// A connection on which a request begins, if there is one now.
    fn poll(&mut self) -> Option<Peer> {
        if let Ok((stream, _)) = self.listener.accept() {
            self.kept.push(Peer::new(stream));
        }
        let at = self.kept.iter().position(|peer| !peer.ahead.is_empty() || peer.has_news())?;
        let mut peer = self.kept.swap_remove(at);
        // The end of a connection that was kept is not a request.
        (!peer.ahead.is_empty() || peer.fill()).then_some(peer)
    }
}

/// How Linux numbers a connection whose peer has not closed it (`include/net/tcp_states.h`).
const TCP_ESTABLISHED: u8 = 1;

/// The state of a connection's end at `local`, or none when there is no such connection.
fn tcp_state(local: SocketAddr, remote: SocketAddr) -> Option<u8> {
    let SocketAddr::V4(local) = local else { panic!("tests run on IPv4 loopback") };
    let SocketAddr::V4(remote) = remote else { panic!("tests run on IPv4 loopback") };
    let text = |address: std::net::SocketAddrV4| {
        format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
    };
    let ends = (text(local), text(remote));
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux lists its connections");
    table.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let found = words.next() == Some(ends.0.as_str()) && words.next() == Some(ends.1.as_str());
        found.then(|| u8::from_str_radix(words.next()?, 16).ok())?
    })
}

/// A string with one character for each byte.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}
