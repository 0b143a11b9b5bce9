//! What peers are started with, where each is tested for itself.

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

/// The place in which peers are tested: programs, CPUs, keys.
pub(crate) struct Bench {
    /// Where the programs of the peers are looked for.
    pub(crate) programs: Programs,
    /// Which CPUs each process may run on.
    pub(crate) layout: Layout,
    /// This program, as it can be started.
    pub(crate) this: PathBuf,
}

/// A peer that can be run, with its programs.
pub(crate) type Runnable = (Peer, BTreeMap<String, PathBuf>);

impl Bench {
    /// The peers that can be run here; and what each is of the others.
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
    /// They cannot be made.
    pub(crate) fn credentials(&self) -> Result<Credentials, SiteError> {
        Credentials::new()
    }

    /// Starts an upstream with more flags of `serve`.
    ///
    /// # Errors
    ///
    /// It does not listen.
    pub(crate) fn upstream(&self, flags: &[&str]) -> Result<Upstream, UpstreamError> {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Upstream::start(&self.this, self.layout.upstream().as_ref(), &flags)
    }

    /// Starts a peer in front of an upstream, able to carry so many calls at one time, and waits until calls of `load` go
    /// through it.
    ///
    /// # Errors
    ///
    /// They do not.
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
