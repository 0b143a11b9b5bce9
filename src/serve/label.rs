use crate::wire::http1::RequestHead;
use crate::wire::jsonrpc::Peek;
use crate::wire::mcp::{Call, CallKind};

/// What a request is about, read from its head and from its body while that passes; kept from one request to the next for its
/// memory.
#[derive(Default)]
pub struct CallLabel {
    call: Call,
    peek: Peek,
}

impl CallLabel {
    /// Starts with the head of a request.
    pub(super) fn begin(&mut self, head: &RequestHead) {
        self.call.read_head(head);
        self.peek.clear();
    }

    /// Reads the next bytes of the body.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.peek.feed(bytes);
    }

    /// Whether no more of the body needs to be read.
    pub(super) fn is_done(&self) -> bool {
        self.peek.is_done()
    }

    /// The id of the JSON-RPC message as JSON text, if it has been read.
    pub(super) fn rpc_id(&self) -> Option<&str> {
        self.peek.id()
    }

    /// The exchange, as far as it has been read.
    pub fn call(&mut self) -> &Call {
        // The method says it all for those that have no message.
        if !matches!(self.call.kind(), CallKind::Stream | CallKind::EndSession) {
            self.call.read_body(&self.peek);
        }
        &self.call
    }
}
