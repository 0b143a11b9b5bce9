//! Who calls, and what it may call.

use std::rc::Rc;

use crate::base::Traffic;
use crate::edge::edge_core::EdgeCore;
use crate::edge::front::Front;
use crate::edge::gate::PeerInfo;
use crate::edge::settings::EdgeTables;
use crate::edge::source_permits::ConnectionPermit;
use crate::exchange::Refusal;
use crate::policy::Source;
use crate::route::{Route, Scheme};
use crate::serve::Request;

/// Who calls on a connection, from where, and how it counts.
pub(super) struct Caller {
    pub(super) core: Rc<EdgeCore>,
    /// The agent's address, as text.
    pub(super) peer: String,
    /// The same, as admission rules see it.
    pub(super) source: Source,
    /// What stands in front of the edge.
    pub(super) front: Front,
    /// Its permit among the connections of its source, if those are counted.
    pub(super) permit: Option<ConnectionPermit>,
    /// Whether its connection is TLS.
    pub(super) is_tls: bool,
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
        }
    }

    /// The scheme by which the agent called; `route` is that of the host, if there is one.
    pub(super) fn scheme(&self, request: &impl Request, route: Option<&Route>) -> Scheme {
        let own = route.and_then(|route| route.own.public.as_ref());
        let public = own.or(self.core.edge.settings.public.as_ref());
        self.front.scheme(public, self.is_tls, request.head())
    }

    /// The route of a request, if the request may be passed on.
    pub(super) fn admit<'t>(
        &self,
        request: &impl Request,
        tables: &EdgeTables,
        route: Option<&'t Route>,
    ) -> Result<&'t Route, Refusal> {
        if !self.core.edge.settings.origins.allow(request.head(), self.scheme(request, route)) {
            return Err(Refusal::Origin);
        }
        let route = route.ok_or(Refusal::UnknownHost)?;
        let verdict = tables.admission.judge_call(&self.source, &route.tunnel);
        if !self.core.gate.admits_call(&self.source, verdict) {
            return Err(Refusal::Network);
        }
        if route.traffic == Traffic::Passthrough { Err(Refusal::Passthrough) } else { Ok(route) }
    }
}
