use std::io::{self, Write};

/// Writes to standard output. Whoever reads it may close it early, as `head` does: that is no error, and what is to be done
/// after it, such as removing a temporary file, must still be done.
pub(super) fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
