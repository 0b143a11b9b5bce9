//! Enrolment: a connector trades its tunnel's id and secret for a certificate (`docs/PROTOCOL.md`, section 12).
//!
//! No input or output: one [`EnrolRequest`] and one [`EnrolAnswer`], each a message of limited length. [`EnrolReader`] assembles one
//! from bytes that are cut anywhere.

mod answer;
mod incoming;
mod request;
#[cfg(test)]
mod tests;

pub use answer::{
    ANSWER_LEN_MAX, CERT_LEN_MAX, CHAIN_MAX, EnrolAnswer, EnrolRefused, Grant, LIFETIME_S_RANGE, REASON_LEN_MAX,
};
pub use incoming::{EnrolFault, EnrolMessage, EnrolReader, HEADER_LEN};
pub use request::{
    CSR_LEN_MAX, Credential, EnrolRequest, NAME_LEN_MAX, REQUEST_LEN_MAX, SECRET_LEN_MAX, SOFTWARE_LEN_MAX,
};
