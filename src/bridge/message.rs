//! What both directions share: messages that the bridge makes itself, and the codes of errors.

use crate::bridge::json_text::{JsonObject, quoted};
use crate::wire::stdio::EnvelopeError;

/// The text is not JSON.
pub const PARSE_ERROR: i64 = -32_700;
/// The message is not allowed.
pub const INVALID_REQUEST: i64 = -32_600;
/// The other side has no such method.
pub const METHOD_NOT_FOUND: i64 = -32_601;
/// The parameters are not allowed.
pub const INVALID_PARAMS: i64 = -32_602;
/// The bridge or the server failed.
pub const INTERNAL_ERROR: i64 = -32_603;
/// The request was cancelled by its agent.
pub const CANCELLED: i64 = -32_800;
/// A header differs from the body (2026-07-28).
pub const HEADER_MISMATCH: i64 = -32_020;
/// The revision is not spoken (2026-07-28).
pub(super) const UNSUPPORTED_VERSION: i64 = -32_022;
/// There is no such resource (until 2025-11-25).
pub(super) const RESOURCE_NOT_FOUND: i64 = -32_002;
/// The user has to visit a page first (2025-11-25).
pub(super) const URL_REQUIRED: i64 = -32_042;

/// The revision without sessions that the bridge speaks.
pub const MODERN_REVISION: &str = "2026-07-28";
/// The revisions with sessions that it speaks, the newest first.
pub const SESSION_REVISIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// The keys of `_meta` that only 2026-07-28 has.
pub(super) const META_REVISION: &str = "io.modelcontextprotocol/protocolVersion";
pub(super) const META_CLIENT: &str = "io.modelcontextprotocol/clientInfo";
pub(super) const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
pub(super) const META_LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
pub(super) const META_SERVER: &str = "io.modelcontextprotocol/serverInfo";
pub(super) const META_SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// A refusal by the bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeRefusal {
    /// The status of the response.
    pub status: u16,
    /// The code of the error.
    pub code: i64,
    /// Why, and what to do.
    pub why: String,
    /// Further data of the error, as JSON text.
    pub data: Option<Vec<u8>>,
}

impl BridgeRefusal {
    /// A refusal without further data.
    #[must_use]
    pub fn new(status: u16, code: i64, why: &str) -> BridgeRefusal {
        BridgeRefusal { status, code, why: why.to_owned(), data: None }
    }

    /// The refusal of a message that cannot be read.
    #[must_use]
    pub fn unreadable(error: EnvelopeError) -> BridgeRefusal {
        let code = if error == EnvelopeError::NotJson { PARSE_ERROR } else { INVALID_REQUEST };
        BridgeRefusal::new(400, code, &error.to_string())
    }

    /// The refusal as an answer to the request with this id.
    #[must_use]
    pub fn message(&self, id: &[u8]) -> Vec<u8> {
        let data = self.data.as_ref().map(|data| [b",\"data\":", &data[..]].concat()).unwrap_or_default();
        let code = self.code.to_string();
        let parts = [
            b"{\"jsonrpc\":\"2.0\",\"id\":",
            id,
            b",\"error\":{\"code\":",
            code.as_bytes(),
            b",\"message\":",
            &quoted(&self.why),
            &data,
            b"}}",
        ];
        parts.concat()
    }
}

/// The answer to a request with this result.
#[must_use]
pub fn result_message(id: &[u8], result: &[u8]) -> Vec<u8> {
    [b"{\"jsonrpc\":\"2.0\",\"id\":", id, b",\"result\":", result, b"}"].concat()
}

/// An error that answers a request.
#[must_use]
pub fn error_message(id: &[u8], code: i64, why: &str) -> Vec<u8> {
    BridgeRefusal::new(200, code, why).message(id)
}

/// A notification with these parameters.
#[must_use]
pub fn notification(method: &str, params: &[u8]) -> Vec<u8> {
    [b"{\"jsonrpc\":\"2.0\",\"method\":", &quoted(method)[..], b",\"params\":", params, b"}"].concat()
}

/// A request with these parameters.
#[must_use]
pub fn request(id: &[u8], method: &str, params: &[u8]) -> Vec<u8> {
    let parts = [b"{\"jsonrpc\":\"2.0\",\"id\":", id, b",\"method\":", &quoted(method), b",\"params\":", params, b"}"];
    parts.concat()
}

/// The code of the error of a response, as [`JsonObject::read`] has found it.
pub(super) fn error_code(error: &JsonObject<'_>) -> Option<i64> {
    serde_json::from_slice(error.get("code")?).ok()
}
