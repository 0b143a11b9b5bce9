//! The protocol of cloudflared without input or output: registration over Cap'n Proto, and the heads of calls over HTTP/2.
//!
//! A connector dials the edge and is then the *server* of HTTP/2 on that connection. The edge opens one request as control
//! stream, on which the connector registers ([`ControlClient`], [`ControlServer`]). Each further request is a call.

mod capnp_reader;
mod capnp_writer;
mod control_client;
mod control_server;
mod edge_heads;
mod edge_messages;
mod heads;
mod messages;
mod push_server;
mod pushes;
mod quic_heads;
mod quic_streams;
mod registration;
mod token;
#[cfg(test)]
mod vectors;

pub use capnp_reader::CapnpError;
pub use control_client::{ControlClient, ControlEvent};
pub use control_server::{ControlRequest, ControlServer};
pub use edge_heads::{AnswerFault, AnswerSource, control_request, read_answer, strip_for_connector};
pub use heads::{RequestKind, answer_head, kind_of, own_answer_head, strip_request};
pub use messages::ControlFault;
pub use push_server::{PushServer, PushedRules};
pub use pushes::{PUSH_ANSWER_LEN_MAX, PushFault, push_body, push_request, read_push_answer};
pub use quic_heads::{QuicRequest, read_quic_request, write_own_quic_answer, write_quic_answer};
pub use quic_streams::{ConnectionType, QuicStreamFault, QuicStreamKind, quic_stream_kind};
pub use registration::{Registration, RegistrationAnswer, RegistrationError, TunnelUuid, TunnelUuidError};
pub use token::{CredentialsError, TunnelCredentials};
