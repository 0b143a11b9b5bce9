//! System calls on sockets that both kernel drivers share.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use crate::engine::driver::{Address, RawSocket, SocketOptions};

/// The most connections that wait to be accepted, per listener.
const BACKLOG: i32 = 1024;

/// Opens a listening socket. Returns it with the bound address.
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

/// Opens a socket that can connect to `address`; returns it with the address in the system's format.
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

/// The system's socket in `raw`, set to non-blocking.
///
/// # Errors
///
/// If it belongs to the simulated network.
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

/// The largest receive buffer of a connection in the kernel, in bytes. By default it grows to tens of megabytes for a
/// connection that is not read, and a thousand such connections would use up the memory that all TCP connections of the
/// machine share, links included.
const RECEIVE_WINDOW_MAX: libc::c_int = 512 * 1024;
/// The largest receive buffer of a link in the kernel, in bytes. A link is always read and may have a long round-trip
/// time.
const LINK_WINDOW_MAX: libc::c_int = 64 * 1024 * 1024;
/// The most bytes that the kernel accepts before it has sent them. Bytes that wait there can neither be dropped nor
/// overtaken.
const UNSENT_MAX: u32 = 128 * 1024;

/// A connection that is over, as Linux numbers the states (`include/net/tcp_states.h`).
const TCP_CLOSE: u8 = 7;
/// How many keep-alive probes are sent to a silent peer, in about the second half of its time.
const PROBES_MAX: u32 = 3;

/// Sets the options of every connection. Errors are ignored: a Unix socket has none of these options, and a connection
/// that has failed reports that when it is used.
pub(in crate::engine) fn set_up(fd: &impl AsFd, options: SocketOptions) {
    let _ = SockRef::from(fd).set_tcp_nodelay(true);
    let _ = SockRef::from(fd).set_tcp_notsent_lowat(UNSENT_MAX);
    clamp_window(fd, RECEIVE_WINDOW_MAX);
    if let Some(silence_max) = options.silence_max {
        notice_silence(fd, silence_max);
    }
    acknowledge(fd, options);
}

/// Makes the system probe a silent peer, and fail the connection if nothing is answered for `silence_max`.
fn notice_silence(fd: &impl AsFd, silence_max: Duration) {
    let (first, interval) = probe_times(silence_max);
    let probes = TcpKeepalive::new().with_time(first).with_interval(interval).with_retries(PROBES_MAX);
    let _ = SockRef::from(fd).set_tcp_keepalive(&probes);
    // The limit for bytes that were sent and not acknowledged; it also overrides the number of probes.
    let _ = SockRef::from(fd).set_tcp_user_timeout(Some(silence_max));
}

/// The silence after which a peer is first probed, and the interval of further probes, in whole seconds as the kernel
/// requires. The kernel checks its limit only when a probe is due, so one is due as soon as the limit is reached.
fn probe_times(silence_max: Duration) -> (Duration, Duration) {
    let limit_s = silence_max.as_secs() + u64::from(silence_max.subsec_nanos() > 0);
    let interval_s = (limit_s / (2 * u64::from(PROBES_MAX))).max(1);
    let first_s = limit_s.saturating_sub(u64::from(PROBES_MAX) * interval_s).max(1);
    (Duration::from_secs(first_s), Duration::from_secs(interval_s))
}

/// Sets the options of a connection that carries a link.
pub(in crate::engine) fn set_up_link(fd: &impl AsFd) {
    clamp_window(fd, LINK_WINDOW_MAX);
}

fn clamp_window(fd: &impl AsFd, bytes: libc::c_int) {
    let (value, len) = (std::ptr::from_ref(&bytes).cast(), size_of_val(&bytes) as libc::socklen_t);
    // SAFETY: `value` points to an integer that lives as long as the call and `len` is its size; the descriptor is open while
    // `fd` is borrowed.
    let _ = unsafe { libc::setsockopt(fd.as_fd().as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, value, len) };
}

/// Acknowledges received bytes and sets TCP_QUICKACK again, which the kernel clears by itself.
pub(in crate::engine) fn acknowledge(fd: &impl AsFd, options: SocketOptions) {
    if options.quick_ack {
        let _ = SockRef::from(fd).set_tcp_quickack(true);
    }
}

/// How many bytes the system has not sent or the peer has not acknowledged, including the end of sending. Zero if the
/// system cannot tell.
pub(in crate::engine) fn unacknowledged_bytes(fd: &impl AsFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one integer, to `bytes`, which outlives the call; the descriptor is open while `fd` is borrowed.
    let status = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCOUTQ, std::ptr::from_mut(&mut bytes)) };
    if status == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
}

/// How many bytes were sent and not acknowledged by the peer, without those that the system still holds back.
pub(in crate::engine) fn in_flight_bytes(fd: &impl AsFd) -> usize {
    let mut unsent: libc::c_int = 0;
    // SAFETY: the request writes one integer, to `unsent`, which outlives the call; the descriptor is open while `fd` is borrowed.
    let status =
        unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::SIOCOUTQNSD as _, std::ptr::from_mut(&mut unsent)) };
    let unsent = if status == 0 { usize::try_from(unsent).unwrap_or(0) } else { 0 };
    unacknowledged_bytes(fd).saturating_sub(unsent)
}

/// Whether the system considers the connection closed. False if the system cannot tell.
pub(in crate::engine) fn is_over(fd: &impl AsFd) -> bool {
    // The first field of `struct tcp_info` is the state; the kernel copies as much as there is room for.
    let (mut state, mut len) = (0_u8, 1 as libc::socklen_t);
    let value = std::ptr::from_mut(&mut state).cast();
    // SAFETY: `value` points to `len` bytes, one, which outlive the call, as `len` does; the descriptor is open while `fd` is
    // borrowed.
    let result =
        unsafe { libc::getsockopt(fd.as_fd().as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, value, &raw mut len) };
    result == 0 && state == TCP_CLOSE
}

/// Whether the system holds bytes, the end or an error of the connection. An error is consumed by this check.
pub(in crate::engine) fn has_pending_input(fd: &impl AsFd) -> bool {
    match SockRef::from(fd).peek(&mut [MaybeUninit::uninit()]) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
    }
}

/// Makes closing the socket reset the connection.
pub(in crate::engine) fn reset_on_close(fd: &impl AsFd) {
    let _ = SockRef::from(fd).set_linger(Some(Duration::ZERO));
}

/// Accepts the next connection of a listener, set to non-blocking, with its peer address.
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

/// Whether a failed accept concerns only the new connection, so that the next accept may succeed.
pub(in crate::engine) fn is_of_one_connection(error: &io::Error) -> bool {
    // Linux reports errors that are already pending on the new connection from accept(2).
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_due_as_soon_as_a_silent_peer_is_to_be_given_up() {
        let second = Duration::from_secs(1);
        for ms in [125, 1_000, 1_250, 2_000, 3_000, 4_500, 10_000, 37_500, 62_500, 75_000, 4_500_000] {
            let silence_max = Duration::from_millis(ms);
            let (first, interval) = probe_times(silence_max);
            let given_up = (0..).map(|n| first + n * interval).find(|due| *due >= silence_max).unwrap();
            assert!(given_up < silence_max + second, "{silence_max:?}: {first:?} and then each {interval:?}");
            assert!(first >= second && interval >= second && interval <= silence_max.max(second));
        }
    }
}
