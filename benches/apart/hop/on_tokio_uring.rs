//! The hop on tokio-uring, which has no TLS of its own: rustls's buffered connection over owned buffers.

use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::Arc;

use futures_lite::future;
use rustls::{ServerConfig, ServerConnection};
use tokio_uring::net::{TcpListener, TcpStream};

use crate::place::{BUFFER_LEN, LOOPBACK, Place};

pub(crate) fn serve(place: Place) -> io::Result<()> {
    let mut ring = tokio_uring::uring_builder();
    ring.setup_single_issuer().setup_coop_taskrun();
    tokio_uring::builder().uring_builder(&ring).start(accept(place))
}

async fn accept(place: Place) -> io::Result<()> {
    let listener = TcpListener::bind(LOOPBACK)?;
    Place::announce(listener.local_addr()?)?;
    let place = Rc::new(place);
    loop {
        let (agent, _) = listener.accept().await?;
        let place = Rc::clone(&place);
        tokio_uring::spawn(async move {
            // The client has gone, as it does at the end of each round.
            let _ = relay(agent, &place).await;
        });
    }
}

async fn relay(agent: TcpStream, place: &Place) -> io::Result<()> {
    agent.set_nodelay(true)?;
    let agent = Sealed::handshake(agent, &place.tls).await?;
    let upstream = TcpStream::connect(place.upstream).await?;
    upstream.set_nodelay(true)?;
    future::try_zip(agent.carry_to(&upstream), agent.carry_from(&upstream)).await.map(drop)
}

/// The agent's connection.
struct Sealed {
    socket: TcpStream,
    session: RefCell<ServerConnection>,
    /// What came with the end of the handshake.
    first: Vec<u8>,
}

impl Sealed {
    async fn handshake(socket: TcpStream, config: &Arc<ServerConfig>) -> io::Result<Sealed> {
        let mut session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        session.set_buffer_limit(None);
        let (mut input, mut output, mut first) = (Vec::with_capacity(BUFFER_LEN), Vec::new(), Vec::new());
        while session.is_handshaking() {
            let (read, filled) = socket.read(input).await;
            let len = read?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            open(&mut session, &filled[..len], &mut first)?;
            output = send(&socket, &mut session, output).await?;
            input = filled;
        }
        Ok(Sealed { socket, session: RefCell::new(session), first })
    }

    async fn carry_to(&self, upstream: &TcpStream) -> io::Result<()> {
        if !self.first.is_empty() {
            upstream.write_all(self.first.clone()).await.0?;
        }
        let (mut input, mut plain) = (Vec::with_capacity(BUFFER_LEN), Vec::with_capacity(BUFFER_LEN));
        loop {
            let (read, filled) = self.socket.read(input).await;
            let len = read?;
            if len == 0 {
                return upstream.shutdown(Shutdown::Write);
            }
            plain.clear();
            open(&mut self.session.borrow_mut(), &filled[..len], &mut plain)?;
            input = filled;
            if !plain.is_empty() {
                let (written, emptied) = upstream.write_all(plain).await;
                written?;
                plain = emptied;
            }
        }
    }

    async fn carry_from(&self, upstream: &TcpStream) -> io::Result<()> {
        let (mut input, mut output) = (Vec::with_capacity(BUFFER_LEN), Vec::with_capacity(2 * BUFFER_LEN));
        loop {
            let (read, filled) = upstream.read(input).await;
            let len = read?;
            if len == 0 {
                return self.socket.shutdown(Shutdown::Write);
            }
            output.clear();
            {
                let mut session = self.session.borrow_mut();
                session.writer().write_all(&filled[..len])?;
                seal(&mut session, &mut output)?;
            }
            let (written, emptied) = self.socket.write_all(output).await;
            written?;
            (input, output) = (filled, emptied);
        }
    }
}

/// Opens what was received, and puts what it holds behind `plain`.
fn open(session: &mut ServerConnection, mut received: &[u8], plain: &mut Vec<u8>) -> io::Result<()> {
    while !received.is_empty() {
        session.read_tls(&mut received)?;
        let state = session.process_new_packets().map_err(io::Error::other)?;
        let start = plain.len();
        plain.resize(start + state.plaintext_bytes_to_read(), 0);
        session.reader().read_exact(&mut plain[start..])?;
    }
    Ok(())
}

fn seal(session: &mut ServerConnection, output: &mut Vec<u8>) -> io::Result<()> {
    while session.wants_write() {
        session.write_tls(output)?;
    }
    Ok(())
}

async fn send(socket: &TcpStream, session: &mut ServerConnection, mut output: Vec<u8>) -> io::Result<Vec<u8>> {
    output.clear();
    seal(session, &mut output)?;
    if output.is_empty() {
        return Ok(output);
    }
    let (written, emptied) = socket.write_all(output).await;
    written.map(|()| emptied)
}
