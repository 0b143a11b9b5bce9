//! What runs on the control thread, beside the cores: everything here may use tokio, and nothing here touches a lease.

pub mod demo;
pub mod once;
