//! The connector's side of a remote procedure call of the edge, with which it sends new ingress rules.

use super::capnp_reader::Message;
use super::capnp_writer::{MessageWriter, StructAt};
use super::messages::{ABORT, BOOTSTRAP, CALL, ControlFault, MessageBuffer, RETURN, finish_payload, message};

/// The interface for configurations, and its method.
const CONFIGURATION_MANAGER: u64 = 0xb48e_dfbd_aa25_db04;
const UPDATE: u16 = 0;

/// The connector's side of one call of the edge. Bytes to send are [taken](PushServer::take_output) after each step.
#[derive(Default)]
pub struct PushServer {
    buffer: MessageBuffer,
    output: Vec<u8>,
}

/// New ingress rules, as the edge sends them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedRules {
    /// What the answer names.
    pub question: u32,
    /// The version of the rules.
    pub version: i32,
    /// The rules, as JSON.
    pub config: Vec<u8>,
}

impl PushServer {
    /// Takes bytes from the edge, and passes rules in them to `each`.
    ///
    /// # Errors
    ///
    /// If the edge violates the protocol.
    pub fn receive(&mut self, bytes: &[u8], mut each: impl FnMut(PushedRules)) -> Result<(), ControlFault> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let received = buffer.receive(bytes, |message| self.take(message, &mut each));
        self.buffer = buffer;
        received
    }

    fn take(&mut self, message: &Message<'_>, each: &mut impl FnMut(PushedRules)) -> Result<(), ControlFault> {
        let root = message.root()?;
        let body = root.structure(0)?;
        let question = body.u32(0);
        match root.u16(0) {
            BOOTSTRAP => self.output.extend(offered(question)),
            CALL if (body.u64(8), body.u16(4)) == (CONFIGURATION_MANAGER, UPDATE) => {
                let params = body.structure(1)?.structure(0)?;
                each(PushedRules { question, version: params.u32(0) as i32, config: params.data(0)?.to_vec() });
            }
            CALL => self.output.extend(refused(question)),
            ABORT => return Err(ControlFault::Aborted(String::new())),
            _ => {}
        }
        Ok(())
    }

    /// Answers a call: the version that is in force now, and why it is not the new one; no reason if it is.
    pub fn answer(&mut self, question: u32, version: i32, error: &str) {
        let (mut writer, body) = returned(question);
        let payload = writer.structure(body, 0, 0, 2);
        let content = writer.structure(payload, 0, 0, 1);
        let response = writer.structure(content, 0, 1, 1);
        writer.u32(response, 0, version as u32);
        writer.text(response, 0, error);
        self.output.extend(finish_payload(writer, payload));
    }

    /// The bytes to send now.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }
}

fn returned(question: u32) -> (MessageWriter, StructAt) {
    let (mut writer, body) = message(RETURN, 2, 1);
    writer.u32(body, 0, question);
    // The capabilities of the question are kept. The bit stands inverted.
    writer.u8(body, 4, 1);
    (writer, body)
}

/// Offers capability 0, which has the method.
fn offered(question: u32) -> Vec<u8> {
    let (mut writer, body) = returned(question);
    let payload = writer.structure(body, 0, 0, 2);
    writer.capability(payload, 0, 0);
    let descriptor = writer.structures(payload, 1, 1, 1, 1);
    writer.u16(descriptor, 0, 1);
    writer.finish()
}

/// Answers a call of a method that this connector does not have.
fn refused(question: u32) -> Vec<u8> {
    let (mut writer, body) = returned(question);
    writer.u16(body, 6, 1);
    let exception = writer.structure(body, 0, 1, 2);
    writer.text(exception, 0, "this connector does not have the method");
    // The type of the exception: not implemented.
    writer.u16(exception, 4, 3);
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::super::capnp_reader::message_len;
    use super::super::messages::{CallTarget, bootstrap, unregister};
    use super::super::vectors::{BOOTSTRAP as ASKS, BOOTSTRAPPED, framed};
    use super::*;
    use crate::base::Rng;

    /// A call that updates the configuration, addressed to the capability of the first question.
    fn update(version: i32, config: &[u8]) -> Vec<u8> {
        let (mut writer, body) = message(CALL, 3, 3);
        writer.u32(body, 0, 1);
        writer.u64(body, 8, CONFIGURATION_MANAGER);
        let place = writer.structure(body, 0, 1, 1);
        writer.u16(place, 4, 1);
        writer.structure(place, 0, 1, 1);
        let payload = writer.structure(body, 1, 0, 2);
        let params = writer.structure(payload, 0, 1, 1);
        writer.u32(params, 0, version as u32);
        writer.data(params, 0, config);
        finish_payload(writer, payload)
    }

    fn feed(server: &mut PushServer, bytes: &[u8]) -> Vec<PushedRules> {
        let mut rules = Vec::new();
        server.receive(bytes, |pushed| rules.push(pushed)).unwrap();
        rules
    }

    #[test]
    fn rules_are_received_and_answered() {
        let mut server = PushServer::default();
        let bytes = [framed(ASKS), update(7, b"{}")].concat();
        let (first, rest) = bytes.split_at(bytes.len() - 9);
        assert_eq!(feed(&mut server, first), []);
        assert_eq!(server.take_output(), framed(BOOTSTRAPPED));
        assert_eq!(feed(&mut server, rest), [PushedRules { question: 1, version: 7, config: b"{}".to_vec() }]);
        assert!(server.take_output().is_empty());
        server.answer(1, 7, "");
        server.answer(1, -1, "not JSON");
        let answers = server.take_output();
        let first = message_len(&answers, 4096).unwrap().unwrap();
        for (bytes, version, error) in [(&answers[..first], 7, ""), (&answers[first..], -1, "not JSON")] {
            let message = Message::new(bytes).unwrap();
            let returned = message.root().unwrap().structure(0).unwrap();
            let response = returned.structure(0).unwrap().structure(0).unwrap().structure(0).unwrap();
            assert_eq!((returned.u32(0), response.u32(0) as i32, response.text(0)), (1, version, Ok(error)));
        }
    }

    #[test]
    fn other_methods_are_refused() {
        let mut server = PushServer::default();
        assert_eq!(feed(&mut server, &unregister(3, CallTarget::Imported(0))), []);
        let answer = server.take_output();
        let message = Message::new(&answer).unwrap();
        let returned = message.root().unwrap().structure(0).unwrap();
        assert_eq!((returned.u32(0), returned.u16(6)), (3, 1));
        assert_eq!(feed(&mut server, &bootstrap(4)), []);
        assert!(!server.take_output().is_empty());
    }

    #[test]
    fn no_bytes_make_it_fail_otherwise_than_with_a_fault() {
        let good = [framed(ASKS), update(7, b"{\"ingress\":[]}")].concat();
        for seed in 0..1_000 {
            let mut rng = Rng::new(seed);
            let mut bytes = good.clone();
            for _ in 0..rng.between(1, 6) {
                let at = rng.between(0, bytes.len() as u64 - 1) as usize;
                bytes[at] = rng.between(0, 255) as u8;
            }
            let mut server = PushServer::default();
            let _ = server.receive(&bytes, |_| ());
            assert!(server.take_output().len() < 1024);
        }
    }
}
