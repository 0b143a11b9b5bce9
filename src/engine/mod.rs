//! Floor 2: cores and what runs on them.

mod byte_stream;
mod clock;
mod core;
mod cores;
mod cpus;
mod datagram_batch;
mod datagrams;
pub mod driver;
mod executor;
pub mod ladder;
mod linger;
mod local;
mod mailbox;
mod packed;
mod pool;
mod reserve;
mod shrink;
mod signal;
#[cfg(feature = "sim")]
pub mod sim;
mod slots;
mod socket;
mod sockets;
mod spin;
#[cfg(test)]
mod suite;
mod sys;
mod timers;
mod window_grant;
mod windows;

pub use self::core::{Core, Elapsed, Task, Timer};
pub use byte_stream::{ByteStream, StreamError, leases_of, send_bytes};
pub use clock::{MonotonicClock, instant_of_zero};
pub use cores::{Cores, EngineSettings, SPIN_DEFAULT, StartError};
pub use cpus::{cpu_quota, cpus_allowed, pin_to_cpu};
pub use datagram_batch::{BATCH_LEN_MAX, BoundDatagrams, DatagramBatch, Ecn};
pub use datagrams::Datagrams;
pub use local::{LocalEntry, LocalServer};
pub use mailbox::{MailReceiver, MailSender, mailbox};
pub use packed::push_packed;
pub use pool::{ALLOWANCE_MAX, BUFFER_MEMORY_DEFAULT, BUFFER_MEMORY_MIN, Class, LARGE_LEN, Pool, PoolUse, SMALL_LEN};
pub use reserve::Reservation;
pub use signal::{After, Signal};
pub use socket::{Detached, LINGER_MAX, Listener, Socket};
pub use sys::lease::Lease;
pub use window_grant::WindowGrant;
