//! Tests which driver starts where rings are forbidden, as they are in containers by default.

use std::io;
use std::ptr;
use std::thread;

use crate::engine::driver::DriverKind;
use crate::engine::ladder::{self, DriverChoice, DriverError};
use crate::engine::pool::Pool;

/// Makes io_uring_setup, io_uring_enter and io_uring_register fail with EPERM for the calling thread.
fn forbid_rings() {
    const FIRST: u32 = libc::SYS_io_uring_setup as u32;
    const LAST: u32 = libc::SYS_io_uring_register as u32;
    let step = |code: u32, on_true, on_false, value| libc::sock_filter {
        code: u16::try_from(code).expect("codes have 16 bits"),
        jt: on_true,
        jf: on_false,
        k: value,
    };
    let mut program = [
        // The number of the system call is the first word of what the filter is given.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 2, FIRST),
        step(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 1, 0, LAST),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: 5, filter: program.as_mut_ptr() };
    // SAFETY: this request takes numbers only; it concerns the calling thread.
    let promised = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(promised, 0, "{}", io::Error::last_os_error());
    let none: *const libc::c_void = ptr::null();
    // SAFETY: the program and its five steps are valid for reads during the call, which copies them.
    let filtered =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, none, none) };
    assert_eq!(filtered, 0, "{}", io::Error::last_os_error());
}

#[test]
fn without_rings_epoll_starts_and_says_why() {
    let filtered = thread::spawn(|| {
        forbid_rings();
        let pool = Pool::new(0);
        let started = ladder::start(DriverChoice::Auto, &pool).expect("epoll works everywhere");
        assert_eq!(started.driver.kind(), DriverKind::Epoll);
        let why = &started.why;
        assert!(why.starts_with("epoll (io_uring refused: EPERM, as ") && !why.contains('\n'), "{why}");
        let forced = ladder::start(DriverChoice::Uring, &pool).err().expect("rings are forbidden");
        let DriverError::Unavailable { kind, error } = forced;
        assert_eq!((kind, error.raw_os_error()), (DriverKind::Uring, Some(libc::EPERM)));
    });
    // The filter ends with its thread.
    filtered.join().expect("what the thread asserts");
}
