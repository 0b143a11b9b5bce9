use std::fmt;
use std::net::IpAddr;

use maxminddb::{PathElement, Reader};

use crate::policy::Asn;

/// The field of a record that holds the number, in the files of MaxMind and of those who write theirs alike.
const NUMBER: &str = "autonomous_system_number";

/// Which autonomous system announces an address: a file in MaxMind's format, held in memory as it is.
pub struct AsnTable(Reader<Vec<u8>>);

/// Why a file tells nothing about autonomous systems.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AsnTableError {
    /// It is not in the format.
    #[error("it is not in MaxMind's format ({0}): use a file whose name ends with .mmdb")]
    Malformed(Box<str>),
    /// It tells of something else, such as cities.
    #[error(
        "it is a {0:?} file, which has no numbers of autonomous systems: take an ASN file, such as GeoLite2-ASN.mmdb"
    )]
    OtherKind(Box<str>),
}

impl AsnTable {
    /// From the content of a file.
    ///
    /// # Errors
    ///
    /// When it is not such a file.
    pub fn new(content: Vec<u8>) -> Result<AsnTable, AsnTableError> {
        let reader = Reader::from_source(content);
        let reader = reader.map_err(|error| AsnTableError::Malformed(error.to_string().into()))?;
        let kind = &reader.metadata().database_type;
        if !["asn", "isp", "enterprise"].iter().any(|known| kind.to_ascii_lowercase().contains(known)) {
            return Err(AsnTableError::OtherKind(kind.as_str().into()));
        }
        Ok(AsnTable(reader))
    }

    /// The autonomous system of an address. A file that is broken at this place knows none.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Option<Asn> {
        let found = self.0.lookup(address.to_canonical()).ok()?;
        found.decode_path::<Asn>(&[PathElement::Key(NUMBER)]).ok()?
    }
}

impl fmt::Debug for AsnTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AsnTable")
    }
}
