//! The connector's side of the control stream.

use super::messages::{
    CallTarget, ControlFault, Expected, FromEdge, MessageBuffer, Returned, abort, bootstrap, finish, read_from_edge,
    register, unregister, update_configuration,
};
use super::registration::{Registration, RegistrationAnswer};

/// The question that asks for the edge's capability.
const BOOTSTRAP_QUESTION: u32 = 0;
/// The question of the first call. The numbers of answered questions are used again.
const CALL_QUESTION: u32 = 1;
/// What the stock connector says when it ends the stream.
const GOODBYE: &str = "rpc: shutdown";

/// The connector's side of a control stream. Bytes to send are [taken](ControlClient::take_output) after each call.
pub struct ControlClient {
    buffer: MessageBuffer,
    output: Vec<u8>,
    capability: Option<u32>,
    /// The calls that wait for their answers, by question. Each is made at most once.
    calls: Vec<(u32, Calling)>,
    /// The configuration to send after the registration, if the edge does not manage it.
    config: Option<String>,
    /// Whether the connector leaves as soon as it is registered.
    leaves: bool,
    has_left: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Calling {
    Register,
    Configure,
    Unregister,
}

/// What has happened on a control stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlEvent {
    /// The edge has answered the registration.
    Registered(RegistrationAnswer),
    /// The edge sends no more calls.
    Unregistered,
}

impl ControlClient {
    /// Registers a connection. `config` is sent afterwards if the edge does not manage the connector.
    #[must_use]
    pub fn new(registration: &Registration, config: Option<String>) -> ControlClient {
        let mut output = bootstrap(BOOTSTRAP_QUESTION);
        // Sent without waiting for the capability, which saves a round trip.
        output.extend(register(CALL_QUESTION, CallTarget::Promised(BOOTSTRAP_QUESTION), registration));
        ControlClient {
            buffer: MessageBuffer::default(),
            output,
            capability: None,
            calls: vec![(CALL_QUESTION, Calling::Register)],
            config,
            leaves: false,
            has_left: false,
        }
    }

    /// The bytes to send now.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Takes bytes from the edge, and passes what they mean to `each`.
    ///
    /// # Errors
    ///
    /// If the edge violates the protocol, answers with an exception, or ends the stream.
    pub fn receive(&mut self, bytes: &[u8], mut each: impl FnMut(ControlEvent)) -> Result<(), ControlFault> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let received = buffer.receive(bytes, |message| {
            let is_registering = self.is_registering();
            let expected = |question| match question {
                BOOTSTRAP_QUESTION => Expected::Capability,
                CALL_QUESTION if is_registering => Expected::Registration,
                _ => Expected::Nothing,
            };
            match read_from_edge(message, expected)? {
                FromEdge::Return { answer: Returned::Exception(why), .. } => Err(ControlFault::Exception(why)),
                FromEdge::Return { question, answer } => self.on_return(question, answer, &mut each),
                FromEdge::Abort(why) => Err(ControlFault::Aborted(why)),
                FromEdge::Other => Ok(()),
            }
        });
        self.buffer = buffer;
        received
    }

    /// Leaves the edge: it should send no more calls.
    pub fn unregister(&mut self) {
        self.leaves = true;
        self.call_next();
    }

    /// Ends the control stream. Returns the last bytes to send.
    pub fn end(&mut self) -> Vec<u8> {
        self.output.extend(abort(GOODBYE));
        self.take_output()
    }

    fn on_return(
        &mut self,
        question: u32,
        answer: Returned,
        each: &mut impl FnMut(ControlEvent),
    ) -> Result<(), ControlFault> {
        let call = self.calls.iter().position(|(asked, _)| *asked == question).map(|at| self.calls.remove(at).1);
        match (call, answer) {
            (None, Returned::Capability(number)) if question == BOOTSTRAP_QUESTION => self.capability = Some(number),
            (Some(Calling::Register), Returned::Registration(answer)) => {
                if !matches!(answer, RegistrationAnswer::Accepted { is_remotely_managed: false, .. }) {
                    self.config = None;
                }
                each(ControlEvent::Registered(answer));
            }
            (Some(Calling::Configure), _) => {}
            (Some(Calling::Unregister), _) => each(ControlEvent::Unregistered),
            _ => return Err(ControlFault::Unexpected),
        }
        self.output.extend(finish(question));
        self.call_next();
        Ok(())
    }

    fn is_registering(&self) -> bool {
        self.calls.iter().any(|(_, calling)| *calling == Calling::Register)
    }

    /// Makes the next call, once the connection is registered.
    fn call_next(&mut self) {
        let Some(number) = self.capability.filter(|_| !self.is_registering()) else { return };
        let target = CallTarget::Imported(number);
        let is_used = |question: &u32| self.calls.iter().any(|(asked, _)| asked == question);
        let Some(question) = (CALL_QUESTION..).find(|question| !is_used(question)) else { return };
        // An edge that does not answer one call may answer the next.
        if self.leaves {
            if !std::mem::replace(&mut self.has_left, true) {
                self.output.extend(unregister(question, target));
                self.calls.push((question, Calling::Unregister));
            }
        } else if let Some(config) = self.config.take() {
            self.output.extend(update_configuration(question, target, &config));
            self.calls.push((question, Calling::Configure));
        }
    }
}
