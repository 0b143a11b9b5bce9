//! An address that all cores listen on, known before they start.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

/// An address that is reserved for this process, so that each core can listen on it with SO_REUSEPORT.
///
/// The socket behind it does not listen: the system gives connections only to sockets that do.
#[derive(Debug)]
pub struct Reservation {
    _socket: Socket,
    address: SocketAddr,
}

impl Reservation {
    /// Reserves an address; with port 0 the system chooses the port.
    ///
    /// # Errors
    ///
    /// If another process listens on it (with SO_REUSEPORT the two would silently share connections), or the address
    /// does not belong to this machine.
    pub fn new(address: SocketAddr) -> io::Result<Reservation> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        // Bound without SO_REUSEPORT, which fails if something listens there. The option is set on the bound socket, so
        // the system never gets a chance to give the chosen port to another process.
        socket.bind(&address.into())?;
        socket.set_reuse_port(true)?;
        Ok(Reservation { address: local_address(&socket)?, _socket: socket })
    }

    /// The address, with the port that the system chose.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn local_address(socket: &Socket) -> io::Result<SocketAddr> {
    let address = socket.local_addr()?.as_socket();
    address.ok_or_else(|| io::Error::other("a TCP socket has an address of another family"))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn listen(address: SocketAddr) -> Socket {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(64).unwrap();
        socket
    }

    #[test]
    fn connections_go_to_those_that_listen_at_the_reserved_port() {
        let reserved = Reservation::new("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_ne!(reserved.address().port(), 0);
        assert!(TcpStream::connect(reserved.address()).is_err(), "nobody listens yet");
        let listeners = [listen(reserved.address()), listen(reserved.address())];
        for _ in 0..20 {
            TcpStream::connect(reserved.address()).unwrap();
        }
        drop(listeners);
    }

    #[test]
    fn an_address_where_somebody_listens_is_refused() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = Reservation::new(other.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let shared = Reservation::new("127.0.0.1:0".parse().unwrap()).unwrap();
        let _listener = listen(shared.address());
        let error = Reservation::new(shared.address()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "of another process that shares its port");
    }
}
