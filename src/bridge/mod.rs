//! Floor 1: the era bridge. It decides how messages of one era of MCP become messages of the other, for an agent and a server that
//! have no revision in common.
//!
//! [`ModernToLegacy`] is a call of an agent of 2026-07-28 at a server with sessions, [`LegacyToModern`] the reverse. Both take
//! messages and return messages. Whatever a message says apart from the documented members passes with the same bytes.

mod caller_key;
mod eras;
mod event_reader;
mod handshake;
mod json_text;
mod legacy_to_modern;
mod listening;
mod message;
mod modern_call;
mod modern_to_legacy;

pub use caller_key::CallerKey;
pub use eras::{
    BRIDGED_QUERY, BRIDGED_SESSION, BridgeChoice, EraTable, ServerEra, SessionTransport, accepts_events, bridged_query,
    era_of_agent, is_of_bridged_session, names, path_of,
};
pub use event_reader::{EventReader, EventTooLong, StreamEvent};
pub use handshake::{AgentHello, ServerOffer, ServerSession, initialize_request, own_discover, own_initialize};
pub use json_text::{JsonObject, MemberEdit, array_elements, quoted};
pub use legacy_to_modern::{
    LegacyStep, LegacyToModern, ModernRequest, is_common_method, listen_request, notification_for_session,
};
pub use listening::Listening;
pub use message::{
    BridgeRefusal, CANCELLED, HEADER_MISMATCH, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND,
    MODERN_REVISION, PARSE_ERROR, SESSION_REVISIONS, error_message, notification, request, result_message,
};
pub use modern_call::{ModernCall, ModernMessage};
pub use modern_to_legacy::{CallStep, ModernToLegacy, START_AGAIN};
