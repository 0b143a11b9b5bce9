/// Like [`Vec::extend_from_slice`], for bytes that arrive in many pieces and are kept for long. It allocates little
/// more memory than the bytes need.
pub(super) fn extend_by_steps(to: &mut Vec<u8>, bytes: &[u8]) {
    const STEP: usize = 2 * 1024;
    if to.capacity() - to.len() < bytes.len() {
        let step = if to.is_empty() { 0 } else { STEP };
        to.reserve_exact(bytes.len().max(step));
    }
    to.extend_from_slice(bytes);
}
