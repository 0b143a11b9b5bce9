//! A host that trades a provisioning key, and whose answer may be lost.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use adit::base::Secret;
use adit::tls::{ALPN_ENROL, ClientSettings, KeyRequest, Roots, ServerName, client_config};
use adit::wire::enrol::{Credential, EnrolAnswer, EnrolMessage, EnrolReader, EnrolRequest};
use rustls::{ClientConnection, StreamOwned};

/// What an edge answers to a host with this key.
pub(crate) fn trade(edge: &str, ca: &Path, provisioning: &str, key: &KeyRequest) -> EnrolAnswer {
    let mut roots = Roots::new();
    roots.add_pem("ca.pem", &std::fs::read(ca).unwrap()).unwrap();
    let settings = ClientSettings { roots, alpn: vec![ALPN_ENROL.to_vec()], ..ClientSettings::default() };
    let config = client_config(settings).unwrap();
    let session = ClientConnection::new(Arc::clone(&config), ServerName::try_from("127.0.0.1").unwrap()).unwrap();
    let mut stream = StreamOwned::new(session, TcpStream::connect(edge).unwrap());
    let request = EnrolRequest {
        credential: Credential::Provisioning { key: Secret::from(provisioning), name: "web-1".to_owned() },
        software: "test".to_owned(),
        csr: key.csr().to_vec(),
    };
    stream.write_all(request.encode().unwrap().expose()).unwrap();
    let (mut incoming, mut piece) = (EnrolReader::<EnrolAnswer>::default(), [0; 4096]);
    loop {
        let n = stream.read(&mut piece).unwrap();
        if let Some(answer) = incoming.receive(&piece[..n]).unwrap() {
            return answer;
        }
    }
}
