//! The messages of the control stream as an edge reads and writes them.

use super::capnp_reader::{Message, StructReader};
use super::capnp_writer::{MessageWriter, StructAt};
use super::messages::{
    ABORT, BOOTSTRAP, CALL, ControlFault, FINISH, REGISTER, REGISTRATION_SERVER, RETURN, TEXT_LEN_MAX, UNREGISTER,
    UPDATE_CONFIGURATION, finish_payload, limited, message, uuid_of,
};
use super::registration::{Registration, RegistrationAnswer};
use crate::base::Secret;

/// The most features of a registration that are kept.
const FEATURES_MAX: usize = 64;

// Kinds of messages that need no answer.
const UNIMPLEMENTED: u16 = 0;
const RELEASE: u16 = 6;

/// A message from a connector, as far as an edge needs it.
pub(super) enum FromConnector {
    Bootstrap {
        question: u32,
    },
    Register {
        question: u32,
        registration: Box<Registration>,
    },
    Unregister {
        question: u32,
    },
    UpdateConfiguration {
        question: u32,
    },
    /// A call of another method.
    Unknown {
        question: u32,
    },
    Abort(String),
    Other,
}

/// Reads a message from a connector.
pub(super) fn read_from_connector(message: &Message<'_>) -> Result<FromConnector, ControlFault> {
    let root = message.root()?;
    let body = root.structure(0)?;
    let question = body.u32(0);
    Ok(match root.u16(0) {
        BOOTSTRAP => FromConnector::Bootstrap { question },
        // There is one capability, so the target need not be read: a promise of it is as good.
        CALL => match (body.u64(8), body.u16(4)) {
            (REGISTRATION_SERVER, REGISTER) => {
                let registration = Box::new(read_registration(&body.structure(1)?.structure(0)?)?);
                FromConnector::Register { question, registration }
            }
            (REGISTRATION_SERVER, UNREGISTER) => FromConnector::Unregister { question },
            (REGISTRATION_SERVER, UPDATE_CONFIGURATION) => FromConnector::UpdateConfiguration { question },
            _ => FromConnector::Unknown { question },
        },
        ABORT => FromConnector::Abort(limited(body.text(0)?)),
        UNIMPLEMENTED | RETURN | FINISH | RELEASE => FromConnector::Other,
        _ => return Err(ControlFault::Unexpected),
    })
}

fn read_registration(of: &StructReader<'_, '_>) -> Result<Registration, ControlFault> {
    let (auth, options) = (of.structure(0)?, of.structure(2)?);
    let client = options.structure(0)?;
    let secret = auth.data(1)?;
    if secret.len() > TEXT_LEN_MAX {
        return Err(ControlFault::Unexpected);
    }
    let mut features = Vec::new();
    client.texts(1, |text| {
        if features.len() < FEATURES_MAX {
            features.push(limited(text));
        }
    })?;
    Ok(Registration {
        account: limited(auth.text(0)?),
        secret: Secret::new(secret.to_vec()),
        tunnel: uuid_of(of.data(1)?)?,
        index: of.u8(0),
        connector: uuid_of(client.data(0)?)?,
        features,
        version: limited(client.text(2)?),
        arch: limited(client.text(3)?),
        local_ip: options.data(1)?.try_into().unwrap_or_default(),
        attempts: options.u8(2),
    })
}

fn answer(question: u32) -> (MessageWriter, StructAt) {
    let (mut writer, body) = message(RETURN, 2, 1);
    writer.u32(body, 0, question);
    // The capabilities of the question are kept. The bit stands inverted.
    writer.u8(body, 4, 1);
    (writer, body)
}

/// Offers capability 0 to a connector that asked for it.
pub(super) fn bootstrapped(question: u32) -> Vec<u8> {
    let (mut writer, body) = answer(question);
    let payload = writer.structure(body, 0, 0, 2);
    writer.capability(payload, 0, 0);
    let descriptor = writer.structures(payload, 1, 1, 1, 1);
    writer.u16(descriptor, 0, 1);
    writer.finish()
}

/// Answers the registration of a connection.
pub(super) fn registered(question: u32, result: &RegistrationAnswer) -> Vec<u8> {
    let (mut writer, body) = answer(question);
    let payload = writer.structure(body, 0, 0, 2);
    let content = writer.structure(payload, 0, 0, 1);
    let response = writer.structure(content, 0, 1, 1);
    match result {
        RegistrationAnswer::Accepted { connection, location, is_remotely_managed } => {
            writer.u16(response, 0, 1);
            let details = writer.structure(response, 0, 1, 2);
            writer.u8(details, 0, u8::from(*is_remotely_managed));
            writer.data(details, 0, &connection.0);
            writer.text(details, 1, location);
        }
        RegistrationAnswer::Refused(error) => {
            let details = writer.structure(response, 0, 2, 1);
            writer.u64(details, 0, u64::try_from(error.retry_after.as_nanos()).unwrap_or(i64::MAX as u64));
            writer.u8(details, 8, u8::from(error.should_retry));
            writer.text(details, 0, &error.cause);
        }
    }
    finish_payload(writer, payload)
}

/// Answers a call without content.
pub(super) fn done(question: u32) -> Vec<u8> {
    let (mut writer, body) = answer(question);
    let payload = writer.structure(body, 0, 0, 2);
    writer.structure(payload, 0, 0, 0);
    finish_payload(writer, payload)
}

