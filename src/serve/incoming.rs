//! A request as any version of HTTP produces it: head, body and responder.

use crate::engine::StreamError;
use crate::exchange::{BodySink, BodySource, CarryError};
use crate::serve::label::CallLabel;
use crate::wire::http1::{PublicAddress, RequestHead, ResponseHead};

/// A request, independent of the connection that it came on.
pub struct Incoming<'a, B, R> {
    /// The head of the request.
    pub head: &'a RequestHead,
    /// The body of the request, as it is received.
    pub body: B,
    /// Reads the label of the call, if it is needed.
    pub label: Option<&'a mut CallLabel>,
    /// Sends the response to the caller.
    pub responder: R,
}

/// The body of a request.
pub trait RequestBody: BodySource {
    /// Waits, once the body is received, until the caller leaves.
    fn caller_left(&mut self) -> impl Future<Output = ()>;

    /// Whether [`RequestBody::caller_left`] can detect that. If not, a failure of the caller's connection is noticed in
    /// other ways.
    fn is_watched(&self) -> bool;
}

/// Takes the response to a request.
pub trait Responder: BodySink {
    /// Sends an interim (1xx) response, if the protocol version has them.
    fn interim(&mut self, head: &ResponseHead) -> impl Future<Output = Result<(), StreamError>>;

    /// Queues the head of the final response. `body_len` replaces the length in `head`, if given.
    fn head(
        &mut self,
        head: &ResponseHead,
        body_len: Option<u64>,
        extras: ResponseExtras<'_>,
    ) -> impl Future<Output = Result<(), StreamError>>;

    /// Queues a copy of bytes of the body.
    fn copy(&mut self, bytes: &[u8]) -> impl Future<Output = Result<(), CarryError>>;

    /// Whether the connection can carry another request afterwards.
    fn keeps(&self) -> bool;
}

/// The additions of a role to a response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseExtras<'a> {
    /// Whether another request may follow on the connection.
    pub may_keep: bool,
    /// The value of `Server-Timing`, if there is one.
    pub server_timing: Option<&'a [u8]>,
    /// The public address that replaces the server's own in the head; none leaves it unchanged.
    pub public: Option<PublicAddress<'a>>,
    /// Whether the address is replaced in the body too, which is the metadata of a protected resource (RFC 9728).
    pub is_metadata: bool,
}
