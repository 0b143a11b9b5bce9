//! The system calls of datagram sockets, with their control messages.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use socket2::{Domain, SockAddr, Socket, Type};

use crate::engine::{DatagramBatch, Ecn};

/// The kernel's buffer of a datagram socket in each direction, in bytes, as far as the system permits. A core may be busy for
/// some milliseconds before it receives.
const SOCKET_BUFFER: usize = 4 * 1024 * 1024;
/// How many datagrams the kernel cuts one batch into at most (`UDP_MAX_SEGMENTS` of kernels before 6.8).
const SEGMENTS_MAX: usize = 64;

/// Opens a datagram socket. Returns it with the bound address.
pub(super) fn bind(address: SocketAddr) -> io::Result<(OwnedFd, SocketAddr)> {
    let socket = Socket::new_raw(Domain::for_address(address), Type::DGRAM.nonblocking().cloexec(), None)?;
    socket.set_reuse_port(true)?;
    // Less is possible than what is asked for here; the kernel gives what the system permits.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.bind(&SockAddr::from(address))?;
    for (level, option, value) in options(address) {
        set_option(&socket, level, option, value)?;
    }
    // Optional: not every kernel puts datagrams together.
    let _ = set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, 1);
    let bound = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((socket.into(), bound))
}

/// The options that report addresses and marks, and keep datagrams whole even if the kernel believes that the path is narrower.
/// A socket for IPv6 may carry IPv4 too.
fn options(address: SocketAddr) -> impl Iterator<Item = (libc::c_int, libc::c_int, libc::c_int)> {
    let v4 = [
        (libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
        (libc::IPPROTO_IP, libc::IP_RECVTOS, 1),
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
    ];
    let v6 = [
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
        (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1),
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
    ];
    let v6: &[_] = if address.is_ipv6() { &v6 } else { &[] };
    v4.into_iter().chain(v6.to_vec())
}

/// How many datagrams a batch on this socket may have.
pub(super) fn segments_max(socket: &impl AsFd) -> usize {
    // Kernels that know the option accept its default, which cuts nothing.
    if set_option(socket, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok() { SEGMENTS_MAX } else { 1 }
}

/// What was received by one call.
pub(super) struct Arrived {
    pub(super) len: usize,
    /// There was more than fits into the buffer.
    pub(super) is_truncated: bool,
    pub(super) peer: SocketAddr,
    pub(super) local: Option<IpAddr>,
    pub(super) ecn: Option<Ecn>,
    /// The length of each datagram, if there are several.
    pub(super) segment_len: Option<usize>,
}

/// Receives one batch into `buffer`.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Arrived> {
    let mut control = Control::new();
    let mut list = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut header = empty_header();
    header.msg_iov = &raw mut list;
    header.msg_iovlen = 1;
    header.msg_control = control.bytes.as_mut_ptr().cast();
    header.msg_controllen = control.bytes.len() as _;
    let receive = |name: *mut socket2::SockAddrStorage, len: *mut libc::socklen_t| {
        header.msg_name = name.cast();
        // SAFETY: `try_init` gives a valid pointer to the length of the storage.
        header.msg_namelen = unsafe { *len };
        // SAFETY: the header's name, list and control data point to memory of the lengths beside them, which nobody else
        // uses until the call returns.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
        // SAFETY: as above.
        unsafe { *len = header.msg_namelen };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    };
    // SAFETY: on success `recvmsg` has written an address and its length; on failure the storage is not used.
    let (len, peer) = unsafe { SockAddr::try_init(receive) }?;
    let mut arrived = Arrived {
        len,
        is_truncated: header.msg_flags & libc::MSG_TRUNC != 0,
        peer: peer.as_socket().ok_or(io::ErrorKind::InvalidData)?,
        local: None,
        ecn: None,
        segment_len: None,
    };
    #[allow(clippy::unnecessary_cast, reason = "musl has a smaller type here")]
    let control_len = header.msg_controllen as usize;
    control.len = control_len.min(control.bytes.len());
    control.read(|level, kind, data| arrived.note(level, kind, data));
    Ok(arrived)
}

impl Arrived {
    fn note(&mut self, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        match (level, kind) {
            // `struct in_pktinfo`: interface, local address, address in the header.
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                self.local = data.get(8..).and_then(<[u8]>::first_chunk).map(|ip: &[u8; 4]| Ipv4Addr::from(*ip).into());
            }
            // `struct in6_pktinfo`: address in the header, interface.
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                self.local = data.first_chunk().map(|ip: &[u8; 16]| Ipv6Addr::from(*ip).into());
            }
            (libc::IPPROTO_IP, libc::IP_TOS) => self.ecn = data.first().and_then(|tos| Ecn::from_bits(*tos)),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                let class = data.first_chunk().map(|class| libc::c_int::from_ne_bytes(*class));
                self.ecn = class.and_then(|class| Ecn::from_bits(class as u8));
            }
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let len = data.first_chunk().map(|len| libc::c_int::from_ne_bytes(*len));
                self.segment_len = len.and_then(|len| usize::try_from(len).ok()).filter(|len| *len > 0);
            }
            _ => {}
        }
    }
}

