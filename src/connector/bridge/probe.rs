//! Finding out which eras a server speaks, with the credentials of the agent who asks.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::base::Clock;
use crate::bridge::{ServerEra, ServerOffer, ServerSession, SessionTransport, own_discover, own_initialize};
use crate::connector::bridge::inner_client::{InnerClient, InnerRequest, modern_fields};
use crate::connector::bridge::mail::Mail;
use crate::connector::shared::Counters;
use crate::engine::Signal;
use crate::upstream::KnownEras;
use crate::wire::mcp::{Era, PROTOCOL_VERSION, SESSION_ID};

/// How long a probe may take. After that, calls are passed on unchanged.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// What is known of the server, and the probes that are under way.
pub(super) struct ServerProbe {
    client: Rc<InnerClient>,
    pub(super) eras: Arc<KnownEras>,
    /// What the server without sessions offers, as it has said last.
    pub(super) offer: RefCell<Option<ServerOffer>>,
    running: RefCell<Vec<(Vec<u8>, Era)>>,
    ended: Signal,
}

/// A probe that is under way, until it is dropped.
struct Running<'a> {
    probe: &'a ServerProbe,
    what: (Vec<u8>, Era),
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.probe.running.borrow_mut().retain(|running| *running != self.what);
        self.probe.ended.raise();
    }
}

impl ServerProbe {
    pub(super) fn new(client: &Rc<InnerClient>, eras: Arc<KnownEras>) -> ServerProbe {
        let client = Rc::clone(client);
        ServerProbe { client, eras, offer: RefCell::default(), running: RefCell::default(), ended: Signal::default() }
    }

    /// Probes the server at a path for an agent of this era, with the agent's credentials in `kept`, unless that is just being done;
    /// waits for the end.
    pub(super) async fn run(&self, path: &[u8], kept: &[u8], agent: Era) {
        let what = (path.to_vec(), agent);
        let seen = self.ended.count();
        if self.running.borrow().contains(&what) {
            // One probe ends in a bounded time, and calls that find no verdict then are passed on unchanged.
            return self.ended.after(seen).await;
        }
        self.running.borrow_mut().push(what.clone());
        let _running = Running { probe: self, what };
        let probing = self.find_out(path, kept, agent);
        let found = self.client.core.timeout(PROBE_TIMEOUT, probing).await.unwrap_or(ServerEra::Unknown);
        let counters = self.client.counters();
        Counters::add(match found {
            ServerEra::Same => &counters.bridge_probes_same,
            ServerEra::Other(_) => &counters.bridge_probes_other,
            ServerEra::Unknown => &counters.bridge_probes_unknown,
        });
        self.eras.lock().on_probed(path, agent, found, self.client.core.now());
    }

    async fn find_out(&self, path: &[u8], kept: &[u8], agent: Era) -> ServerEra {
        let streamable = ServerEra::Other(SessionTransport::Streamable);
        match agent {
            Era::Stateless => match self.speaks_stateless(path, kept).await {
                Spoken::Yes => ServerEra::Same,
                Spoken::Untold => ServerEra::Unknown,
                Spoken::No => match self.speaks_sessions(path, kept).await {
                    Spoken::Yes => streamable,
                    Spoken::Untold => ServerEra::Unknown,
                    Spoken::No if self.speaks_sse(path, kept).await => ServerEra::Other(SessionTransport::HttpSse),
                    Spoken::No => ServerEra::Unknown,
                },
            },
            Era::Sessions => match self.speaks_sessions(path, kept).await {
                Spoken::Yes => ServerEra::Same,
                Spoken::Untold => ServerEra::Unknown,
                Spoken::No => match self.speaks_stateless(path, kept).await {
                    Spoken::Yes => streamable,
                    Spoken::No | Spoken::Untold => ServerEra::Unknown,
                },
            },
        }
    }

    async fn speaks_stateless(&self, path: &[u8], kept: &[u8]) -> Spoken {
        let request = InnerRequest::post(path, kept, &modern_fields("server/discover"), &own_discover());
        match self.client.ask(request).await {
            Ok((head, message)) if head.status == 200 => {
                match message.and_then(|message| ServerOffer::read(&message)) {
                    Some(offer) => {
                        *self.offer.borrow_mut() = Some(offer);
                        Spoken::Yes
                    }
                    None => Spoken::No,
                }
            }
            Ok((head, _)) => refused(head.status),
            Err(_) => Spoken::Untold,
        }
    }

    async fn speaks_sessions(&self, path: &[u8], kept: &[u8]) -> Spoken {
        match self.client.ask(InnerRequest::post(path, kept, "", &own_initialize())).await {
            Ok((head, message)) if head.status == 200 => {
                if let Some(id) = &head.session {
                    let own = format!("{PROTOCOL_VERSION}: 2025-06-18\r\n{SESSION_ID}: {id}\r\n");
                    let _ = self.client.ask(InnerRequest::delete(path, kept, &own)).await;
                }
                let is_session = message.is_some_and(|message| ServerSession::read(&message).is_some());
                if is_session { Spoken::Yes } else { Spoken::No }
            }
            Ok((head, _)) => refused(head.status),
            Err(_) => Spoken::Untold,
        }
    }

    /// Whether a GET opens a stream whose first event names an endpoint, as in 2024-11-05.
    async fn speaks_sse(&self, path: &[u8], kept: &[u8]) -> bool {
        let call = self.client.start(InnerRequest::get(path, kept, ""), Rc::default());
        loop {
            match call.inbox.next().await {
                Mail::Head(head) if head.status == 200 && head.is_events => {}
                Mail::Event(kind, _) if kind == "endpoint" => return true,
                _ => return false,
            }
        }
    }
}

/// What a server answers to one probe.
enum Spoken {
    Yes,
    /// It refuses as a server does that does not speak this era.
    No,
    /// It wants another credential, or is not there.
    Untold,
}

/// What a refusal says of the era. Some servers answer 406, 415 or 422 to what they do not expect.
fn refused(status: u16) -> Spoken {
    match status {
        400 | 404 | 405 | 406 | 415 | 422 | 501 => Spoken::No,
        _ => Spoken::Untold,
    }
}
