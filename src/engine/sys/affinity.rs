//! CPU affinity of threads, with sched_setaffinity(2).

use std::io;

/// The CPUs that the calling thread may run on, in ascending order.
pub(in crate::engine) fn allowed() -> io::Result<Vec<usize>> {
    let mut set = empty();
    // SAFETY: `set` is valid for writes of its own size; 0 means the calling thread.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every index is below CPU_SETSIZE, so that it is inside the set.
    Ok((0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect())
}

/// Pins the calling thread to one CPU.
pub(in crate::engine) fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = empty();
    // SAFETY: `cpu` is below CPU_SETSIZE, so that it is inside the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: `set` is valid for reads of its own size; 0 means the calling thread.
    match unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn empty() -> libc::cpu_set_t {
    // SAFETY: a set of zeroes is the valid empty one.
    unsafe { std::mem::zeroed() }
}
