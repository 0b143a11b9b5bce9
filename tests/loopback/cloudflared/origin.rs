//! A server of HTTP/1.1 by hand.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::edge::within;

/// A server that listens.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    listener: TcpListener,
}

/// A connection to the server.
pub(crate) struct Caller {
    stream: TcpStream,
    ahead: Vec<u8>,
}

impl Origin {
    pub(crate) async fn start() -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Origin { address: listener.local_addr().unwrap(), listener }
    }

    pub(crate) async fn accept(&self) -> Caller {
        let (stream, _) = within(self.listener.accept()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Caller { stream, ahead: Vec::new() }
    }
}

impl Caller {
    /// The head of the next request.
    pub(crate) async fn head(&mut self) -> String {
        let end = loop {
            if let Some(at) = self.ahead.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.fill().await, "the head ends");
        };
        String::from_utf8(self.ahead.drain(..end).collect()).unwrap()
    }

    /// The next bytes of a body.
    pub(crate) async fn exactly(&mut self, len: usize) -> Vec<u8> {
        while self.ahead.len() < len {
            assert!(self.fill().await, "the body ends");
        }
        self.ahead.drain(..len).collect()
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within(self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Waits until the connector has closed the connection.
    pub(crate) async fn closed(&mut self) {
        while self.fill().await {}
    }

    async fn fill(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        let len = within(self.stream.read(&mut piece)).await.unwrap_or(0);
        self.ahead.extend_from_slice(&piece[..len]);
        len > 0
    }
}