/// Sends `bytes`, a part of `batch`; the kernel cuts them after each `segment_len` bytes, if there is one.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    batch: &DatagramBatch,
    bytes: &[u8],
    segment_len: Option<usize>,
) -> io::Result<()> {
    let peer = SockAddr::from(batch.peer);
    let mut control = Control::new();
    control.put_ecn(batch.peer, batch.ecn);
    if let Some(local) = batch.local {
        control.put_source(local);
    }
    if let Some(len) = segment_len.and_then(|len| u16::try_from(len).ok()) {
        control.put(libc::SOL_UDP, libc::UDP_SEGMENT, &len.to_ne_bytes());
    }
    let mut list = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut header = empty_header();
    header.msg_name = peer.as_ptr().cast_mut().cast();
    header.msg_namelen = peer.len();
    header.msg_iov = &raw mut list;
    header.msg_iovlen = 1;
    if control.len > 0 {
        header.msg_control = control.bytes.as_mut_ptr().cast();
        header.msg_controllen = control.len as _;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the header's name, list and control data point to memory of the lengths beside them, which outlives the call and
    // which the kernel only reads.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn empty_header() -> libc::msghdr {
    // SAFETY: a message header of zeroes is a valid one, without name, list or control data.
    unsafe { MaybeUninit::<libc::msghdr>::zeroed().assume_init() }
}

fn set_option(socket: &impl AsFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let (at, len) = (ptr::from_ref(&value).cast(), size_of::<libc::c_int>() as libc::socklen_t);
    // SAFETY: `at` points to `len` bytes, which outlive the call; the descriptor is open while `socket` is borrowed.
    let status = unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, at, len) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The length of a control message's header: its length as `size_t`, its level and its type.
const HEAD_LEN: usize = size_of::<usize>() + 2 * size_of::<libc::c_int>();

/// Control messages in the layout of the kernel (`struct cmsghdr`).
#[repr(C, align(8))]
struct Control {
    bytes: [u8; 128],
    len: usize,
}

impl Control {
    fn new() -> Control {
        Control { bytes: [0; 128], len: 0 }
    }

    fn put(&mut self, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        let end = self.len + HEAD_LEN + data.len();
        let Some(place) = self.bytes.get_mut(self.len..end) else { return };
        let (head, body) = place.split_at_mut(HEAD_LEN);
        let (len, rest) = head.split_at_mut(size_of::<usize>());
        len.copy_from_slice(&(HEAD_LEN + data.len()).to_ne_bytes());
        let (level_at, kind_at) = rest.split_at_mut(size_of::<libc::c_int>());
        level_at.copy_from_slice(&level.to_ne_bytes());
        kind_at.copy_from_slice(&kind.to_ne_bytes());
        body.copy_from_slice(data);
        self.len = aligned(end);
    }

    fn put_ecn(&mut self, peer: SocketAddr, ecn: Option<Ecn>) {
        let Some(ecn) = ecn else { return };
        let class = libc::c_int::from(ecn.bits()).to_ne_bytes();
        // An IPv4 address within IPv6 is reached over IPv4.
        match peer.ip().to_canonical() {
            IpAddr::V4(_) => self.put(libc::IPPROTO_IP, libc::IP_TOS, &class),
            IpAddr::V6(_) => self.put(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &class),
        }
    }

    fn put_source(&mut self, source: IpAddr) {
        match source {
            IpAddr::V4(ip) => {
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&ip.octets());
                self.put(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            IpAddr::V6(ip) => {
                let mut info = [0; 20];
                info[..16].copy_from_slice(&ip.octets());
                self.put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
        }
    }

    fn read(&self, mut note: impl FnMut(libc::c_int, libc::c_int, &[u8])) {
        let mut rest = &self.bytes[..self.len];
        while let Some((len, after)) = rest.split_first_chunk()
            && let Some((level, after)) = after.split_first_chunk()
            && let Some((kind, _)) = after.split_first_chunk()
        {
            let len = usize::from_ne_bytes(*len);
            let Some(data) = rest.get(HEAD_LEN..len) else { return };
            note(libc::c_int::from_ne_bytes(*level), libc::c_int::from_ne_bytes(*kind), data);
            rest = rest.get(aligned(len)..).unwrap_or_default();
        }
    }
}

fn aligned(len: usize) -> usize {
    len.next_multiple_of(size_of::<usize>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_messages_are_read_as_they_were_put() {
        let mut control = Control::new();
        control.put(1, 2, &[3]);
        control.put(4, 5, &[6; 20]);
        control.put(7, 8, &[9; 4]);
        let mut seen = Vec::new();
        control.read(|level, kind, data| seen.push((level, kind, data.to_vec())));
        assert_eq!(seen, [(1, 2, vec![3]), (4, 5, vec![6; 20]), (7, 8, vec![9; 4])]);
    }

    #[test]
    fn a_broken_length_ends_the_reading() {
        for len in [0, 1, HEAD_LEN - 1, 129, usize::MAX] {
            let mut control = Control::new();
            control.put(1, 2, &[3; 8]);
            control.bytes[..size_of::<usize>()].copy_from_slice(&len.to_ne_bytes());
            control.read(|_, _, _| panic!("a message of {len} bytes"));
        }
    }
}
