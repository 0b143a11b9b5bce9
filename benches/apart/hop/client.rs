//! The load: so many connections through a hop, on each one request after the other.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Row;
use crate::figures::Figures;
use crate::hops::Hop;
use crate::place::{SERVER_NAME, Secrets};
use crate::upstream::{FILLER, REQUEST_LEN};

/// Requests before those that count.
const WARM_UP: Duration = Duration::from_millis(300);

pub(crate) struct Client {
    connector: TlsConnector,
}

impl Client {
    pub(crate) fn new(secrets: &Secrets) -> io::Result<Client> {
        Ok(Client { connector: TlsConnector::from(Arc::clone(&secrets.client()?)) })
    }

    /// Loads one hop for `time`.
    pub(crate) async fn measure(&self, hop: &Hop, row: Row, time: Duration) -> io::Result<Figures> {
        let mut agents = Vec::new();
        for _ in 0..row.connections {
            agents.push(self.connect(hop.address, row.response_len).await?);
        }
        let counted_from = Instant::now() + WARM_UP;
        let until = counted_from + time;
        let running: Vec<_> = agents.into_iter().map(|agent| tokio::spawn(agent.run(counted_from, until))).collect();
        tokio::time::sleep_until(counted_from.into()).await;
        let (cpu_before, began) = (hop.cpu_ns()?, Instant::now());
        tokio::time::sleep_until(until.into()).await;
        let (cpu_ns, counted) = (hop.cpu_ns()? - cpu_before, began.elapsed());
        let mut took_ns = Vec::new();
        for agent in running {
            took_ns.extend(agent.await.map_err(io::Error::other)??);
        }
        Figures::of(took_ns, cpu_ns, counted)
            .ok_or_else(|| io::Error::other(format!("{}: no request was answered in {time:?}", hop.name)))
    }

    async fn connect(&self, address: SocketAddr, response_len: usize) -> io::Result<Agent> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(SERVER_NAME).map_err(io::Error::other)?;
        let stream = self.connector.connect(name, socket).await?;
        Ok(Agent { stream, response_len })
    }
}

struct Agent {
    stream: TlsStream<TcpStream>,
    response_len: usize,
}

impl Agent {
    /// Asks until `until`; how long each request took that ended in the counted time, in nanoseconds.
    async fn run(mut self, counted_from: Instant, until: Instant) -> io::Result<Vec<u64>> {
        let mut request = [b'q'; REQUEST_LEN];
        let len = u32::try_from(self.response_len).expect("responses are of 1 MiB at the most");
        request[..4].copy_from_slice(&len.to_be_bytes());
        let mut buffer = vec![0; 256 * 1024];
        let mut took_ns = Vec::new();
        loop {
            let began = Instant::now();
            self.ask(&request, &mut buffer).await?;
            let ended = Instant::now();
            if ended >= until {
                return Ok(took_ns);
            }
            if ended >= counted_from {
                took_ns.push((ended - began).as_nanos() as u64);
            }
        }
    }

    async fn ask(&mut self, request: &[u8], buffer: &mut [u8]) -> io::Result<()> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let mut left = self.response_len;
        while left > 0 {
            let n = self.stream.read(buffer).await?;
            if n == 0 || n > left || buffer[0] != FILLER || buffer[n - 1] != FILLER {
                return Err(io::Error::other("the hop gave another answer than the upstream's"));
            }
            left -= n;
        }
        Ok(())
    }
}
