//! The environment in which peers are started, for commands that test each separately.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::comparison::look_for;
use super::cpus::{CpuList, Layout};
use super::peer::Peer;
use super::programs::Programs;
use super::report::{PeerNote, State};
use super::site::{Credentials, SiteError};
use super::tunnel::{Setting, Tunnel, TunnelError};
use super::upstream::{Upstream, UpstreamError};
use crate::load::Load;
use crate::run::Interrupt;

/// The environment in which peers are tested: programs, CPUs, keys.
pub(crate) struct Bench {
    /// The search path for the programs of peers.
    pub(crate) programs: Programs,
    /// The CPUs on which each process may run.
    pub(crate) layout: Layout,
    /// The path of this program.
    pub(crate) this: PathBuf,
}

/// A peer that can be run, with its programs.
pub(crate) type Runnable = (Peer, BTreeMap<String, PathBuf>);

impl Bench {
    /// The peers that can be run on this machine, and notes on the others.
    pub(crate) fn look_for(&self, peers: &[Peer]) -> (Vec<Runnable>, Vec<PeerNote>) {
        let (mut runnable, mut missing) = (Vec::new(), Vec::new());
        for peer in peers {
            match look_for(peer, &self.programs) {
                (note, programs) if note.state == State::Measured => runnable.push((peer.clone(), programs)),
                (note, _) => missing.push(note),
            }
        }
        (runnable, missing)
    }

    /// Keys for all peers.
    ///
    /// # Errors
    ///
    /// If they cannot be created.
    pub(crate) fn credentials(&self) -> Result<Credentials, SiteError> {
        Credentials::new()
    }

    /// Starts an upstream with additional flags of `serve`.
    ///
    /// # Errors
    ///
    /// If it does not listen.
    pub(crate) fn upstream(&self, flags: &[&str]) -> Result<Upstream, UpstreamError> {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Upstream::start(&self.this, self.layout.upstream().as_ref(), &flags)
    }

    /// Starts a peer in front of an upstream, able to carry this many calls in flight, and waits until calls of `load`
    /// succeed through it.
    ///
    /// # Errors
    ///
    /// If no call succeeds.
    pub(crate) fn tunnel(
        &self,
        (peer, programs): &Runnable,
        upstream: &Upstream,
        credentials: &Credentials,
        streams: usize,
        load: &Load,
        interrupt: &Interrupt,
    ) -> Result<Tunnel, TunnelError> {
        let cpus = self.layout.peer.as_ref();
        let cpu_count =
            cpus.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), CpuList::count);
        let setting = Setting { launcher: &self.this, credentials, cpus, cpu_count, streams, interrupt };
        Tunnel::start(peer, programs, upstream.address(), load, &setting)
    }
}
