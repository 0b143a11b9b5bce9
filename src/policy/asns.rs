use std::fmt;
use std::net::IpAddr;

use maxminddb::{PathElement, Reader};

use crate::policy::Asn;

/// The field of a record with the number, in the files of MaxMind and compatible ones.
const NUMBER: &str = "autonomous_system_number";

/// A table of autonomous systems by address: a MaxMind file (MMDB), held in memory.
pub struct AsnTable(Reader<Vec<u8>>);

/// Why a file cannot be used as a table of autonomous systems.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AsnTableError {
    /// The file is not in the MMDB format.
    #[error("it is not in MaxMind's format ({0}): use a file whose name ends with .mmdb")]
    Malformed(Box<str>),
    /// It is an MMDB file about something else, such as cities.
    #[error(
        "it is a {0:?} file, which has no numbers of autonomous systems: take an ASN file, such as GeoLite2-ASN.mmdb"
    )]
    OtherKind(Box<str>),
}

impl AsnTable {
    /// Reads the content of a file.
    ///
    /// # Errors
    ///
    /// If it is not an MMDB file of autonomous systems.
    pub fn new(content: Vec<u8>) -> Result<AsnTable, AsnTableError> {
        let reader = Reader::from_source(content);
        let reader = reader.map_err(|error| AsnTableError::Malformed(error.to_string().into()))?;
        let kind = &reader.metadata().database_type;
        if !["asn", "isp", "enterprise"].iter().any(|known| kind.to_ascii_lowercase().contains(known)) {
            return Err(AsnTableError::OtherKind(kind.as_str().into()));
        }
        Ok(AsnTable(reader))
    }

    /// The autonomous system of an address; `None` if the file has no entry or is damaged.
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
