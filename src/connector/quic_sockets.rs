//! The UDP sockets of a connector's core, opened when they are first needed.

use std::cell::RefCell;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::connector::quic_watch::PING_AFTER;
use crate::engine::{Core, Task};
use crate::quic::{QuicEndpoint, QuicError, QuicRoles};
use crate::wire::quic::{QuicKeys, QuicSettings};

/// One socket for each version of IP. All QUIC links of the core share them.
#[derive(Default)]
pub(super) struct QuicSockets {
    v4: RefCell<Option<Running>>,
    v6: RefCell<Option<Running>>,
}

struct Running {
    endpoint: QuicEndpoint,
    _run: Task<()>,
}

impl QuicSockets {
    /// The socket for reaching `peer`.
    pub(super) fn for_peer(&self, core: &Core, peer: SocketAddr, keys: &QuicKeys) -> Result<QuicEndpoint, QuicError> {
        let (slot, any) = match peer {
            SocketAddr::V4(_) => (&self.v4, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
            SocketAddr::V6(_) => (&self.v6, SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))),
        };
        let mut slot = slot.borrow_mut();
        if let Some(running) = &*slot {
            return Ok(running.endpoint.clone());
        }
        let roles = QuicRoles {
            admits: Box::new(|_| false),
            server_tls: Box::new(|| None),
            on_stranger: Box::new(|_| {}),
            // No core of a connector shares its port with another.
            elsewhere: None,
        };
        let settings = QuicSettings { keep_alive: PING_AFTER, ..QuicSettings::default() };
        let endpoint = QuicEndpoint::bind(core, any, settings, keys, roles)?;
        let run = core.spawn_held(endpoint.clone().run());
        *slot = Some(Running { endpoint: endpoint.clone(), _run: run });
        Ok(endpoint)
    }
}
