//! What the system tells of a process that is measured.

use std::fs;
use std::io;

/// The CPU time of all threads of a process, the kernel's workers for it included, in nanoseconds.
///
/// # Errors
///
/// When there is no such process.
pub(crate) fn cpu_ns(pid: u32) -> io::Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread that has just ended has nothing to tell.
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        sum += text.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}
