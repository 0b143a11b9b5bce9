//! A tunnel in this process, on each real driver, and an upstream that says what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use adit::base::Traffic;
use adit::engine::ladder::DriverChoice;
use adit::tls::ALPN_HTTP2;

use crate::front::Front;
use crate::support::Tunnel;

pub(crate) const DRIVERS: [DriverChoice; 2] = [DriverChoice::Epoll, DriverChoice::Uring];

/// A tunnel with its upstream.
pub(crate) struct Site {
    pub(crate) tunnel: Tunnel,
    upstream: Upstream,
    /// What speaks TLS for agents, if it ends in the connector.
    front: Option<Front>,
}

/// Runs a test on each driver.
pub(crate) fn on_each_driver(test: impl Fn(&Site)) {
    for driver in DRIVERS {
        let site = Site::start(driver, Traffic::Plain, (1, 1));
        test(&site);
        site.tunnel.end();
    }
}

/// Runs a test on each driver, with agents that end at the edge, and with agents whose TLS ends in the connector.
pub(crate) fn at_each_end(test: impl Fn(&Site)) {
    on_each_driver(&test);
    for driver in DRIVERS {
        let site = Site::start(driver, Traffic::Passthrough, (1, 1));
        test(&site);
        site.end();
    }
}

impl Site {
    pub(crate) fn start(driver: DriverChoice, traffic: Traffic, shape: (usize, u16)) -> Site {
        let upstream = Upstream::start();
        let tunnel = Tunnel::with_upstreams(driver, traffic, shape, &[upstream.address]);
        let is_sealed = traffic == Traffic::Passthrough;
        let front = is_sealed.then(|| Front::of_connections(tunnel.agents, Some(tunnel.tls(ALPN_HTTP2))));
        Site { tunnel, upstream, front }
    }

    /// Where agents connect that speak HTTP/2 in the clear.
    pub(crate) fn agents(&self) -> SocketAddr {
        self.front.as_ref().map_or(self.tunnel.agents, |front| front.address)
    }

    /// Whether agents' TLS ends in the connector.
    pub(crate) fn is_sealed(&self) -> bool {
        self.front.is_some()
    }

    /// Ends both roles, after what is in flight.
    pub(crate) fn end(self) {
        drop(self.front);
        self.tunnel.end();
    }

    /// What the upstream was asked since this was called last: method and path of each request.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.upstream.asked.lock().unwrap())
    }

    /// The next request for `/hold`, which is answered piece by piece or not at all.
    pub(crate) async fn held(&self) -> Held {
        loop {
            if let Ok(held) = self.upstream.held.lock().unwrap().try_recv() {
                return held;
            }
            // The client's connection runs on this thread too.
            tokio::task::yield_now().await;
        }
    }
}

/// A request at the upstream that the test answers.
pub(crate) struct Held(TcpStream);

impl Held {
    pub(crate) fn send(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).unwrap();
    }

    /// Breaks off.
    pub(crate) fn close(self) {
        self.0.shutdown(Shutdown::Both).unwrap();
    }

    /// Waits until the other side has ended the connection.
    pub(crate) fn until_closed(mut self) {
        // A reset ends it as well.
        let _ = self.0.read_to_end(&mut Vec::new());
    }
}

/// Answers each request by its path:
///
/// - `/bytes/N`: N bytes, with their number in the head.
/// - `/chunks/N`: N bytes in chunks, and trailers.
/// - `/early`: an interim response first.
/// - `/empty`: 204.
/// - `/hold`: by the test.
/// - Anything else: what it was asked, byte for byte.
struct Upstream {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    held: Mutex<Receiver<Held>>,
}

impl Upstream {
    fn start() -> Upstream {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, (hold, held)) = (Arc::<Mutex<Vec<String>>>::default(), channel());
        let shared = Arc::clone(&asked);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (shared, hold) = (Arc::clone(&shared), hold.clone());
                thread::spawn(move || while serve(&socket, &shared, &hold).is_some() {});
            }
        });
        Upstream { address, asked, held: Mutex::new(held) }
    }
}

/// Serves one request; none if no other can follow.
fn serve(mut socket: &TcpStream, message: &Mutex<Vec<String>>, hold: &Sender<Held>) -> Option<()> {
    let mut reader = BufReader::new(socket);
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        if reader.read_line(&mut text).ok()? == 0 {
            return None;
        }
    }
    let lower = text.to_ascii_lowercase();
    let path = text.split(' ').nth(1)?.to_owned();
    message.lock().unwrap().push(text.split(' ').take(2).collect::<Vec<_>>().join(" "));
    if path == "/hold" {
        hold.send(Held(socket.try_clone().ok()?)).ok()?;
        return None;
    }
    if lower.contains("expect: 100-continue") {
        socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    if let Some(length) = lower.split("content-length: ").nth(1) {
        let mut body = vec![0; length.split("\r\n").next()?.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
        text.push_str(&String::from_utf8_lossy(&body));
    } else if lower.contains("transfer-encoding: chunked") {
        let mut line = String::new();
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let len = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; len];
            reader.read_exact(&mut chunk).ok()?;
            text.push_str(&String::from_utf8_lossy(&chunk));
            line.clear();
            reader.read_line(&mut line).ok()?;
            if len == 0 {
                while !line.trim().is_empty() {
                    text.push_str(&line);
                    line.clear();
                    reader.read_line(&mut line).ok()?;
                }
                break;
            }
        }
    }
    let is_head = text.starts_with("HEAD ");
    let number = |prefix: &str| path.strip_prefix(prefix).and_then(|rest| rest.parse::<usize>().ok());
    let mut answer = match (path.as_str(), number("/bytes/"), number("/chunks/")) {
        (_, Some(len), _) => format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{}", "x".repeat(len)),
        (_, _, Some(len)) => {
            let half = "y".repeat(len / 2);
            let chunk = format!("{:x}\r\n{half}\r\n", half.len());
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\nKeep-Alive: timeout=9\r\n\r\n\
                 {chunk}{chunk}0\r\nX-Sum: {len}\r\n\r\n"
            )
        }
        ("/early", ..) => "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                           HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            .to_owned(),
        ("/empty", ..) => "HTTP/1.1 204 No Content\r\nX-Empty: yes\r\n\r\n".to_owned(),
        _ => format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{text}", text.len()),
    };
    if is_head {
        answer.truncate(answer.find("\r\n\r\n")? + 4);
    }
    socket.write_all(answer.as_bytes()).ok()
}
