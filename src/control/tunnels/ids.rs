//! Ids that nobody can guess, and that are never used twice.

use crate::control::data_dir::DataDirError;

/// Letters and digits that are not taken for one another; 32 of them, so that one takes five bits.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// Letters of an id: 120 bits.
const ID_LETTERS: usize = 24;
/// Letters of a host that the edge makes up: 50 bits.
pub(super) const LABEL_LETTERS: usize = 10;

/// A new id that begins so.
pub(super) fn id(prefix: &str) -> Result<String, DataDirError> {
    Ok(format!("{prefix}{}", letters(ID_LETTERS)?))
}

/// So many letters at random.
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
