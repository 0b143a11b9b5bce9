//! The main task of one core of an edge: it listens, handles messages, and drains.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::Clock;
use crate::edge::edge_core::EdgeCore;
use crate::edge::message::{CoreMessage, EdgeCommand, EdgeEvent};
use crate::edge::report::CoreReport;
use crate::edge::shared::Edge;
use crate::edge::usage::UsageLine;
use crate::edge::{agents, cloudflared, connectors, passthrough, quic};
use crate::engine::driver::Address;
use crate::engine::{Core, Listener, MailReceiver};
use crate::latency::{CallFilter, CallLine, FoundCall};
use crate::quic::QuicEndpoint;

impl Edge {
    /// Runs one core of the edge until its drain is complete.
    pub async fn run(self: Arc<Edge>, core: Core) {
        let Some(slot) = self.take_slot(core.id()) else { return };
        let (id, events) = (core.id(), slot.events.clone());
        let core = Rc::new(EdgeCore::new(core, self, slot.events));
        // The control thread reads until the last core has ended.
        let event = match core.listen() {
            Ok(listening) => {
                let _ = events.send(EdgeEvent::Listening(id));
                core.run(slot.messages, listening).await;
                EdgeEvent::Ended(id)
            }
            Err(why) => EdgeEvent::Failed(id, why),
        };
        let _ = events.send(event);
    }
}

/// The sockets at which a core waits for peers.
struct Listening {
    agents: Listener,
    connectors: Listener,
    cloudflared: Option<Listener>,
    quic: Option<QuicEndpoint>,
}

impl EdgeCore {
    fn listen(self: &Rc<EdgeCore>) -> Result<Listening, String> {
        let settings = &self.edge.settings;
        let listen = |what: &str, address: SocketAddr| {
            let listener = self.core.listen(&Address::Tcp(address));
            listener.map_err(|error| format!("cannot listen for {what} at {address}: {error}"))
        };
        Ok(Listening {
            agents: listen("agents", settings.agents_listen)?,
            connectors: listen("connectors", settings.connectors_listen)?,
            cloudflared: match &settings.cloudflared {
                Some(at) => Some(listen("connectors of cloudflared", at.address)?),
                None => None,
            },
            quic: quic::open(self)?,
        })
    }

    async fn run(self: &Rc<EdgeCore>, mut messages: MailReceiver<CoreMessage>, listening: Listening) {
        let Listening { agents, connectors, cloudflared, quic } = listening;
        // It serves links that exist, so that it runs to the end of the drain.
        let _quic = quic.map(|endpoint| {
            let _ = self.quic.set(endpoint.clone());
            self.core.spawn_held(quic::accept(Rc::clone(self), endpoint))
        });
        let agents = self.core.spawn_held(agents::accept(Rc::clone(self), agents));
        let connectors = self.core.spawn_held(connectors::accept(Rc::clone(self), connectors));
        let cloudflared = cloudflared.zip(self.edge.settings.cloudflared.as_ref()).map(|(listener, at)| {
            self.core.spawn_held(cloudflared::accept(Rc::clone(self), listener, Arc::clone(&at.tls)))
        });
        let entry = self.edge.settings.local_links.as_ref().and_then(|cores| cores.get(usize::from(self.core.id().0)));
        let local = entry.and_then(|entry| entry.serve_on(&self.core));
        let local = local.map(|server| self.core.spawn_held(connectors::accept_local(Rc::clone(self), server)));
        while !self.is_draining() {
            match messages.recv().await {
                Some(message) => self.handle(message),
                None => break,
            }
        }
        drop((agents, connectors, cloudflared, local));
        self.finish(messages).await;
    }

