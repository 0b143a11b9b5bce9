//! The upstream: reads a request of fixed length, answers with as many bytes as its first four ask for.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::place::LOOPBACK;

pub(crate) const REQUEST_LEN: usize = 1024;
/// What the answers are made of.
pub(crate) const FILLER: u8 = 0xa5;
const RESPONSE_LEN_MAX: usize = 1024 * 1024;

pub(crate) async fn start() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(LOOPBACK).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serve(socket));
        }
    });
    Ok(address)
}

/// Serves one connection until its client is gone.
async fn serve(mut socket: TcpStream) -> io::Result<()> {
    static RESPONSE: [u8; RESPONSE_LEN_MAX] = [FILLER; RESPONSE_LEN_MAX];
    socket.set_nodelay(true)?;
    let mut request = [0; REQUEST_LEN];
    loop {
        socket.read_exact(&mut request).await?;
        let len = u32::from_be_bytes([request[0], request[1], request[2], request[3]]) as usize;
        socket.write_all(&RESPONSE[..len.min(RESPONSE_LEN_MAX)]).await?;
    }
}
