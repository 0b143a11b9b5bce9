//! The caller of a connection, and the check of its requests.

use std::net::SocketAddr;
use std::rc::Rc;

use crate::base::Traffic;
use crate::edge::edge_core::EdgeCore;
use crate::edge::front::Front;
use crate::edge::gate::PeerInfo;
use crate::edge::message::AgentOrigin;
use crate::edge::settings::EdgeTables;
use crate::edge::source_permits::ConnectionPermit;
use crate::exchange::{Refusal, requested_host};
use crate::identity::CallerCertificate;
use crate::policy::Source;
use crate::route::{Hostname, Route, Scheme};
use crate::serve::Request;

/// The caller of a connection: its address, front and permit.
pub(super) struct Caller {
    pub(super) core: Rc<EdgeCore>,
    /// The agent's address, as text.
    pub(super) peer: String,
    /// The agent's source, for admission rules.
    pub(super) source: Source,
    /// The proxy in front of the edge, if any.
    pub(super) front: Front,
    /// Its permit among the connections of its source, if those are counted.
    pub(super) permit: Option<ConnectionPermit>,
    /// Whether its connection is TLS.
    pub(super) is_tls: bool,
    /// Its client certificate, if it was asked for one.
    certificate: Option<Box<CallerCertificate>>,
}

/// A request that is admitted.
pub(super) struct Admitted<'t> {
    /// The called host, read once for the whole call.
    pub(super) host: Hostname,
    pub(super) route: &'t Route,
}

impl Caller {
    pub(super) fn new(core: &Rc<EdgeCore>, peer_info: &mut PeerInfo, is_tls: bool) -> Caller {
        let peer = peer_info.peer.map(|peer| peer.ip().to_canonical().to_string()).unwrap_or_default();
        Caller {
            core: Rc::clone(core),
            peer,
            source: peer_info.source,
            front: peer_info.front,
            permit: peer_info.permit.take(),
            is_tls,
            certificate: None,
        }
    }

    /// Sets its client certificate, if it was asked for one.
    pub(super) fn set_certificate(&mut self, certificate: CallerCertificate) {
        if matches!(certificate, CallerCertificate::Asked(_)) {
            self.certificate = Some(Box::new(certificate));
        }
    }

    /// Its client certificate, as far as it is known.
    pub(super) fn certificate(&self) -> &CallerCertificate {
        match &self.certificate {
            Some(known) => known,
            None if self.is_tls => CallerCertificate::NOT_ASKED,
            None => CallerCertificate::UNKNOWN,
        }
    }

    /// What another core needs to know about the agent at `peer` to take over its connection.
    pub(super) fn origin(&self, peer: Option<SocketAddr>) -> AgentOrigin {
        AgentOrigin { peer, front: self.front, certificate: self.certificate().clone() }
    }

    /// The scheme that the agent used; `route` is that of the host, if there is one.
    pub(super) fn scheme(&self, request: &impl Request, route: Option<&Route>) -> Scheme {
        let own = route.and_then(|route| route.own.public.as_ref());
        let public = own.or(self.core.edge.settings.public.as_ref());
        self.front.scheme(public, self.is_tls, request.head())
    }

    /// The host and the route of a request that is admitted. Sets the scheme of the request in any case.
    ///
    /// # Errors
    ///
    /// If the request is refused.
    pub(super) fn admit<'t>(
        &self,
        request: &mut impl Request,
        tables: &'t EdgeTables,
    ) -> Result<Admitted<'t>, Refusal> {
        let host = requested_host(request.head());
        let route = host.ok().and_then(|host| tables.routes.lookup(&host));
        let scheme = self.scheme(request, route);
        request.set_scheme(scheme);
        let host = host?;
        if !self.core.edge.settings.origins.allow(request.head(), scheme) {
            return Err(Refusal::Origin);
        }
        let route = route.ok_or(Refusal::UnknownHost)?;
        let verdict = tables.admission.judge_call(&self.source, &route.tunnel);
        if !self.core.gate.admits_call(&self.source, verdict) {
            return Err(Refusal::Network);
        }
        if route.traffic == Traffic::Passthrough { Err(Refusal::Passthrough) } else { Ok(Admitted { host, route }) }
    }
}
