//! The server of the bridge of a route, on the core that has taken it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::Clock;
use crate::bridge::{BridgeChoice, era_of_agent, is_of_bridged_session, path_of};
use crate::connector::bridge::agent_side::AgentSide;
use crate::connector::bridge::inner_client::{InnerClient, kept_fields};
use crate::connector::bridge::state::BridgeState;
use crate::connector::bridge::{legacy_agent, modern_agent, passing};
use crate::connector::shared::{Connector, Counters};
use crate::engine::{ByteStream, Core, LocalServer, Socket, Task};
use crate::exchange::{ExchangeBuffers, ExchangeEnd};
use crate::upstream::{KnownEras, Upstream};
use crate::wire::http1::RequestHead;
use crate::wire::mcp::Era;

/// How often what is idle or has waited too long is looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(15);

/// What a server is made of.
pub(super) struct ServerMakings {
    pub(super) core: Core,
    pub(super) connector: Arc<Connector>,
    pub(super) eras: Arc<KnownEras>,
    pub(super) upstream: Upstream,
}

/// Serves connections until nobody can open another.
pub(super) async fn run(makings: ServerMakings, mut arriving: LocalServer) {
    let ServerMakings { core, connector, eras, upstream } = makings;
    let client = InnerClient::new(core.clone(), connector, upstream);
    let server = Rc::new(BridgeState::new(client, eras));
    let sweeping = core.spawn_held(sweep(Rc::clone(&server)));
    let mut connections = Vec::<Task<()>>::new();
    while let Some(socket) = arriving.accept().await {
        connections.retain(|task| !task.is_finished());
        connections.push(core.spawn_held(serve(Rc::clone(&server), socket)));
    }
    drop((sweeping, connections));
    server.parked.clear();
    server.pool.clear();
}

async fn sweep(server: Rc<BridgeState>) {
    loop {
        server.client.core.sleep(SWEEP_EVERY).await;
        let now = server.client.core.now();
        server.parked.sweep(now);
        server.pool.sweep(now);
        server.agents.sweep(now);
    }
}

/// Serves one connection to its end.
async fn serve(server: Rc<BridgeState>, socket: Socket) {
    let mut buffers = ExchangeBuffers::default();
    while buffers.next_head(&socket, &server.client.core).await {
        let mut agent = AgentSide { server: &server, socket: &socket, buffers: &mut buffers };
        match exchange(&mut agent).await {
            Ok(()) if buffers.keeps_alive() => {}
            Ok(()) | Err(ExchangeEnd::Stream) => return,
            Err(ExchangeEnd::NoAnswer) => return socket.abort(),
        }
    }
}

async fn exchange(agent: &mut AgentSide<'_>) -> Result<(), ExchangeEnd> {
    let server = agent.server;
    let head = &agent.buffers.head;
    let Some(era) = era_of_agent(head) else { return passing::run(agent).await };
    if era == Era::Sessions && is_of_bridged_session(head) {
        return Box::pin(legacy_agent::run(agent)).await;
    }
    let choice = match choose(server, head, era) {
        BridgeChoice::Probe => {
            let (path, kept) = (path_of(head).to_vec(), kept_fields(head));
            let Some(()) = agent.while_connected(Box::pin(server.probe.run(&path, &kept, era))).await else {
                return Err(ExchangeEnd::Stream);
            };
            choose(server, &agent.buffers.head, era)
        }
        choice => choice,
    };
    match (choice, era) {
        (BridgeChoice::Direct | BridgeChoice::Probe, _) => Box::pin(passing::run(agent)).await,
        (BridgeChoice::Translate(transport), Era::Stateless) => {
            Counters::add(&server.counters().bridge_calls_to_sessions);
            Box::pin(modern_agent::run(agent, transport)).await
        }
        (BridgeChoice::Translate(_), Era::Sessions) => {
            Counters::add(&server.counters().bridge_calls_to_stateless);
            Box::pin(legacy_agent::run(agent)).await
        }
    }
}

fn choose(server: &BridgeState, head: &RequestHead, era: Era) -> BridgeChoice {
    server.probe.eras.lock().choose(path_of(head), era, server.client.core.now())
}
