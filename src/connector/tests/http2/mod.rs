//! An upstream that speaks HTTP/2.

mod calls;
mod demanded;
mod failures;
mod frames;
mod lost_hosts;
mod raw;
mod small_frames;

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::{HeaderMap, Request, Response};

use super::bed::{Bed, EdgeSide, Peer, Script, UPSTREAM, UPSTREAM_PORT, script, tables_at};
use crate::base::Time;
use crate::engine::{ByteStream, Core};
use crate::http2::{Io, Watch};
use crate::upstream::UpstreamSettings;

const GET: &str = "GET /mcp HTTP/1.1\r\nHost: mcp.test\r\n\r\n";
const POST: &str = "POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: 4\r\n\r\nbody";

/// The server's side has no watcher.
struct Unwatched;

impl Watch for Unwatched {
    fn feed(&self, _: &[u8], _: Time) {}
}

/// One request that reached the upstream.
pub(super) struct Asked {
    request: Request<RecvStream>,
    pub(super) respond: SendResponse<Bytes>,
    pub(super) core: Core,
}

impl Asked {
    fn path(&self) -> String {
        self.request.uri().path().to_owned()
    }

    /// Sends the whole answer at once.
    pub(super) fn answer(mut self, body: &'static str) {
        let mut send = self.respond.send_response(Response::new(()), false).unwrap();
        send.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
    }

    /// The body of the request, and its trailers.
    pub(super) async fn body(&mut self) -> Result<(Vec<u8>, HeaderMap), h2::Error> {
        let (recv, mut body) = (self.request.body_mut(), Vec::new());
        while let Some(data) = recv.data().await.transpose()? {
            recv.flow_control().release_capacity(data.len()).unwrap();
            body.extend_from_slice(&data);
        }
        Ok((body, recv.trailers().await?.unwrap_or_default()))
    }
}

/// The connections on which requests came, with their paths.
pub(super) type Seen = Rc<RefCell<Vec<(usize, String)>>>;

/// A server that gives each request to `serve`, in its own task.
pub(super) fn server<F: Future<Output = ()> + 'static>(
    builder: Builder,
    serve: impl Fn(Asked) -> F + 'static,
) -> (Script, Seen) {
    let (seen, serve) = (Seen::default(), Rc::new(serve));
    let note = Rc::clone(&seen);
    let play = script(move |peer: Peer| {
        let (builder, serve, note) = (builder.clone(), Rc::clone(&serve), Rc::clone(&note));
        async move {
            let Peer { talk, nth, core } = peer;
            let io = Io::of_client(&core, Rc::new(talk.stream), None, Rc::new(Unwatched));
            let Ok(mut connection) = builder.handshake::<_, Bytes>(io).await else { return };
            while let Some(Ok((request, respond))) = connection.accept().await {
                note.borrow_mut().push((nth, request.uri().path().to_owned()));
                core.spawn(serve(Asked { request, respond, core: core.clone() }));
            }
        }
    });
    (play, seen)
}

/// A bed with a route to `play` over HTTP/2, and other settings.
fn bed_with(play: Script, set: impl Fn(&mut UpstreamSettings)) -> Bed {
    let bed = Bed::new(play);
    bed.role.reload(tables_at(&format!("h2c://{UPSTREAM}:{UPSTREAM_PORT}"), set));
    bed
}

pub(super) fn bed(play: Script) -> Bed {
    bed_with(play, |_| {})
}

/// Calls this path; returns the whole answer.
async fn get(edge: &EdgeSide, path: &str) -> String {
    let mut call = edge.call(format!("GET {path} HTTP/1.1\r\nHost: mcp.test\r\n\r\n")).await;
    call.stream.finish();
    call.whole().await
}

fn connections_open(bed: &mut Bed) -> usize {
    bed.report().upstreams[0].connections_open
}
