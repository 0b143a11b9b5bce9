//! Output of the commands on standard output.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use super::fail;

/// Whether an output could not be written.
static LOST: AtomicBool = AtomicBool::new(false);

/// Prints a text with one line end. If the reader has closed its end, as `head` does after enough lines, the exit code
/// reports that instead of a panic.
pub(crate) fn print(text: &dyn Display) {
    let text = text.to_string();
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{}", text.strip_suffix('\n').unwrap_or(&text)).and_then(|()| out.flush());
    if let Err(error) = written
        && !LOST.swap(true, Ordering::Relaxed)
        && error.kind() != ErrorKind::BrokenPipe
    {
        fail(&format_args!("standard output cannot be written: {error}"));
    }
}

/// Whether some output was lost.
pub(crate) fn was_lost() -> bool {
    LOST.load(Ordering::Relaxed)
}
