//! Agents that hold a connection and do nothing with it: plain sockets that are never read.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size, set_socket_timeout};
use rustix::net::{AddressFamily, SocketType, connect, socket};
use rustls::ClientConnection;

use super::agents::request_head;
use super::{Kind, StormSettings, Tally};
use crate::dial::TlsTarget;
use crate::serve::ticks::Ticks;

/// The receive buffer of an agent that does not read, in bytes; the kernel's minimum is a few kilobytes.
const RECEIVE_BUFFER: usize = 4096;
/// How long one agent may take to connect.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the end of the storm is checked.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// The first byte of a TLS handshake record, without the rest.
const RECORD_BEGINS: &[u8] = &[0x16];
/// The first byte of a record after the TLS handshake, without the rest.
const DATA_BEGINS: &[u8] = &[0x17];
/// The first byte of a request, without the rest.
const HEAD_BEGINS: &[u8] = b"G";

/// The parameters of all holders of one kind.
pub(super) struct Holders {
    pub(super) kind: Kind,
    pub(super) count: usize,
    pub(super) settings: StormSettings,
    pub(super) address: SocketAddr,
    pub(super) authority: String,
    pub(super) tls: Option<TlsTarget>,
}

impl Holders {
    /// Opens the connections one after the other, holds them until `stop` is set, and checks which are still open.
    pub(super) fn run(self, stop: &Arc<AtomicBool>) -> Tally {
        let mut tally = Tally { asked: self.count as u64, ..Tally::default() };
        let mut held = Vec::with_capacity(self.count);
        for _ in 0..self.count {
            if stop.load(Ordering::Relaxed) {
                tally.fail("the storm was over before it was connected");
                continue;
            }
            let began = Instant::now();
            match self.open() {
                Ok(socket) => held.push(socket),
                Err(why) => tally.fail(&why),
            }
            tally.slowest = tally.slowest.max(began.elapsed());
        }
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK_INTERVAL);
        }
        tally.held = held.iter().filter(|socket| is_open(socket)).count() as u64;
        tally.ended = held.len() as u64 - tally.held;
        tally
    }

    fn open(&self) -> Result<TcpStream, String> {
        let mut socket =
            dial(self.address, self.kind.is_stalled()).map_err(|error| format!("no connection: {error}"))?;
        let path = match self.kind {
            Kind::HalfOpen => return Ok(socket),
            Kind::Partial => {
                let byte = if self.tls.is_some() { RECORD_BEGINS } else { HEAD_BEGINS };
                return socket.write_all(byte).map(|()| socket).map_err(|error| error.to_string());
            }
            Kind::SealedPartial => {
                let session = self.seal(&mut socket);
                let sent = session.and_then(|_| socket.write_all(DATA_BEGINS));
                return sent.map(|()| socket).map_err(|error| error.to_string());
            }
            Kind::ChattyStalled => Ticks { count: u64::from(u32::MAX), ..self.settings.stalled_events }.path(),
            _ => format!("/body/{}", self.settings.stalled_bytes),
        };
        let request = request_head("GET", &path, &self.authority, None);
        self.send(&mut socket, request.as_bytes()).map_err(|error| format!("the request was not accepted: {error}"))?;
        Ok(socket)
    }

    /// Makes the TLS handshake, if TLS is used.
    fn seal(&self, socket: &mut TcpStream) -> std::io::Result<Option<ClientConnection>> {
        let Some((config, name)) = &self.tls else { return Ok(None) };
        let mut session = ClientConnection::new(Arc::clone(config), name.clone()).map_err(std::io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(socket)?;
        }
        Ok(Some(session))
    }

    fn send(&self, socket: &mut TcpStream, request: &[u8]) -> std::io::Result<()> {
        let Some(mut session) = self.seal(socket)? else { return socket.write_all(request) };
        session.writer().write_all(request)?;
        while session.wants_write() {
            session.write_tls(socket)?;
        }
        Ok(())
    }
}

/// A blocking connection with timeouts.
fn dial(address: SocketAddr, small: bool) -> std::io::Result<TcpStream> {
    let SocketAddr::V4(address) = address else { return Err(ErrorKind::Unsupported.into()) };
    let raw = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    if small {
        // Set before connecting, because the window scale is negotiated then.
        set_socket_recv_buffer_size(&raw, RECEIVE_BUFFER)?;
    }
    for way in [Timeout::Send, Timeout::Recv] {
        set_socket_timeout(&raw, way, Some(OPEN_TIMEOUT))?;
    }
    connect(&raw, &SocketAddrV4::new(*address.ip(), address.port()))?;
    Ok(TcpStream::from(raw))
}

/// Whether the peer has neither finished nor reset the connection, and sent nothing if nothing was requested.
fn is_open(socket: &TcpStream) -> bool {
    let mut polled = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::RDHUP)];
    let looked = poll(&mut polled, Some(&Timespec::default()));
    looked.is_ok() && polled[0].revents().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_closed_connection_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = dial(listener.local_addr().unwrap(), true).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(is_open(&socket));
        drop(accepted);
        let mut polled = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::RDHUP)];
        poll(&mut polled, None).unwrap();
        assert!(!is_open(&socket));
    }
}
