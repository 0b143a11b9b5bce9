//! Writes the text of heads: fields and numbers.

use super::names::is_token;
use super::section::is_control;
use crate::wire::scan::first_control;

/// Appends one field. A field whose name is not a token is not written, and control bytes in the value become spaces,
/// so that no input can start another field.
pub(super) fn push_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if !is_token(name) {
        return;
    }
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    match first_control(value) {
        None => out.extend_from_slice(value),
        Some(_) => out.extend(value.iter().map(|&byte| if is_control(byte) { b' ' } else { byte })),
    }
    out.extend_from_slice(b"\r\n");
}
