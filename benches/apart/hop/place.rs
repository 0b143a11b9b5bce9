//! Where a hop runs: what it is told by the bench, in a process of its own.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use adit::tls::{
    Authority, CertSet, ClientConfig, ClientSettings, ReloadingCerts, Roots, ServerCert, ServerConfig, ServerSettings,
    client_config, server_config,
};
use rustls::pki_types::UnixTime;

use crate::hops::HOPS;

pub(crate) const SERVER_NAME: &str = "hop.example";
/// The most bytes that a hop reads at once, each way.
pub(crate) const BUFFER_LEN: usize = 64 * 1024;
pub(crate) const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What a hop is told.
pub(crate) struct Place {
    pub(crate) upstream: SocketAddr,
    pub(crate) tls: Arc<ServerConfig>,
}

impl Place {
    /// Tells the bench where the hop listens.
    pub(crate) fn announce(address: SocketAddr) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{address}")?;
        out.flush()
    }
}

/// A certificate for all hops, its key, and the authority that the client believes.
pub(crate) struct Secrets {
    pub(crate) authority_pem: String,
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
}

impl Secrets {
    pub(crate) fn issue() -> io::Result<Secrets> {
        let authority = Authority::new("hop bench", UnixTime::now(), 1).map_err(io::Error::other)?;
        let issued = authority.issue(&[SERVER_NAME]).map_err(io::Error::other)?;
        let key_pem = String::from_utf8(issued.key_pem.expose().to_vec()).map_err(io::Error::other)?;
        Ok(Secrets { authority_pem: authority.cert_pem().to_owned(), cert_pem: issued.cert_pem, key_pem })
    }

    /// The client's side.
    pub(crate) fn client(&self) -> io::Result<Arc<ClientConfig>> {
        let mut roots = Roots::new();
        roots.add_pem("the bench's authority", self.authority_pem.as_bytes()).map_err(io::Error::other)?;
        client_config(ClientSettings { roots, ..ClientSettings::default() }).map_err(io::Error::other)
    }
}

/// Runs one hop in this process: `NAME UPSTREAM CPU`, certificate and key on standard input.
pub(crate) fn serve(arguments: &[String]) -> io::Result<()> {
    let [name, upstream, cpu, ..] = arguments else {
        return Err(io::Error::other("--serve wants a name, the upstream's address and a CPU"));
    };
    let (_, serve) = HOPS
        .iter()
        .find(|(known, _)| known == name)
        .ok_or_else(|| io::Error::other(format!("there is no hop '{name}'")))?;
    adit::engine::pin_to_cpu(cpu.parse().map_err(io::Error::other)?)?;
    let mut pem = String::new();
    io::stdin().read_to_string(&mut pem)?;
    let cert = ServerCert::from_pem(
        ("the bench's certificate", pem.as_bytes()),
        ("the bench's key", pem.as_bytes()),
        UnixTime::now(),
    );
    let certs = CertSet::new([cert.map_err(io::Error::other)?]).map_err(io::Error::other)?;
    // TLS 1.3 only, AES-128-GCM first.
    let tls = server_config(ReloadingCerts::new(certs), &ServerSettings::default()).map_err(io::Error::other)?;
    serve(Place { upstream: upstream.parse().map_err(io::Error::other)?, tls })
}
