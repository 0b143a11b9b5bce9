//! What a terminal can do with a text besides showing it.

use std::io::{self, IsTerminal, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

/// The longest text that is copied, in bytes: terminals ignore longer ones.
const COPY_LEN_MAX: usize = 64 * 1024;

/// A QR code of a text, dark on light, in characters that are half a line high. `None` if the text is too long for one.
pub(super) fn qr_code(text: &str) -> Option<String> {
    let code = QrCode::new(text.as_bytes()).ok()?;
    Some(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}

/// Has the terminal copy a text to its clipboard (OSC 52). Terminals without that ignore it.
///
/// # Errors
///
/// If standard error is no terminal, or the text is too long.
pub(super) fn copy(text: &str) -> io::Result<()> {
    let mut terminal = io::stderr().lock();
    if !terminal.is_terminal() {
        return Err(io::Error::other("standard error is no terminal, which would have the clipboard"));
    }
    if text.len() > COPY_LEN_MAX {
        return Err(io::Error::other("the text is too long for the clipboard of a terminal"));
    }
    write!(terminal, "{}", copy_sequence(text))?;
    terminal.flush()
}

fn copy_sequence(text: &str) -> String {
    format!("\x1b]52;c;{}\x07", STANDARD.encode(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qr_code_is_a_square_that_fits_a_terminal() {
        let code = qr_code("https://orders.tunnel.example.com/mcp").expect("it fits");
        let lines: Vec<usize> = code.lines().map(|line| line.chars().count()).collect();
        assert!(lines.len() <= 24 && lines.iter().all(|len| *len == lines[0] && *len <= 80), "{lines:?}");
        assert!(lines[0].abs_diff(2 * lines.len()) <= 1, "two modules share a character");
        assert_eq!(qr_code(&"x".repeat(5_000)), None);
    }

    #[test]
    fn the_clipboard_gets_the_text_as_base64() {
        assert_eq!(copy_sequence("a b\n"), "\x1b]52;c;YSBiCg==\x07");
    }
}
