//! The main task of one core of a connector: it opens links, handles messages, and drains.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::Clock;
use crate::connector::connector_core::ConnectorCore;
use crate::connector::message::{ConnectorCommand, ConnectorEvent, CoreMessage};
use crate::connector::report::ConnectorReport;
use crate::connector::shared::Connector;
use crate::connector::{cloudflared, enrol, links};
use crate::dial::Resolver;
use crate::engine::{Core, MailReceiver};
use crate::link::CloseReason;

/// How often a core that has child processes checks whether the other cores have drained.
const DRAINED_CHECK: Duration = Duration::from_millis(10);
/// How long links may take to send their last frame after the drain timeout.
const LINK_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

impl Connector {
    /// Runs one core of the connector until its drain is complete.
    pub async fn run(self: Arc<Connector>, core: Core, resolver: Resolver) {
        let Some(messages) = self.take_messages(core.id()) else { return };
        let core = Rc::new(ConnectorCore::new(core, self, resolver));
        core.run(messages).await;
        core.connector.send(ConnectorEvent::Ended(core.core.id()));
    }
}

impl ConnectorCore {
    async fn run(self: &Rc<ConnectorCore>, mut messages: MailReceiver<CoreMessage>) {
        self.upstreams.start_children();
        enrol::keep_certified(self);
        match &self.connector.settings.cloudflared {
            Some(dialect) => cloudflared::open_connections(self, dialect),
            None => links::open_links(self),
        }
        while !self.is_draining() {
            match messages.recv().await {
                Some(message) => self.handle(message),
                None => break,
            }
        }
        self.finish(messages).await;
    }

    /// Waits until calls in flight have finished, within the drain timeout, and ends the links.
    async fn finish(self: &Rc<ConnectorCore>, mut messages: MailReceiver<CoreMessage>) {
        self.links.drain();
        let core = Rc::clone(self);
        let reading = self.core.spawn_held(async move {
            while let Some(message) = messages.recv().await {
                core.handle(message);
            }
        });
        let (id, calls) = (self.core.id(), self.calls_open());
        tracing::info!(core = %id, calls, "draining: event streams end, other calls may finish");
        let (began, drain_timeout) = (self.core.now(), self.connector.settings.drain_timeout);
        if self.core.timeout(drain_timeout, self.links.all_ended()).await.is_err() {
            let calls = self.calls_open();
            tracing::warn!(core = %self.core.id(), calls, "drain timeout reached, open calls are cut");
            self.links.close(CloseReason::DrainTimeout);
            // A link that cannot send its last frame in time is dropped.
            let _ = self.core.timeout(LINK_CLOSE_TIMEOUT, self.links.all_ended()).await;
        }
        self.connector.on_drained();
        if self.upstreams.has_children() {
            // Calls of other cores may be with children of this one.
            let others = async {
                while !self.connector.is_drained() {
                    self.core.sleep(DRAINED_CHECK).await;
                }
            };
            let _ = self.core.timeout_at(began + drain_timeout, Box::pin(others)).await;
        }
        tracing::info!(core = %id, "drain ended");
        self.workers.close();
        self.upstreams.close_idle();
        drop(reading);
    }

    fn handle(self: &Rc<ConnectorCore>, message: CoreMessage) {
        match message {
            CoreMessage::Command(ConnectorCommand::Drain) => self.drain.raise(),
            // The requester may be gone before the reply.
            CoreMessage::Command(ConnectorCommand::Report(reply)) => drop(reply.send(self.report())),
            CoreMessage::Command(ConnectorCommand::Figures(index, reply)) => {
                let figures = self.figures.recorder.borrow().figures(index, self.core.now());
                drop(reply.send(figures));
            }
            CoreMessage::Command(ConnectorCommand::Calls(filter, reply)) => drop(reply.send(self.find_calls(&filter))),
            CoreMessage::MoreLinks if !self.is_draining() => links::open_links(self),
            CoreMessage::MoreLinks => {}
            CoreMessage::EdgeStatus(edge) => self.edges.on_status(edge),
            CoreMessage::RoutesChanged => {
                self.links.set_hosts(&self.connector.hosts());
                self.upstreams.start_children();
            }
        }
    }

    fn report(&self) -> ConnectorReport {
        ConnectorReport {
            core: self.core.id(),
            links: self.links.report(),
            upstreams: self.upstreams.report(),
            calls_open: self.calls_open(),
            sockets_open: self.core.open_sockets(),
            tasks_open: self.core.open_tasks(),
            pool: self.core.pool().usage(),
        }
    }
}
