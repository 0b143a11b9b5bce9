//! Sockets as both real drivers open, set up and end them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use crate::engine::driver::{Address, RawSocket, SocketOptions};

/// Connections that may wait to be accepted, per listener.
const BACKLOG: i32 = 1024;

/// Opens a listening socket. Returns it with the address that was bound.
pub(in crate::engine) fn listen(address: &Address) -> io::Result<(OwnedFd, Address)> {
    let (socket, target) = open(address)?;
    if matches!(address, Address::Tcp(_)) {
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
    }
    socket.bind(&target)?;
    socket.listen(BACKLOG)?;
    let bound = match socket.local_addr()?.as_socket() {
        Some(bound) => Address::Tcp(bound),
        None => address.clone(),
    };
    Ok((socket.into(), bound))
}

/// Opens a socket that can connect to `address`, and the address as the system takes it.
pub(in crate::engine) fn open(address: &Address) -> io::Result<(Socket, SockAddr)> {
    let target = match address {
        Address::Tcp(address) => SockAddr::from(*address),
        Address::Unix(path) => SockAddr::unix(path)?,
    };
    let domain = match address {
        Address::Tcp(SocketAddr::V4(_)) => Domain::IPV4,
        Address::Tcp(SocketAddr::V6(_)) => Domain::IPV6,
        Address::Unix(_) => Domain::UNIX,
    };
    Ok((Socket::new_raw(domain, Type::STREAM.nonblocking().cloexec(), None)?, target))
}

/// Takes the system's socket out of `raw`, non-blocking.
///
/// # Errors
///
/// When it is of the simulated network.
#[cfg_attr(
    not(feature = "sim"),
    allow(clippy::infallible_destructuring_match, reason = "simulated ones are of another kind")
)]
pub(in crate::engine) fn take_fd(raw: RawSocket) -> io::Result<OwnedFd> {
    let fd = match raw {
        RawSocket::Fd(fd) => fd,
        #[cfg(feature = "sim")]
        RawSocket::Sim(_) => {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a simulated socket on a real driver"));
        }
    };
    SockRef::from(&fd).set_nonblocking(true)?;
    Ok(fd)
}

/// The most that the system keeps of a connection that is not read, in bytes. Left to itself it grows to tens of megabytes
/// for each, and a thousand such connections use up the memory that all TCP of the machine shares, links included.
const RECEIVE_WINDOW_MAX: libc::c_int = 512 * 1024;
/// The same for a link, which is always read and may be long.
const LINK_WINDOW_MAX: libc::c_int = 64 * 1024 * 1024;
/// The most that the system takes before it has sent it, in bytes: what waits there can neither be dropped nor overtaken.
const UNSENT_MAX: u32 = 128 * 1024;

/// How many keep-alive probes a silent peer is sent in the second half of its time.
const PROBES_MAX: u32 = 3;

/// Sets what every connection has. A unix socket knows none of it, and a connection that has failed already says so
/// when it is used: neither is an error here.
pub(in crate::engine) fn set_up(fd: &impl AsFd, options: SocketOptions) {
    let _ = SockRef::from(fd).set_tcp_nodelay(true);
    let _ = SockRef::from(fd).set_tcp_notsent_lowat(UNSENT_MAX);
    clamp_window(fd, RECEIVE_WINDOW_MAX);
    if let Some(silence_max) = options.silence_max {
        notice_silence(fd, silence_max);
    }
    acknowledge(fd, options);
}

/// Makes the system probe a peer that says nothing, and give one up that answers nothing for `silence_max`.
fn notice_silence(fd: &impl AsFd, silence_max: Duration) {
    let at_least_a_second = |time: Duration| Duration::from_secs(time.as_secs().max(1));
    let probes = TcpKeepalive::new()
        .with_time(at_least_a_second(silence_max / 2))
        .with_interval(at_least_a_second(silence_max / (2 * PROBES_MAX)))
        .with_retries(PROBES_MAX);
    let _ = SockRef::from(fd).set_tcp_keepalive(&probes);
    // For what was sent and is not acknowledged; it also overrides the number of probes.
    let _ = SockRef::from(fd).set_tcp_user_timeout(Some(silence_max));
}

/// Sets what a connection has that carries a link.
pub(in crate::engine) fn set_up_link(fd: &impl AsFd) {
    clamp_window(fd, LINK_WINDOW_MAX);
}

fn clamp_window(fd: &impl AsFd, bytes: libc::c_int) {
    let (value, len) = (std::ptr::from_ref(&bytes).cast(), size_of_val(&bytes) as libc::socklen_t);
    // SAFETY: `value` points to an integer that lives as long as the call and `len` is its size; the descriptor is open while
    // `fd` is borrowed.
    let _ = unsafe { libc::setsockopt(fd.as_fd().as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, value, len) };
}

/// Acknowledges what has arrived and arms TCP_QUICKACK again, which the kernel turns off as it likes.
pub(in crate::engine) fn acknowledge(fd: &impl AsFd, options: SocketOptions) {
    if options.quick_ack {
        let _ = SockRef::from(fd).set_tcp_quickack(true);
    }
}

/// How many bytes the system has still to send or to hear the peer's acknowledgement of, the end of sending included. A system that
/// cannot tell says none.
pub(in crate::engine) fn unacknowledged_bytes(fd: &impl AsFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one integer, to `bytes`, which outlives the call; the descriptor is open while `fd` is borrowed.
    let status = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCOUTQ, std::ptr::from_mut(&mut bytes)) };
    if status == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
}

/// Makes closing the socket reset the connection.
pub(in crate::engine) fn reset_on_close(fd: &impl AsFd) {
    let _ = SockRef::from(fd).set_linger(Some(Duration::ZERO));
}

/// Takes the next connection from a listener, non-blocking, and where it came from.
pub(in crate::engine) fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    let accept = |storage: *mut socket2::SockAddrStorage, len: *mut libc::socklen_t| {
        // SAFETY: `storage` and `len` are valid for writes, and `len` holds the size of `storage`, as `try_init` promises.
        match unsafe { libc::accept4(listener.as_raw_fd(), storage.cast(), len, flags) } {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(fd),
        }
    };
    // SAFETY: on success `accept4` has written an address and its length; on failure the storage is not used.
    let (fd, peer) = unsafe { SockAddr::try_init(accept) }?;
    // SAFETY: `fd` was just opened by `accept4`, and nothing else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    Ok((fd, peer.as_socket()))
}

/// Whether a failed accept concerns only the connection that was to be accepted, so that the next may succeed.
pub(in crate::engine) fn is_of_one_connection(error: &io::Error) -> bool {
    // Linux passes errors that are already pending on the new connection on to accept(2).
    let passing = [
        libc::ECONNABORTED,
        libc::EINTR,
        libc::EPROTO,
        libc::ENETDOWN,
        libc::ENOPROTOOPT,
        libc::EHOSTDOWN,
        libc::ENONET,
        libc::EHOSTUNREACH,
        libc::ENETUNREACH,
    ];
    error.raw_os_error().is_some_and(|code| passing.contains(&code))
}
