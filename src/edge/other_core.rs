//! Calls over HTTP/2 for which another core has the link. A connection with several calls is not handed over: the call
//! is sent to the other core as HTTP/1.1, over a connection between the two cores.

use std::net::SocketAddr;
use std::task::Context;
use std::time::Duration;

use crate::base::{Budget, CoreId, Time};
use crate::edge::agent_request::AgentRequest;
use crate::edge::caller::Caller;
use crate::edge::edge_core::EdgeCore;
use crate::edge::front::Front;
use crate::edge::message::{AgentOrigin, CoreMessage};
use crate::edge::moves::Moved;
use crate::engine::{Core, Detached};
use crate::exchange::{ExchangeState, TimeoutStream};
use crate::latency::Outcome;
use crate::route::Scheme;
use crate::serve::{Http2Request, NextHop, NextHopWork, RelayHooks, Relayed, Request, ResponseExtras, relay};
use crate::wire::http1::{RequestEdits, ResponseHead};

/// Lets `target` serve a request of an agent at `peer`. The request is checked, routed and counted there.
pub(super) async fn carry(
    caller: &Caller,
    peer: Option<SocketAddr>,
    request: &mut Http2Request<'_>,
    target: CoreId,
    moved: Moved,
) {
    let core = &*caller.core;
    // For the other core, this is a connection without TLS.
    let front = Front { is_tls: Some(caller.scheme(request, None) == Scheme::Https), ..caller.front };
    let origin = AgentOrigin { front, ..caller.origin(peer) };
    let ends = Detached::pair();
    let adopted = match ends {
        Ok([near, far]) => {
            let message = CoreMessage::Agent(Box::new(far.into()), origin, moved);
            core.hand_over(target, message).await;
            core.core.adopt(near, core.edge.settings.agent_socket()).await
        }
        Err(error) => Err(error),
    };
    let socket = match adopted {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(%error, "cannot forward the call to the core that has its link");
            return request.stream().refuse();
        }
    };
    let state =
        |_, _: &mut Context<'_>| if core.is_draining() { ExchangeState::Draining } else { ExchangeState::Running };
    let to_agent = TimeoutStream::new(request.stream(), &core.edge.settings.write_timeout, state);
    let mut work = NextHopWork::default();
    let relayed = {
        let incoming = request.incoming(&to_agent);
        let next_hop = NextHop::new(&socket, &socket, &mut work, incoming.head, RequestEdits::default());
        relay(incoming, next_hop, &core.core, &mut Hooks(core)).await
    };
    request.end_response();
    let Relayed { result, keeps, .. } = relayed;
    if result.is_err() || request.delivered(&to_agent, keeps, core).await != Outcome::Ok {
        request.stream().abort();
    }
}

/// Hooks without effect: the other core does the work.
struct Hooks<'a>(&'a EdgeCore);

impl RelayHooks for Hooks<'_> {
    fn on_request_head_queued(&mut self) {}

    fn received_at(&self) -> Time {
        self.0.core.turn_time()
    }

    fn on_response_head(&mut self, _: &ResponseHead, _: Time) -> ResponseExtras<'_> {
        ResponseExtras { may_keep: true, server_timing: None, public: None, is_metadata: false }
    }

    fn on_event_stream(&mut self, _: bool) {}

    fn streams_end(&self) -> impl Future<Output = ()> {
        std::future::pending()
    }

    fn core(&self) -> &Core {
        &self.0.core
    }

    fn lists(&self) -> &Budget {
        &self.0.lists
    }

    fn sse_keepalive(&self) -> Option<Duration> {
        None
    }
}
