//! The bridge of a route on one core: it decides which calls go to the bridge, and starts its server on the first such call.

use std::sync::Arc;

use crate::base::{Budget, Time};
use crate::bridge::{BridgeChoice, era_of_agent, is_of_bridged_session, path_of};
use crate::connector::bridge::server::{self, ServerMakings};
use crate::connector::shared::Connector;
use crate::dial::Resolver;
use crate::engine::Core;
use crate::upstream::{EraBridge, Upstream};
use crate::wire::http1::RequestHead;
use crate::wire::mcp::Era;

/// What a bridge is made of on a core.
pub(in crate::connector) struct BridgeMakings<'a> {
    pub(in crate::connector) core: &'a Core,
    pub(in crate::connector) connector: &'a Arc<Connector>,
    pub(in crate::connector) resolver: &'a Resolver,
    pub(in crate::connector) windows: &'a Budget,
}

/// The way to the bridge of a route.
pub(in crate::connector) struct RouteBridge {
    bridge: Arc<EraBridge>,
    upstream: Upstream,
}

impl RouteBridge {
    /// The way to a bridge. If no core serves it, this one does from now on.
    pub(in crate::connector) fn new(bridge: &Arc<EraBridge>, makings: &BridgeMakings<'_>) -> RouteBridge {
        let BridgeMakings { core, connector, resolver, windows } = *makings;
        if let Some(connections) = bridge.serve_on(core) {
            let inner = Upstream::new(core, bridge.settings().clone(), resolver.clone(), windows);
            let makings = ServerMakings {
                core: core.clone(),
                connector: Arc::clone(connector),
                eras: Arc::clone(bridge.eras()),
                upstream: inner,
            };
            core.spawn(server::run(makings, connections));
        }
        let upstream = Upstream::new(core, bridge.bridged_settings(), resolver.clone(), windows);
        RouteBridge { bridge: Arc::clone(bridge), upstream }
    }

    /// The way to the bridge, if the request has to take it.
    pub(in crate::connector) fn way_for(&self, head: &RequestHead, now: Time) -> Option<&Upstream> {
        let agent = era_of_agent(head)?;
        let takes_bridge = (agent == Era::Sessions && is_of_bridged_session(head))
            || self.bridge.eras().lock().choose(path_of(head), agent, now) != BridgeChoice::Direct;
        takes_bridge.then_some(&self.upstream)
    }

    /// Notes an answer: a server of another era refuses openings.
    pub(in crate::connector) fn on_answer(&self, head: &RequestHead, status: u16) {
        if let Some(agent) = era_of_agent(head).filter(|_| Era::is_refusal(status)) {
            self.bridge.eras().lock().on_refused(path_of(head), agent);
        }
    }

    /// Forgets what is known of the server, which has come back.
    pub(in crate::connector) fn forget(&self) {
        self.bridge.eras().lock().forget();
    }
}
