//! What a verb has to say, on standard output.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use super::fail;

/// Whether something could not be said.
static LOST: AtomicBool = AtomicBool::new(false);

/// Says it, ending in one line end. Whoever read it may have gone, as `head` does when it has enough: that is no panic, and the
/// exit code tells it.
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

/// Whether something was said that nobody heard.
pub(crate) fn was_lost() -> bool {
    LOST.load(Ordering::Relaxed)
}
