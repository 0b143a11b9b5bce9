//! Enrolment: a connector trades its tunnel's id and secret for a certificate (`docs/PROTOCOL.md`, section 12).
//!
//! No input or output: one [`Request`] and one [`Answer`], each a message of limited length. [`Incoming`] assembles one
//! from bytes that are cut anywhere.

mod answer;
mod incoming;
mod request;
#[cfg(test)]
mod tests;

pub use answer::{ANSWER_LEN_MAX, Answer, CERT_LEN_MAX, CHAIN_MAX, Grant, LIFETIME_S_RANGE, REASON_LEN_MAX, Refused};
pub use incoming::{EnrolFault, HEADER_LEN, Incoming, Message};
pub use request::{CSR_LEN_MAX, Credential, NAME_LEN_MAX, REQUEST_LEN_MAX, Request, SECRET_LEN_MAX, SOFTWARE_LEN_MAX};
