use std::io::{self, Write};

/// Writes to standard output. The reader may close it early, as `head` does. That is not an error: work that follows, such as
/// removing a temporary directory, is still done.
pub(super) fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
