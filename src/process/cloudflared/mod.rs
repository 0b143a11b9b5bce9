//! A connector that speaks the protocol of cloudflared, as a process.

mod log_lines;
mod pushes;
mod running;

pub use running::{CloudflaredProcess, ask_ready};