    /// Waits until calls in flight have finished, within the drain timeout, and ends the links.
    async fn finish(self: &Rc<EdgeCore>, mut messages: MailReceiver<CoreMessage>) {
        self.links.drain();
        let core = Rc::clone(self);
        // Other cores may still hand over connections, and the control thread asks for reports.
        let reading = self.core.spawn_held(async move {
            while let Some(message) = messages.recv().await {
                core.handle(message);
            }
        });
        let (id, calls, agents) = (self.core.id(), self.drain.calls_open(), self.drain.agents_open());
        tracing::info!(core = %id, calls, agents, "draining: event streams end, other calls may finish");
        let drain_timeout = self.edge.settings.drain_timeout;
        if self.core.timeout(drain_timeout, self.drain.all_ended()).await.is_err() {
            let calls = self.drain.calls_open();
            tracing::warn!(core = %self.core.id(), calls, "drain timeout reached, open calls are cut");
        }
        tracing::info!(core = %id, "drain ended");
        drop(reading);
        self.links.close();
        // One more turn, in which the links can send their last frame.
        self.core.turn_end().await;
        self.core.sleep(Duration::from_millis(1)).await;
        // No core is asked for its usage any more, so it is left in the edge.
        let mut last = self.take_usage();
        while !last.is_empty() {
            self.edge.leave_usage(last);
            last = self.take_usage();
        }
    }

    fn handle(self: &Rc<EdgeCore>, message: CoreMessage) {
        match message {
            CoreMessage::Command(command) => self.run_command(command),
            CoreMessage::HostsChanged(tunnel) => {
                let tunnels = self.links.send_hosts(&self.tables.get(), tunnel.as_ref());
                tunnels.iter().for_each(|tunnel| self.review_hosts_soon(tunnel));
            }
            CoreMessage::Link(arrived) => connectors::adopt(self, *arrived),
            CoreMessage::CloseLink(link) => self.links.close_one(link),
            CoreMessage::Replaced(by) => self.links.drain_replaced(&by),
            CoreMessage::Datagram(datagram) => {
                if let Some(quic) = self.quic.get() {
                    quic.receive_moved(&datagram);
                }
            }
            CoreMessage::Agent(connection, origin, moves) => agents::adopt(self, *connection, origin, moves),
            CoreMessage::Passing(connection, peer, moves) => passthrough::adopt(self, *connection, peer, moves),
        }
    }

    /// Executes a command. The requester may be gone before the reply.
    fn run_command(&self, command: EdgeCommand) {
        match command {
            EdgeCommand::Drain => self.drain.begin(),
            EdgeCommand::Report(reply) => drop(reply.send(self.report())),
            EdgeCommand::Figures(index, reply) => {
                let figures = self.figures.recorder.borrow().figures(index, self.core.now());
                drop(reply.send(figures));
            }
            EdgeCommand::Calls(filter, reply) => drop(reply.send(self.find_calls(&filter))),
            EdgeCommand::Review(reply) => drop(reply.send(self.links.review())),
            EdgeCommand::Usage(reply) => drop(reply.send(self.take_usage())),
        }
    }

    fn find_calls(&self, filter: &CallFilter) -> Vec<CallLine> {
        let (calls, recorder) = (self.figures.calls.borrow(), self.figures.recorder.borrow());
        let tables = self.tables.get();
        let line = |FoundCall { record, age, label }: FoundCall<'_>| {
            let host = record.host.as_str().parse().ok();
            let route = host.and_then(|host| tables.routes.lookup(&host));
            CallLine {
                record: *record,
                age,
                label: label.cloned(),
                route: route.map(|route| route.name.to_string()),
                tunnel: route.map(|route| route.tunnel.to_string()),
                rule: route.zip(record.policy).and_then(|(route, mark)| {
                    let name = route.own.policy.as_ref()?.rule_name(mark.policy, mark.rule()?)?;
                    Some(name.to_owned())
                }),
            }
        };
        calls.find(filter, &recorder, self.core.now()).into_iter().map(line).collect()
    }

    fn take_usage(&self) -> Vec<UsageLine> {
        self.links.take_usage(&self.figures.recorder.borrow())
    }

    fn report(&self) -> CoreReport {
        CoreReport {
            core: self.core.id(),
            links: self.links.report(),
            agents_open: self.drain.agents_open(),
            calls_open: self.drain.calls_open(),
            sockets_open: self.core.open_sockets(),
            tasks_open: self.core.open_tasks(),
            pool: self.core.pool().usage(),
            last_good_call: self.figures.since_good_call(self.core.now()),
        }
    }
}
