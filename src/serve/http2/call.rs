use std::rc::Rc;

use h2::server::SendResponse;
use h2::{Reason, RecvStream};

use crate::base::Time;
use crate::engine::Core;
use crate::http2::{SendPiece, StreamQueue};
use crate::serve::http2::connection::Shared;
use crate::serve::http2::request::{Http2Request, Http2Terms};
use crate::serve::http2::rest::discard_rest;
use crate::serve::http2::stream::Http2Stream;
use crate::serve::request::Request;
use crate::wire::http1::{Cors, HeadError};

/// A request that was received and waits to be served. It counts as open until it is dropped.
pub struct Http2Call {
    request: http::Request<RecvStream>,
    respond: SendResponse<SendPiece>,
    core: Core,
    began: Time,
    open: Open,
}

/// Counts a request as open until it is dropped.
struct Open(Rc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.end_call();
    }
}

impl Http2Call {
    pub(super) fn new(
        core: &Core,
        request: http::Request<RecvStream>,
        respond: SendResponse<SendPiece>,
        shared: &Rc<Shared>,
    ) -> Http2Call {
        shared.begin_call();
        let open = Open(Rc::clone(shared));
        Http2Call { request, respond, core: core.clone(), began: core.turn_time(), open }
    }

    /// Resets the stream of a request that was not processed: the caller may retry it.
    pub fn refuse(mut self) {
        self.respond.send_reset(Reason::REFUSED_STREAM);
    }

    /// Serves the request with `serve`. If its head is malformed, refuses it and calls `on_refused`.
    pub async fn serve(
        self,
        terms: Http2Terms<'_>,
        on_refused: impl FnOnce(HeadError),
        serve: impl AsyncFnOnce(&mut Http2Request<'_>),
    ) {
        let Http2Call { request, respond, core, began, open } = self;
        let (parts, recv) = request.into_parts();
        let has_body = !recv.is_end_stream();
        let stream = Http2Stream::new(&core, recv, respond, StreamQueue::new(open.0.queue()));
        let mut request = Http2Request::new(&stream, began, terms);
        let head = request.read_head(&parts, has_body);
        drop(parts);
        match head {
            Ok(()) => serve(&mut request).await,
            Err(error) => {
                on_refused(error);
                request.respond(|cors: Option<Cors<'_>>, out| error.write_answer(cors, &[], out)).await;
            }
        }
        drop(request);
        if stream.was_given_up() {
            open.0.count_reset(core.turn_time());
        } else if let Some(recv) = stream.into_answered() {
            discard_rest(&core, recv, &open.0);
        }
    }
}
