//! An edge for connectors of cloudflared. `ADIT_TEST_CLOUDFLARED=PROGRAM` runs the same cases with that program, such as the stock
//! one, in place of `adit cloudflared`.

mod calls;
mod peer;
mod registration;
mod site;
mod traps;
