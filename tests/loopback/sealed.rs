//! Sealed traffic: who can read what, who believes whom, and that calls cross it whole.

mod blind;
mod drains;
mod eras;
mod link;
mod sessions;
pub(crate) mod site;
mod stalls;
