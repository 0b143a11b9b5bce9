//! Floor 2: cores and what runs on them.

mod byte_stream;
pub mod driver;
mod pool;
mod sys;

pub use byte_stream::{ByteStream, StreamError};
pub use pool::{BUFFER_MEMORY_DEFAULT, BUFFER_MEMORY_MIN, Class, LARGE_LEN, Pool, PoolUse, SMALL_LEN};
pub use sys::lease::Lease;
