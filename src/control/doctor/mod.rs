//! `adit doctor`: looks at what a role depends on, one thing after the other, and says of each whether it is well and
//! what to do if it is not. Nothing here changes anything.

mod certificate;
mod clock;
mod finding;
mod limits;
mod mcp;
mod oauth;
mod public;
mod reach;
mod stream;

pub use certificate::{Met, judge_certificate, meet};
pub use clock::judge_clock;
pub use finding::{Finding, Findings, Verdict};
pub use limits::{connections_within_file_limit, file_limit, raise_file_limit};
pub use mcp::{McpTarget, check_mcp};
pub use oauth::check_metadata;
pub use public::{PublicUrl, check_public};
pub use reach::{check_dns, check_tcp, check_udp};
pub use stream::{Ear, check_stream};

use std::time::Duration;

/// How long any one question may take.
pub const PATIENCE: Duration = Duration::from_secs(5);
