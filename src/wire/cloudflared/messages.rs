//! The messages of the control stream: the part of Cap'n Proto RPC that connectors and edges use.

use std::time::Duration;

use super::capnp_reader::{CapnpError, Message, StructReader, message_len};
use super::capnp_writer::{MessageWriter, StructAt};
use super::registration::{Registration, RegistrationAnswer, RegistrationError, TunnelUuid};

/// The longest message in bytes. A connector that is not managed remotely sends its configuration in one.
pub(super) const MESSAGE_LEN_MAX: usize = 256 * 1024;
/// The longest text that is kept, in bytes.
pub(super) const TEXT_LEN_MAX: usize = 1024;

/// The interface with the methods below.
pub(super) const REGISTRATION_SERVER: u64 = 0xf716_95ec_7fe8_5497;
pub(super) const REGISTER: u16 = 0;
pub(super) const UNREGISTER: u16 = 1;
pub(super) const UPDATE_CONFIGURATION: u16 = 2;

// The kinds of messages.
pub(super) const ABORT: u16 = 1;
pub(super) const CALL: u16 = 2;
pub(super) const RETURN: u16 = 3;
pub(super) const FINISH: u16 = 4;
pub(super) const BOOTSTRAP: u16 = 8;

/// Why a control stream failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlFault {
    /// A message is malformed.
    #[error("a message on the control stream is malformed: {0}")]
    Message(#[from] CapnpError),
    /// A message is not allowed at this point.
    #[error("an unexpected message on the control stream")]
    Unexpected,
    /// The other side answered a call with an exception.
    #[error("the edge answered with an exception: {0}")]
    Exception(String),
    /// The other side ended the control stream.
    #[error("the other side ended the control stream: {0}")]
    Aborted(String),
}

/// The received bytes of a control stream.
#[derive(Default)]
pub(super) struct MessageBuffer(Vec<u8>);

impl MessageBuffer {
    /// Adds received bytes, and passes each complete message to `each`.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(&Message<'_>) -> Result<(), ControlFault>,
    ) -> Result<(), ControlFault> {
        self.0.extend_from_slice(bytes);
        let mut read = 0;
        while let Some(len) = message_len(&self.0[read..], MESSAGE_LEN_MAX)?
            && let Some(message) = self.0[read..].get(..len)
        {
            each(&Message::new(message)?)?;
            read += len;
        }
        self.0.drain(..read);
        Ok(())
    }
}

/// A message from the edge, as far as a connector needs it.
pub(super) enum FromEdge {
    Return { question: u32, answer: Returned },
    Abort(String),
    Other,
}

/// The content of an answer.
pub(super) enum Returned {
    /// The number of the capability that the edge offers.
    Capability(u32),
    /// The answer to a registration.
    Registration(RegistrationAnswer),
    /// Any other content, or none.
    Other,
    Exception(String),
}

/// Which answer a connector waits for, which decides how it is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Capability,
    Registration,
    Nothing,
}

/// Reads a message from the edge. `expected` says which answer a question waits for.
pub(super) fn read_from_edge(
    message: &Message<'_>,
    expected: impl FnOnce(u32) -> Expected,
) -> Result<FromEdge, ControlFault> {
    let root = message.root()?;
    match root.u16(0) {
        RETURN => {
            let returned = root.structure(0)?;
            let question = returned.u32(0);
            let answer = match returned.u16(6) {
                0 => read_results(&returned.structure(0)?, expected(question))?,
                1 => Returned::Exception(limited(returned.structure(0)?.text(0)?)),
                _ => Returned::Exception("the call was cancelled".to_owned()),
            };
            Ok(FromEdge::Return { question, answer })
        }
        ABORT => Ok(FromEdge::Abort(limited(root.structure(0)?.text(0)?))),
        _ => Ok(FromEdge::Other),
    }
}

fn read_results(payload: &StructReader<'_, '_>, expected: Expected) -> Result<Returned, ControlFault> {
    Ok(match expected {
        Expected::Capability => {
            let index = payload.capability(0)?.ok_or(ControlFault::Unexpected)?;
            let table = payload.structures(1)?;
            let descriptor = table.get(index as usize)?.ok_or(CapnpError::Bounds)?;
            Returned::Capability(descriptor.u32(4))
        }
        Expected::Registration => {
            let response = payload.structure(0)?.structure(0)?;
            Returned::Registration(match response.u16(0) {
                0 => {
                    let error = response.structure(0)?;
                    RegistrationAnswer::Refused(RegistrationError {
                        cause: limited(error.text(0)?),
                        retry_after: Duration::from_nanos(u64::try_from(error.u64(0) as i64).unwrap_or_default()),
                        should_retry: error.bit(64),
                    })
                }
                1 => {
                    let details = response.structure(0)?;
                    RegistrationAnswer::Accepted {
                        connection: uuid_of(details.data(0)?)?,
                        location: limited(details.text(1)?),
                        is_remotely_managed: details.bit(0),
                    }
                }
                _ => return Err(ControlFault::Unexpected),
            })
        }
        Expected::Nothing => Returned::Other,
    })
}

