//! What the roles need to carry calls sealed, and agents' connections over TLS.

use std::future::pending;
use std::sync::Arc;

use adit::base::Traffic;
use adit::connector::{ConnectorRoute, ConnectorTables, Sealing};
use adit::edge::{EdgeSettings, EdgeTables, Seals, TunnelEntry};
use adit::engine::Core;
use adit::engine::driver::{Address, SocketOptions};
use adit::route::{Route, RouteEntry, RouteTable};
use adit::tls::{
    ALPN_HTTP1, ALPN_HTTP2, Authority, CallerAuthorities, CertSet, ClientConfig, ClientSettings, Clients, Connection,
    HandshakeError, ReloadingCerts, Roots, ServerConfig, ServerSettings, client_config, server_config,
};
use rustls::pki_types::{ServerName, UnixTime};

use crate::roles::AGENTS_AT;

/// All kinds of traffic.
pub(crate) const TRAFFIC: [Traffic; 3] = [Traffic::Plain, Traffic::Resealed, Traffic::Passthrough];

/// How the routes of a tunnel are carried, and the authority that everybody believes.
pub(crate) struct Sealed {
    pub(crate) traffic: Traffic,
    hosts: Vec<String>,
    authority: Authority,
    seals: Seals,
}

impl Sealed {
    /// Certificates are issued for these hosts.
    pub(crate) fn new(traffic: Traffic, hosts: &[&str]) -> Sealed {
        let authority = Authority::new("adit test", UnixTime::now(), 1).unwrap();
        let seals = Seals::default();
        seals.identity().renew(&authority, None, UnixTime::now()).unwrap();
        Sealed { traffic, hosts: hosts.iter().map(|host| (*host).to_owned()).collect(), authority, seals }
    }

    /// The edge serves TLS of agents.
    pub(crate) fn edge_settings(&self, settings: EdgeSettings) -> EdgeSettings {
        let agents_tls = Some(self.server(&[ALPN_HTTP2, ALPN_HTTP1], Clients::Anyone));
        EdgeSettings { agents_tls, ..settings }
    }

    /// The routes are carried so.
    pub(crate) fn edge_tables(&self, mut tables: EdgeTables) -> EdgeTables {
        let routes = tables.routes.iter().map(|(host, route)| {
            let target = Route { traffic: self.traffic, ..route.clone() };
            RouteEntry { host: host.to_string(), place: "here".to_owned(), target }
        });
        tables.routes = RouteTable::new(routes.collect::<Vec<_>>()).unwrap().into();
        let seal = self.seals.for_tunnel(vec![self.authority.cert_der().clone()]).unwrap();
        let sealed = |entry: &TunnelEntry| TunnelEntry { seal: Some(Arc::clone(&seal)), ..entry.clone() };
        tables.tunnels = tables.tunnels.iter().map(|(id, entry)| (id.clone(), sealed(entry))).collect();
        tables.enter_hosts();
        tables
    }

    /// The same at the connector.
    pub(crate) fn connector_tables(&self, tables: &ConnectorTables) -> ConnectorTables {
        let routes = tables.routes.iter().map(|(host, route)| {
            let target = ConnectorRoute { traffic: self.traffic, ..route.clone() };
            RouteEntry { host: host.to_string(), place: "here".to_owned(), target }
        });
        let callers = CallerAuthorities::default();
        callers.set(0, self.authority.cert_der().clone());
        let sealing = Sealing {
            passthrough: self.server(&[ALPN_HTTP2, ALPN_HTTP1], Clients::Anyone),
            passthrough_asking: self.server(&[ALPN_HTTP2, ALPN_HTTP1], Clients::Asked),
            resealed: self.server(&[ALPN_HTTP1], Clients::Edges(Arc::new(callers))),
        };
        ConnectorTables {
            routes: RouteTable::new(routes.collect::<Vec<_>>()).unwrap(),
            sealing: Some(sealing),
            ingress: None,
        }
    }

    /// How agents connect that choose this protocol: in the clear, unless only the connector may read them.
    pub(crate) fn door(&self, alpn: &[u8]) -> Door {
        let mut roots = Roots::new();
        roots.add_der(self.authority.cert_der().clone()).unwrap();
        let settings = ClientSettings { roots, alpn: vec![alpn.to_vec()], ..ClientSettings::default() };
        let is_sealed = self.traffic == Traffic::Passthrough;
        let host = ServerName::try_from(self.hosts[0].clone()).unwrap();
        Door(is_sealed.then(|| (client_config(settings).unwrap(), host)))
    }

    fn server(&self, alpn: &[&[u8]], clients: Clients) -> Arc<ServerConfig> {
        let hosts: Vec<&str> = self.hosts.iter().map(String::as_str).collect();
        let cert = self.authority.issue(&hosts).unwrap().server_cert(UnixTime::now()).unwrap();
        let certs = ReloadingCerts::new(CertSet::new([cert]).unwrap());
        let alpn = alpn.iter().map(|name| name.to_vec()).collect();
        server_config(certs, &ServerSettings { alpn, clients, ..ServerSettings::default() }).unwrap()
    }
}

/// How agents connect to the edge: with TLS, or in the clear.
#[derive(Clone, Default)]
pub(crate) struct Door(Option<(Arc<ClientConfig>, ServerName<'static>)>);

impl Door {
    /// Fails if the handshake does, which is the connector's.
    pub(crate) async fn connect(&self, core: &Core) -> Result<Connection, HandshakeError> {
        let socket = core.connect(&Address::Tcp(AGENTS_AT), SocketOptions::default()).await.expect("the edge listens");
        match &self.0 {
            Some((config, name)) => Connection::client(socket, config, name.clone(), pending()).await,
            None => Ok(Connection::plain(socket)),
        }
    }
}
