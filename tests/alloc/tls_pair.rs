//! Both sides of a TLS connection in memory.

use std::sync::Arc;

use adit::engine::Pool;
use adit::tls::{
    Authority, CertSet, ClientConfig, ClientSettings, ReloadingCerts, Roots, ServerConfig, ServerSettings, Session,
    Versions, client_config, server_config,
};
use rustls_pki_types::{ServerName, UnixTime};

/// Whom the certificate of [`configs`] names.
pub(crate) const NAME: &str = "edge.example";

/// A client's configuration and a server's that it believes.
pub(crate) fn configs(versions: Versions) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let (roots, server) = believed(versions);
    let client = client_config(ClientSettings { roots, versions, ..ClientSettings::default() }).expect("a client");
    (client, server)
}

/// A server's configuration, and whom to believe so that it is believed.
pub(crate) fn believed(versions: Versions) -> (Roots, Arc<ServerConfig>) {
    let now = UnixTime::now();
    let authority = Authority::new("test authority", now, 1).expect("an authority");
    let issued = authority.issue(&[NAME]).expect("a certificate");
    let certs = CertSet::new([issued.server_cert(now).expect("a certificate that is valid now")]).expect("one of them");
    let certs = ReloadingCerts::new(certs);
    let server = server_config(certs, &ServerSettings { versions, ..ServerSettings::default() }).expect("a server");
    let mut roots = Roots::new();
    roots.add_der(authority.cert_der().clone()).expect("the authority's certificate");
    (roots, server)
}

/// A client and a server whose handshake is done.
pub(crate) fn pair(versions: Versions, pool: &Pool) -> (Session, Session) {
    let (client, server) = configs(versions);
    let mut client = Session::client(client, ServerName::try_from(NAME).expect("a name")).expect("a client");
    let mut server = Session::server(server).expect("a server");
    while client.has_outgoing() || server.has_outgoing() {
        carry(&mut client, &mut server, pool);
        carry(&mut server, &mut client, pool);
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    (client, server)
}

/// Carries over what one side has to say that is no data.
pub(crate) fn carry(from: &mut Session, to: &mut Session, pool: &Pool) {
    while let Some(lease) = from.take_outgoing(pool).expect("a buffer") {
        to.read(lease);
        assert!(to.take_plaintext(pool).expect("what a peer says").is_none());
    }
}