pub(super) fn uuid_of(bytes: &[u8]) -> Result<TunnelUuid, ControlFault> {
    bytes.try_into().map(TunnelUuid).map_err(|_| ControlFault::Unexpected)
}

/// The start of a text that is shown or kept.
pub(super) fn limited(text: &str) -> String {
    let end = (0..=TEXT_LEN_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or_default()].to_owned()
}

pub(super) fn message(kind: u16, data: u16, pointers: u16) -> (MessageWriter, StructAt) {
    let (mut writer, root) = MessageWriter::new(1, 1);
    writer.u16(root, 0, kind);
    let body = writer.structure(root, 0, data, pointers);
    (writer, body)
}

/// Asks for the capability of the edge.
pub(super) fn bootstrap(question: u32) -> Vec<u8> {
    let (mut writer, body) = message(BOOTSTRAP, 1, 1);
    writer.u32(body, 0, question);
    writer.finish()
}

/// The capability on which a method is called.
#[derive(Clone, Copy)]
pub(super) enum CallTarget {
    /// The one that the answer to this question will contain.
    Promised(u32),
    /// The one with this number.
    Imported(u32),
}

fn call(question: u32, target: CallTarget, method: u16, params: (u16, u16)) -> (MessageWriter, StructAt, StructAt) {
    let (mut writer, body) = message(CALL, 3, 3);
    writer.u32(body, 0, question);
    writer.u16(body, 4, method);
    writer.u64(body, 8, REGISTRATION_SERVER);
    let place = writer.structure(body, 0, 1, 1);
    match target {
        CallTarget::Imported(number) => writer.u32(place, 0, number),
        CallTarget::Promised(question) => {
            writer.u16(place, 4, 1);
            let answer = writer.structure(place, 0, 1, 1);
            writer.u32(answer, 0, question);
            writer.structures(answer, 0, 0, 1, 0);
        }
    }
    let payload = writer.structure(body, 1, 0, 2);
    let content = writer.structure(payload, 0, params.0, params.1);
    (writer, payload, content)
}

/// Writes the empty table of capabilities, which comes last, and ends the message.
pub(super) fn finish_payload(mut writer: MessageWriter, payload: StructAt) -> Vec<u8> {
    writer.structures(payload, 1, 0, 1, 1);
    writer.finish()
}

/// Registers a connection at the edge.
pub(super) fn register(question: u32, target: CallTarget, registration: &Registration) -> Vec<u8> {
    let (mut writer, payload, params) = call(question, target, REGISTER, (1, 3));
    writer.u8(params, 0, registration.index);
    let auth = writer.structure(params, 0, 0, 2);
    writer.text(auth, 0, &registration.account);
    writer.data(auth, 1, registration.secret.expose());
    writer.data(params, 1, &registration.tunnel.0);
    let options = writer.structure(params, 2, 1, 2);
    writer.u8(options, 2, registration.attempts);
    let client = writer.structure(options, 0, 0, 4);
    writer.data(client, 0, &registration.connector.0);
    let features: Vec<&str> = registration.features.iter().map(String::as_str).collect();
    writer.texts(client, 1, &features);
    writer.text(client, 2, &registration.version);
    writer.text(client, 3, &registration.arch);
    writer.data(options, 1, &registration.local_ip);
    finish_payload(writer, payload)
}

/// Says that the edge should send no more calls.
pub(super) fn unregister(question: u32, target: CallTarget) -> Vec<u8> {
    let (writer, payload, _) = call(question, target, UNREGISTER, (0, 0));
    finish_payload(writer, payload)
}

/// Sends the connector's configuration, which the edge shows to operators.
pub(super) fn update_configuration(question: u32, target: CallTarget, config: &str) -> Vec<u8> {
    let (mut writer, payload, params) = call(question, target, UPDATE_CONFIGURATION, (0, 1));
    writer.data(params, 0, config.as_bytes());
    finish_payload(writer, payload)
}

/// Says that the answer to a question is needed no more.
pub(super) fn finish(question: u32) -> Vec<u8> {
    let (mut writer, body) = message(FINISH, 1, 0);
    writer.u32(body, 0, question);
    // Capabilities are kept. The bit stands inverted.
    writer.u8(body, 4, 1);
    writer.finish()
}

/// Ends the stream with a reason.
pub(super) fn abort(reason: &str) -> Vec<u8> {
    let (mut writer, body) = message(ABORT, 1, 1);
    writer.text(body, 0, reason);
    writer.finish()
}