/// Answers a call of an unknown method with an exception.
pub(super) fn unknown_method(question: u32) -> Vec<u8> {
    let (mut writer, body) = answer(question);
    writer.u16(body, 6, 1);
    let exception = writer.structure(body, 0, 1, 2);
    writer.text(exception, 0, "this edge does not have the method");
    // The type of the exception: not implemented.
    writer.u16(exception, 4, 3);
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::super::vectors::{
        BOOTSTRAP, BOOTSTRAPPED, DONE, FINISH as FINISHED, REGISTER as REGISTRATION, REGISTERED, UNREGISTER as LEAVES,
        framed,
    };
    use std::time::Duration;

    use super::super::capnp_reader::CapnpError;
    use super::super::messages::{
        CallTarget, Expected, FromEdge, MESSAGE_LEN_MAX, MessageBuffer, Returned, abort, bootstrap, finish,
        read_from_edge, register, unregister,
    };
    use super::super::registration::RegistrationError;
    use super::*;

    fn registration() -> Registration {
        let features =
            ["management_logs", "allow_remote_config", "serialized_headers", "support_datagram_v2", "support_quic_eof"];
        let mut local_ip = [0; 16];
        local_ip[10..].copy_from_slice(&[0xff, 0xff, 127, 0, 0, 1]);
        Registration {
            account: "acct0123456789abcdef".to_owned(),
            secret: "0123456789abcdef0123456789abcdef".into(),
            tunnel: "3d539f97-cd3a-4d8e-c33b-65e9099c7a8d".parse().unwrap(),
            index: 0,
            connector: "210b6008-5779-44da-8a2a-5d9069ffe5bb".parse().unwrap(),
            features: features.map(str::to_owned).to_vec(),
            version: "2026.8.2".to_owned(),
            arch: "linux_amd64".to_owned(),
            local_ip,
            attempts: 0,
        }
    }

    fn accepted() -> RegistrationAnswer {
        RegistrationAnswer::Accepted {
            connection: "3d539f97-cd3a-4d8e-c33b-65e9099c7a8d".parse().unwrap(),
            location: "tst01".to_owned(),
            is_remotely_managed: false,
        }
    }

    #[test]
    fn messages_are_written_as_the_stock_programs_write_them() {
        for (ours, theirs) in [
            (bootstrap(0), BOOTSTRAP),
            (register(1, CallTarget::Promised(0), &registration()), REGISTRATION),
            (finish(0), FINISHED),
            (unregister(1, CallTarget::Imported(0)), LEAVES),
            (bootstrapped(0), BOOTSTRAPPED),
            (registered(1, &accepted()), REGISTERED),
            (done(1), DONE),
        ] {
            assert_eq!(ours, framed(theirs), "{theirs}");
        }
    }

    fn read<T>(bytes: &[u8], read: impl Fn(&Message<'_>) -> Result<T, ControlFault>) -> T {
        read(&Message::new(bytes).unwrap()).unwrap_or_else(|fault| panic!("{fault}"))
    }

    #[test]
    fn the_registration_of_the_stock_program_is_read() {
        let FromConnector::Register { question: 1, registration: read } =
            read(&framed(REGISTRATION), read_from_connector)
        else {
            panic!("it is a registration")
        };
        let sent = registration();
        assert_eq!((&read.account, read.secret.expose()), (&sent.account, sent.secret.expose()));
        assert_eq!((read.tunnel, read.index, read.connector), (sent.tunnel, 0, sent.connector));
        assert_eq!((&read.features, &read.version, &read.arch), (&sent.features, &sent.version, &sent.arch));
        assert_eq!((read.local_ip, read.attempts), (sent.local_ip, 0));
    }

    #[test]
    fn the_answers_of_an_edge_are_read() {
        let of = |bytes: &[u8], expected| read(bytes, |message| read_from_edge(message, |_| expected));
        let FromEdge::Return { question: 0, answer: Returned::Capability(0) } =
            of(&framed(BOOTSTRAPPED), Expected::Capability)
        else {
            panic!("it is a capability")
        };
        let refused = RegistrationAnswer::Refused(RegistrationError {
            cause: "EDUPCONN".to_owned(),
            retry_after: Duration::from_millis(1500),
            should_retry: true,
        });
        for sent in [accepted(), refused] {
            let FromEdge::Return { question: 1, answer: Returned::Registration(answer) } =
                of(&registered(1, &sent), Expected::Registration)
            else {
                panic!("it is the answer to a registration")
            };
            assert_eq!(answer, sent);
        }
        let FromEdge::Return { answer: Returned::Exception(why), .. } = of(&unknown_method(7), Expected::Nothing)
        else {
            panic!("it is an exception")
        };
        assert!(why.contains("does not have the method"), "{why}");
        assert!(
            matches!(of(&abort("rpc: shutdown"), Expected::Nothing), FromEdge::Abort(why) if why == "rpc: shutdown")
        );
        assert!(matches!(of(&framed(DONE), Expected::Nothing), FromEdge::Return { answer: Returned::Other, .. }));
    }

    #[test]
    fn a_message_may_arrive_in_any_pieces_and_not_be_too_long() {
        let bytes = [framed(BOOTSTRAP), framed(REGISTRATION), framed(LEAVES)].concat();
        for size in [1, 7, 8, 9, 100, 4096] {
            let (mut buffer, mut seen) = (MessageBuffer::default(), 0);
            for piece in bytes.chunks(size) {
                buffer
                    .receive(piece, |message| {
                        seen += 1;
                        read_from_connector(message).map(drop)
                    })
                    .unwrap();
            }
            assert_eq!(seen, 3, "{size}");
        }
        let long = [&[0; 4][..], &(MESSAGE_LEN_MAX as u32).to_le_bytes()].concat();
        assert!(matches!(
            MessageBuffer::default().receive(&long, |_| Ok(())),
            Err(ControlFault::Message(CapnpError::Long(_)))
        ));
    }
}
