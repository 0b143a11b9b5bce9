//! Ids that cannot be guessed and are never reused.

use crate::control::data_dir::DataDirError;

/// Letters and digits that are not easily confused. There are 32, so that each takes five bits.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// The letters of an id: 120 bits.
const ID_LETTERS: usize = 24;
/// The letters of a generated host: 50 bits.
pub(super) const LABEL_LETTERS: usize = 10;

/// A new id with this prefix.
pub(super) fn id(prefix: &str) -> Result<String, DataDirError> {
    Ok(format!("{prefix}{}", letters(ID_LETTERS)?))
}

/// This many random letters.
pub(super) fn letters(count: usize) -> Result<String, DataDirError> {
    let mut bytes = vec![0; count];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| DataDirError::NoRandom)?;
    Ok(bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_plain_and_differ() {
        let (one, other) = (id("tnl_").unwrap(), id("tnl_").unwrap());
        assert!(one != other && one.parse::<crate::base::TunnelId>().is_ok() && one.len() == 28);
        assert!(format!("{}.example", letters(LABEL_LETTERS).unwrap()).parse::<crate::route::Hostname>().is_ok());
    }
}
