use crate::process::error::RunError;

/// Random bytes from the system.
///
/// # Errors
///
/// If the system has none.
pub fn random<const N: usize>() -> Result<[u8; N], RunError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| RunError::Other("the system's random source gave no bytes".to_owned()))?;
    Ok(bytes)
}

/// Fills `bytes` from the generator of the cryptography library, which seeds itself from the system.
///
/// # Panics
///
/// If the system has no random bytes; nothing can be encrypted then either.
pub(super) fn fill_random(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("the system has random bytes, without which no TLS configuration exists");
}

/// A random number, for example one that identifies this process.
///
/// # Errors
///
/// As for [`random`].
pub fn random_number() -> Result<u64, RunError> {
    random().map(u64::from_ne_bytes)
}
