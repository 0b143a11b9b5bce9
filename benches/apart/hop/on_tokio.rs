//! The hop on tokio and tokio-rustls, as their documentation has it: one thread, `copy_bidirectional`.

use std::io;

use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::place::{BUFFER_LEN, LOOPBACK, Place};

pub(crate) fn serve(place: Place) -> io::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(accept(place))
}

async fn accept(place: Place) -> io::Result<()> {
    let listener = TcpListener::bind(LOOPBACK).await?;
    Place::announce(listener.local_addr()?)?;
    let acceptor = TlsAcceptor::from(place.tls);
    loop {
        let (agent, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // The client has gone, as it does at the end of each round.
            let _ = relay(&acceptor, agent, place.upstream).await;
        });
    }
}

async fn relay(acceptor: &TlsAcceptor, agent: TcpStream, upstream: std::net::SocketAddr) -> io::Result<()> {
    agent.set_nodelay(true)?;
    let mut agent = acceptor.accept(agent).await?;
    let mut upstream = TcpStream::connect(upstream).await?;
    upstream.set_nodelay(true)?;
    copy_bidirectional_with_sizes(&mut agent, &mut upstream, BUFFER_LEN, BUFFER_LEN).await.map(drop)
}
