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

/// A random number, for example one that identifies this process.
///
/// # Errors
///
/// As for [`random`].
pub fn random_number() -> Result<u64, RunError> {
    random().map(u64::from_ne_bytes)
}
