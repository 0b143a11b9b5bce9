//! What the exchanges of a bridge share.

use std::rc::Rc;
use std::sync::Arc;

use crate::base::Budget;
use crate::connector::bridge::agent_session::AgentSessions;
use crate::connector::bridge::inner_client::InnerClient;
use crate::connector::bridge::parked::ParkedCalls;
use crate::connector::bridge::probe::ServerProbe;
use crate::connector::bridge::session_pool::SessionPool;
use crate::connector::shared::Counters;
use crate::upstream::KnownEras;

/// The most bytes of messages of agents that are held at one time.
const MEMORY_MAX: usize = 64 * 1024 * 1024;
/// The bytes of each message that do not count.
const MEMORY_FREE: usize = 64 * 1024;

/// The state of a bridge.
pub(super) struct BridgeState {
    pub(super) client: Rc<InnerClient>,
    pub(super) probe: ServerProbe,
    /// Sessions with the server, for agents without.
    pub(super) pool: Rc<SessionPool>,
    /// Calls that wait for input of their agents.
    pub(super) parked: ParkedCalls,
    /// Sessions of agents, with a server without.
    pub(super) agents: AgentSessions,
    /// Memory for messages of agents.
    pub(super) messages: Budget,
}

impl BridgeState {
    pub(super) fn new(client: InnerClient, eras: Arc<KnownEras>) -> BridgeState {
        let client = Rc::new(client);
        BridgeState {
            probe: ServerProbe::new(&client, eras),
            pool: SessionPool::new(&client),
            parked: ParkedCalls::default(),
            agents: AgentSessions::default(),
            messages: Budget::new(MEMORY_MAX, MEMORY_FREE),
            client,
        }
    }

    pub(super) fn counters(&self) -> &Counters {
        self.client.counters()
    }
}
