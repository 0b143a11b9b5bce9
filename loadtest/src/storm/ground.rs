//! The system under a storm: edge and connector as separate processes, and upstreams behind them.

use std::collections::BTreeMap;

use adit::engine::ladder::DriverChoice;

use super::sides::Side;
use super::{PROBE_HOST, StormError};
use crate::compare::bench::Bench;
use crate::compare::cpus::CpuList;
use crate::compare::peer::Peer;
use crate::compare::site::{Credentials, HOST};
use crate::compare::tunnel::{Setting, Tunnel};
use crate::interrupt::Interrupt;
use crate::load::{Call, CallKind, Load, Target};
use crate::serve::{ServeSettings, Server};

/// The peer file with which the tunnel is started.
const SITE: &str = include_str!("site.toml");

/// One of the two processes, by its index in the peer's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Edge = 0,
    Connector = 1,
}

impl Part {
    /// Its name, as in the peer's file.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Part::Edge => "edge",
            Part::Connector => "connector",
        }
    }
}

/// The processes and servers of a storm, ended on drop.
pub(crate) struct Ground {
    tunnel: Tunnel,
    ready: Load,
    target: Target,
    // The upstreams outlive the tunnel: fields are dropped in this order.
    _upstream: Server,
    _probe_upstream: Server,
    _credentials: Credentials,
}

impl Ground {
    /// Starts everything, able to carry this many calls in flight, and waits until calls succeed.
    pub(crate) fn start(
        bench: &Bench,
        driver: DriverChoice,
        tls: bool,
        streams: usize,
        interrupt: &Interrupt,
    ) -> Result<Ground, StormError> {
        // An upstream without enough buffers would be the bottleneck.
        let served = ServeSettings { buffer_memory: super::buffer_memory(streams), ..ServeSettings::default() };
        let (upstream, probe_upstream) = (Server::start(served)?, Server::start(ServeSettings::default())?);
        let mut peer =
            Peer { name: "adit".to_owned(), values: BTreeMap::new(), file: toml::from_str(SITE).expect("embedded") };
        peer.file.agent_tls = tls;
        let word = match driver {
            DriverChoice::Auto => "auto",
            DriverChoice::Uring => "uring",
            DriverChoice::Epoll => "epoll",
        };
        let tls = if tls { "yes" } else { "no" };
        let probe = probe_upstream.address().to_string();
        let values = [("driver", word.to_owned()), ("tls", tls.to_owned()), ("probe_upstream", probe)];
        peer.values.extend(values.map(|(name, value)| (name.to_owned(), value)));
        let programs = bench.programs.of(&peer).map_err(|missing| StormError::Program(missing.to_string()))?;
        let credentials = Credentials::new()?;
        let cpus = bench.layout.peer.as_ref();
        let setting = Setting {
            launcher: &bench.this,
            credentials: &credentials,
            cpus,
            cpu_count: cpus.map_or(1, CpuList::count),
            streams,
            interrupt,
        };
        let mut ready = Load::of(format!("http://{HOST}/mcp").parse::<Target>().expect("a valid URL"));
        ready.call = Call { kind: CallKind::McpStateless, payload: 0, ..Call::default() };
        let tunnel = Tunnel::start(&peer, &programs, upstream.address(), &ready, &setting)?;
        let target = tunnel.target();
        Ok(Ground {
            tunnel,
            ready,
            target,
            _upstream: upstream,
            _probe_upstream: probe_upstream,
            _credentials: credentials,
        })
    }

    /// The target that the agents of the storm call.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The target of the probe: the same edge, connector and link, with its own idle upstream.
    pub(crate) fn probe_target(&self) -> Target {
        let mut target = self.target.clone();
        target.host = Some(PROBE_HOST.to_owned());
        target.server_name = Some(HOST.to_owned());
        target
    }

    /// The two processes of the tunnel, edge and connector.
    pub(crate) fn sides(&self) -> Vec<Side> {
        let side = |(name, pid): (&str, u32)| Side {
            name: name.to_owned(),
            pid,
            admin: self.tunnel.port(&format!("{name}_admin")),
        };
        self.tunnel.parts().map(side).collect()
    }

    /// Checks that both still run.
    pub(crate) fn check(&mut self) -> Result<(), StormError> {
        Ok(self.tunnel.check()?)
    }

    /// Kills and restarts one of them, and waits until calls succeed again.
    pub(crate) fn restart(&mut self, part: Part, interrupt: &Interrupt) -> Result<(), StormError> {
        let side = part as usize;
        self.tunnel.kill(side);
        self.tunnel.launch(side)?;
        self.tunnel.until_it_listens(side)?;
        Ok(self.tunnel.until_ready(&self.ready, interrupt)?)
    }
}
