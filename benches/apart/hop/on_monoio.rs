//! The hop on monoio and monoio-rustls: one thread, owned buffers, the ring set up as it serves monoio best.

use std::io;

use futures_lite::future;
use io_uring_of_monoio::IoUring;
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Splitable};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};
use monoio_rustls::TlsAcceptor;

use crate::place::{BUFFER_LEN, LOOPBACK, Place};

pub(crate) fn serve(place: Place) -> io::Result<()> {
    let mut ring = IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun();
    RuntimeBuilder::<IoUringDriver>::new().uring_builder(ring).build()?.block_on(accept(place))
}

async fn accept(place: Place) -> io::Result<()> {
    let listener = TcpListener::bind(LOOPBACK)?;
    Place::announce(listener.local_addr()?)?;
    let acceptor = TlsAcceptor::from(place.tls);
    loop {
        let (agent, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        monoio::spawn(async move {
            // The client has gone, as it does at the end of each round.
            let _ = relay(&acceptor, agent, place.upstream).await;
        });
    }
}

async fn relay(acceptor: &TlsAcceptor, agent: TcpStream, upstream: std::net::SocketAddr) -> io::Result<()> {
    agent.set_nodelay(true)?;
    let agent = acceptor.accept(agent).await.map_err(io::Error::other)?;
    let upstream = TcpStream::connect(upstream).await?;
    upstream.set_nodelay(true)?;
    let (mut from_agent, mut to_agent) = agent.into_split();
    let (mut from_upstream, mut to_upstream) = upstream.into_split();
    let there = carry(&mut from_agent, &mut to_upstream);
    let back = carry(&mut from_upstream, &mut to_agent);
    future::try_zip(there, back).await.map(drop)
}

async fn carry(from: &mut impl AsyncReadRent, to: &mut impl AsyncWriteRent) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER_LEN);
    loop {
        let (read, filled) = from.read(buffer).await;
        if read? == 0 {
            return to.shutdown().await;
        }
        let (written, emptied) = to.write_all(filled).await;
        written?;
        to.flush().await?;
        buffer = emptied;
    }
}
