//! The edge's side of the control stream.

use super::edge_messages::{FromConnector, bootstrapped, done, read_from_connector, registered, unknown_method};
use super::messages::{ControlFault, MessageBuffer};
use super::registration::{Registration, RegistrationAnswer};

/// The most calls that a connector may make on one control stream. It needs three.
const CALLS_MAX: u32 = 1_000;

/// The edge's side of a control stream. Bytes to send are [taken](ControlServer::take_output) after each call.
#[derive(Default)]
pub struct ControlServer {
    buffer: MessageBuffer,
    output: Vec<u8>,
    /// The question of the registration that waits for its answer.
    registering: Option<u32>,
    has_registered: bool,
    calls: u32,
}

/// What a connector asks for.
pub enum ControlRequest {
    /// To register its connection. The edge must [answer](ControlServer::answer).
    Register(Box<Registration>),
    /// To send no more calls on the connection. It is answered already.
    Unregister,
}

impl ControlServer {
    /// The bytes to send now.
    #[must_use]
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Takes bytes from the connector, and passes what it asks for to `each`.
    ///
    /// # Errors
    ///
    /// If the connector violates the protocol, or ends the stream.
    pub fn receive(&mut self, bytes: &[u8], mut each: impl FnMut(ControlRequest)) -> Result<(), ControlFault> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let received = buffer.receive(bytes, |message| {
            self.calls += 1;
            if self.calls > CALLS_MAX {
                return Err(ControlFault::Unexpected);
            }
            match read_from_connector(message)? {
                FromConnector::Bootstrap { question } => self.output.extend(bootstrapped(question)),
                FromConnector::Register { question, registration } => {
                    if std::mem::replace(&mut self.has_registered, true) {
                        return Err(ControlFault::Unexpected);
                    }
                    self.registering = Some(question);
                    each(ControlRequest::Register(registration));
                }
                FromConnector::Unregister { question } => {
                    self.output.extend(done(question));
                    each(ControlRequest::Unregister);
                }
                FromConnector::UpdateConfiguration { question } => self.output.extend(done(question)),
                FromConnector::Unknown { question } => self.output.extend(unknown_method(question)),
                FromConnector::Abort(why) => return Err(ControlFault::Aborted(why)),
                FromConnector::Other => {}
            }
            Ok(())
        });
        self.buffer = buffer;
        received
    }

    /// Answers the registration that was asked for.
    pub fn answer(&mut self, answer: &RegistrationAnswer) {
        if let Some(question) = self.registering.take() {
            self.output.extend(registered(question, answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::{CallTarget, unregister};
    use super::super::vectors::{BOOTSTRAP, BOOTSTRAPPED, DONE, FINISH, REGISTER, REGISTERED, UNREGISTER, framed};
    use super::super::{ControlClient, ControlEvent, TunnelUuid};
    use super::*;
    use crate::base::Rng;

    fn accepted(is_remotely_managed: bool) -> RegistrationAnswer {
        let connection: TunnelUuid = "3d539f97-cd3a-4d8e-c33b-65e9099c7a8d".parse().unwrap();
        RegistrationAnswer::Accepted { connection, location: "tst01".to_owned(), is_remotely_managed }
    }

    /// What the server is asked for, while it accepts every registration.
    fn feed(server: &mut ControlServer, bytes: &[u8], managed: bool) -> Result<Vec<ControlRequest>, ControlFault> {
        let mut asked = Vec::new();
        server.receive(bytes, |request| asked.push(request))?;
        if asked.iter().any(|request| matches!(request, ControlRequest::Register(_))) {
            server.answer(&accepted(managed));
        }
        Ok(asked)
    }

    #[test]
    fn the_stock_connector_is_answered_as_by_a_go_edge() {
        let mut server = ControlServer::default();
        let asked = feed(&mut server, &[framed(BOOTSTRAP), framed(REGISTER)].concat(), false).unwrap();
        let [ControlRequest::Register(registration)] = &asked[..] else { panic!("it registers") };
        assert_eq!(registration.version, "2026.8.2");
        assert_eq!(server.take_output(), [framed(BOOTSTRAPPED), framed(REGISTERED)].concat());
        let asked = feed(&mut server, &[framed(FINISH), framed(UNREGISTER)].concat(), false).unwrap();
        assert!(matches!(asked[..], [ControlRequest::Unregister]));
        assert_eq!(server.take_output(), framed(DONE));
        assert_eq!(feed(&mut server, &framed(REGISTER), false).err(), Some(ControlFault::Unexpected));
    }

    /// A client and a server that exchange what they have to say until neither says more.
    fn exchange(client: &mut ControlClient, server: &mut ControlServer, managed: bool) -> Vec<ControlEvent> {
        let mut events = Vec::new();
        loop {
            let (up, down) = (client.take_output(), server.take_output());
            if up.is_empty() && down.is_empty() {
                return events;
            }
            client.receive(&down, |event| events.push(event)).unwrap();
            feed(server, &up, managed).unwrap();
        }
    }

    #[test]
    fn a_connection_registers_and_leaves() {
        let registration = {
            let mut server = ControlServer::default();
            match feed(&mut server, &framed(REGISTER), false).unwrap().pop() {
                Some(ControlRequest::Register(registration)) => *registration,
                _ => panic!("it registers"),
            }
        };
        for managed in [true, false] {
            let mut server = ControlServer::default();
            let mut client = ControlClient::new(&registration, Some("{}".to_owned()));
            let events = exchange(&mut client, &mut server, managed);
            assert_eq!(events, [ControlEvent::Registered(accepted(managed))]);
            // The configuration was a message of its own: boot, register, two finishes, and with it a call and a finish.
            assert_eq!(server.calls, if managed { 4 } else { 6 });
            client.unregister();
            client.unregister();
            assert_eq!(exchange(&mut client, &mut server, managed), [ControlEvent::Unregistered]);
            let ended = server.receive(&client.end(), |_| ());
            assert_eq!(ended, Err(ControlFault::Aborted("rpc: shutdown".to_owned())));
        }
    }

    #[test]
    fn a_connector_leaves_although_the_edge_owes_it_an_answer() {
        let mut server = ControlServer::default();
        let Some(ControlRequest::Register(registration)) = feed(&mut server, &framed(REGISTER), false).unwrap().pop()
        else {
            panic!("it registers")
        };
        let mut client = ControlClient::new(&registration, Some("{}".to_owned()));
        let mut events = Vec::new();
        client.receive(&[framed(BOOTSTRAPPED), framed(REGISTERED)].concat(), |event| events.push(event)).unwrap();
        client.take_output();
        client.unregister();
        // The call of the configuration has the question 1, and is not answered.
        assert_eq!(client.take_output(), unregister(2, CallTarget::Imported(0)));
        client.receive(&done(2), |event| events.push(event)).unwrap();
        assert_eq!(events, [ControlEvent::Registered(accepted(false)), ControlEvent::Unregistered]);
    }

    #[test]
    fn no_bytes_make_either_side_fail_otherwise_than_with_a_fault() {
        let to_server = [framed(BOOTSTRAP), framed(REGISTER), framed(FINISH), framed(UNREGISTER)].concat();
        let to_client = [framed(BOOTSTRAPPED), framed(REGISTERED), framed(DONE)].concat();
        let registration = {
            let mut server = ControlServer::default();
            match feed(&mut server, &framed(REGISTER), false).unwrap().pop() {
                Some(ControlRequest::Register(registration)) => *registration,
                _ => panic!("it registers"),
            }
        };
        for seed in 0..1_500 {
            let mut rng = Rng::new(seed);
            let mut spoil = |bytes: &[u8]| {
                let mut bytes = bytes.to_vec();
                for _ in 0..rng.between(0, 6) {
                    let at = rng.between(0, bytes.len() as u64 - 1) as usize;
                    bytes[at] = rng.between(0, 255) as u8;
                }
                bytes
            };
            let mut server = ControlServer::default();
            let _ = feed(&mut server, &spoil(&to_server), seed % 2 == 0);
            let mut client = ControlClient::new(&registration, Some("{}".to_owned()));
            client.take_output();
            let _ = client.receive(&spoil(&to_client), |_| ());
            assert!(server.take_output().len() + client.take_output().len() < 4 * 1024);
        }
    }
}
