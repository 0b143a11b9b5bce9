//! What touches raw memory and the kernel. All `unsafe` of the project is below this module.

#![allow(unsafe_code, reason = "this is the one place for it; every block carries its SAFETY note")]

pub(in crate::engine) mod arena;
pub(in crate::engine) mod lease;
