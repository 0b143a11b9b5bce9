//! Floor 0: the vocabulary of all other modules: ids, hosts, limits and secrets; time and randomness, which are passed
//! in.
//!
//! Nothing here touches the network, the file system or a thread.

mod bearer_challenge;
mod breaker_terms;
mod budget;
mod call_failure;
mod chunk;
mod concurrency_terms;
mod counters;
mod deadline;
mod digest;
mod guard_mode;
mod hex;
mod host;
mod host_set;
mod ids;
mod minted;
mod plain_text;
mod rng;
mod secret;
mod secret_hash;
mod seen_text;
mod service_env;
mod sha256;
mod shared_map;
mod shell_word;
mod text_start;
mod time;
mod traffic;
mod trouble;

pub use bearer_challenge::BearerChallenge;
pub use breaker_terms::{BreakerOverrides, BreakerTerms};
pub use budget::{Budget, Share};
pub use call_failure::CallFailure;
pub use chunk::Chunk;
pub use concurrency_terms::{ConcurrencyOverrides, ConcurrencyTerms};
pub use counters::Count;
pub(crate) use counters::counters;
pub use deadline::{DeadlineOverrides, DeadlineTerms};
pub use digest::Digest;
pub use guard_mode::{GuardMode, GuardModeError};
pub use hex::{Hex, hex, push_hex, unhex, unhex_lower};
pub use host::{HOST_LEN_MAX, HostError, HostPattern, Hostname};
pub use host_set::HostSet;
pub use ids::{
    CREDENTIAL_ID_LEN_MAX, CoreId, CredentialId, CredentialIdError, LinkId, TUNNEL_ID_LEN_MAX, TunnelId, TunnelIdError,
};
pub use minted::{
    AUTHORITY_PIN_LEN, AuthorityPin, SECRET_ENTROPY_LEN, SecretKind, TunnelToken, TunnelTokenError, mint, pin_of,
};
pub use plain_text::{PlainTextError, plain_text, single_value};
pub use rng::Rng;
pub use secret::Secret;
pub use secret_hash::{SECRET_HASH_LEN, SecretHash};
pub use seen_text::{html_text, is_seen, printable, printable_quoted};
pub use service_env::{CREDENTIALS_ENV, NOTIFY_SOCKET_ENV, SERVICE_ENVS, WATCHDOG_ENV, WATCHDOG_PROCESS_ENV};
pub use sha256::{sha256, sha256_start};
pub use shared_map::SharedMap;
pub use shell_word::shell_word;
pub use text_start::text_start;
pub use time::{Clock, Time};
pub use traffic::{Traffic, TrafficError};
pub use trouble::Trouble;
