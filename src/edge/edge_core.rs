//! The state that the tasks of one core of an edge share.

use std::cell::{Cell, OnceCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use crate::base::Budget;
use crate::edge::bonds::Bonds;
use crate::edge::core_tables::CoreTables;
use crate::edge::drain::Drain;
use crate::edge::figures::CallFigures;
use crate::edge::gate::Gate;
use crate::edge::hedged_routes::HedgedRoutes;
use crate::edge::link_table::LinkTable;
use crate::edge::message::EdgeEvent;
use crate::edge::sessions::IdleSessions;
use crate::edge::shared::{Counters, Edge};
use crate::engine::{Core, MailSender};
use crate::exchange::{DRAIN_STALL_MAX, ExchangeState};
use crate::link::CarrierStream;
use crate::policy::Source;
use crate::quic::QuicEndpoint;
use crate::route::Route;
use crate::serve::{CallerTokens, CoreLimits, Entry, ReadAheadLimits, enter, list_memory, needs_place};
use crate::wire::http1::RequestHead;

/// The memory in bytes for incomplete request heads and TLS handshakes of one core. Those that need more are refused.
const GREETING_MEMORY_MAX: usize = 16 * 1024 * 1024;
/// Bytes that each of them may use in any case, so that a few long ones do not make ordinary ones fail.
const GREETING_LEN_FREE: usize = 4 * 1024;

/// The divisor of the buffer memory: this share may hold the starts of bodies whose label is needed and not known yet.
const READ_AHEAD_SHARE: usize = 8;
/// The divisor of the buffer memory: this share may hold copies of bodies for retries, for as long as their calls last.
/// They must not use the memory for reading ahead, without which a call is refused.
const KEPT_BODIES_SHARE: usize = 16;
/// Bytes that each body may use of either in any case.
const READ_AHEAD_LEN_FREE: usize = 4 * 1024;
/// The divisor of the buffer memory: this share may be granted as windows to HTTP/2 connections, in addition to the
/// minimum of each.
const HTTP2_WINDOWS_SHARE: usize = 4;
/// The smallest window of an HTTP/2 connection (RFC 9113, section 6.9.2), in bytes.
pub(super) const HTTP2_WINDOW_MIN: u32 = 64 * 1024 - 1;

/// The parts of one core. A task that needs one part borrows that part, not the core.
pub(super) struct EdgeCore {
    pub(super) core: Core,
    pub(super) edge: Arc<Edge>,
    pub(super) tables: CoreTables,
    pub(super) links: LinkTable,
    pub(super) limits: CoreLimits,
    pub(super) hedged_routes: HedgedRoutes,
    pub(super) bonds: Bonds,
    pub(super) figures: CallFigures,
    pub(super) gate: Gate,
    pub(super) tokens: CallerTokens,
    /// Memory for incomplete request heads and TLS handshakes.
    pub(super) greetings: Budget,
    /// Memory for windows of HTTP/2 connections.
    pub(super) http2_windows: Budget,
    /// Memory for bodies that are read ahead, before their calls are opened.
    read_ahead: Budget,
    /// Memory for bodies that are kept for retries.
    pub(super) kept_bodies: Budget,
    /// Memory for lists that are filtered by policies.
    pub(super) lists: Budget,
    pub(super) idle_sessions: Rc<IdleSessions>,
    pub(super) drain: Drain,
    /// The number of connectors that are not registered yet.
    pub(super) unregistered: Cell<usize>,
    /// The socket for QUIC, if connectors may use it.
    pub(super) quic: OnceCell<QuicEndpoint>,
}

impl EdgeCore {
    pub(super) fn new(core: Core, edge: Arc<Edge>, events: MailSender<EdgeEvent>) -> EdgeCore {
        let figures = CallFigures::new(&edge.settings, &edge.learned, &edge.breakers);
        EdgeCore {
            tables: CoreTables::new(&edge),
            links: LinkTable::new(&core, &edge, events),
            limits: CoreLimits::default(),
            hedged_routes: HedgedRoutes::default(),
            bonds: Bonds::new(&edge),
            gate: Gate::new(&core, &edge, &figures.calls),
            figures,
            tokens: CallerTokens::new(&edge.session_owners),
            greetings: Budget::new(GREETING_MEMORY_MAX, GREETING_LEN_FREE),
            http2_windows: Budget::new(core.pool().usage().bytes_max / HTTP2_WINDOWS_SHARE, HTTP2_WINDOW_MIN as usize),
            lists: list_memory(core.pool().usage().bytes_max),
            kept_bodies: Budget::new(core.pool().usage().bytes_max / KEPT_BODIES_SHARE, READ_AHEAD_LEN_FREE),
            read_ahead: Budget::new(core.pool().usage().bytes_max / READ_AHEAD_SHARE, READ_AHEAD_LEN_FREE),
            idle_sessions: Rc::default(),
            drain: Drain::default(),
            unregistered: Cell::new(0),
            quic: OnceCell::new(),
            core,
            edge,
        }
    }

    /// Whether the core is draining.
    pub(super) fn is_draining(&self) -> bool {
        self.drain.has_begun()
    }

    /// Gives a call a place among its route's calls in flight, if it needs one and one is free.
    pub(super) fn enter_route(&self, request: &RequestHead, route: &Route, source: &Source) -> Entry {
        let terms = route.own.concurrency_terms(&self.edge.settings.concurrency);
        if !needs_place(request, &terms) {
            return Entry::Enters(None);
        }
        let Some(of) = self.limits.of(&self.edge.limits, &route.name, self.tables.version()) else {
            Counters::add(&self.edge.counters.calls_unlimited);
            return Entry::Enters(None);
        };
        enter(of, &self.core, source.address, &terms)
    }

    /// The limits for reading a body until the label is known.
    pub(super) fn read_ahead_limits(&self) -> ReadAheadLimits<'_> {
        ReadAheadLimits { memory: &self.read_ahead, timeout: self.edge.settings.header_timeout }
    }

    /// How long an agent may stop reading what waits for it.
    pub(super) fn write_timeout(&self) -> Duration {
        let limit = self.edge.settings.write_timeout;
        if self.is_draining() { limit.min(DRAIN_STALL_MAX) } else { limit }
    }

    /// The state of an exchange over `stream`, without its agent, which has accepted `taken` bytes since the last
    /// query.
    pub(super) fn exchange_state(&self, stream: &CarrierStream, taken: u64, cx: &mut Context<'_>) -> ExchangeState {
        stream.reader_took(taken);
        match stream.failure(cx) {
            Some(error) => ExchangeState::Ended(error),
            None if self.is_draining() || stream.holds_up_drain() => ExchangeState::Draining,
            None => ExchangeState::Running,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::tests::Fixture;
    use crate::policy::Admission;

    /// A call whose body cannot be read is refused, but a copy for a retry is optional.
    #[test]
    fn kept_bodies_take_no_memory_from_those_that_have_to_be_read() {
        const LEN: usize = 60_000;
        let fixture = Fixture::new(Admission::default());
        let core = EdgeCore::new(fixture.core.clone(), Arc::clone(&fixture.edge), fixture.events.clone());
        let mut kept = Vec::new();
        loop {
            let mut share = core.kept_bodies.share();
            if !share.set(LEN) {
                break;
            }
            kept.push(share);
        }
        assert!(!kept.is_empty(), "some are kept");
        assert!(core.read_ahead_limits().memory.share().set(LEN));
    }
}
