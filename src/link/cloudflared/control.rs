//! The control stream of a connection, at the connector.

use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use futures_lite::future;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};

use crate::engine::Signal;
use crate::http2::{ConnectionQueue, Content, SendPiece, StreamQueue};
use crate::link::cloudflared::ended::RegisterError;
use crate::wire::cloudflared::{ControlClient, ControlEvent};

/// Runs a control stream until the edge ends it. Leaves the edge when `leave` is raised.
pub(super) async fn run(
    (recv, mut respond): (RecvStream, SendResponse<SendPiece>),
    client: ControlClient,
    queue: &Rc<ConnectionQueue>,
    leave: &Signal,
    mut on_event: impl FnMut(ControlEvent),
) -> Result<(), RegisterError> {
    let mut response = Response::new(());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let send = respond.send_response(response, false).map_err(|error| RegisterError::Http2(error.to_string()))?;
    let mut stream = ControlStream { recv, send, queue: StreamQueue::new(queue), client };
    let ended = stream.exchange(leave, &mut on_event).await;
    let last = stream.client.end();
    // The edge may have ended the stream already.
    let _ = stream.send(last, true);
    ended
}

struct ControlStream {
    recv: RecvStream,
    send: SendStream<SendPiece>,
    queue: Rc<StreamQueue>,
    client: ControlClient,
}

impl ControlStream {
    /// Exchanges messages until the edge ends the stream, or has taken note that the connector leaves.
    async fn exchange(&mut self, leave: &Signal, on_event: &mut impl FnMut(ControlEvent)) -> Result<(), RegisterError> {
        let mut is_leaving = false;
        loop {
            let output = self.client.take_output();
            if !output.is_empty() {
                self.send(output, false)?;
            }
            let recv = &mut self.recv;
            let receiving = async { Some(poll_fn(|cx| recv.poll_data(cx)).await) };
            let leaving = async {
                leave.after(u64::from(is_leaving)).await;
                None
            };
            let Some(received) = future::or(receiving, leaving).await else {
                is_leaving = true;
                self.client.unregister();
                continue;
            };
            let data = match received {
                Some(Ok(data)) => data,
                Some(Err(error)) => return Err(RegisterError::Http2(error.to_string())),
                None => return Ok(()),
            };
            // A stream that has ended has nothing to release.
            let _ = self.recv.flow_control().release_capacity(data.len());
            let mut has_left = false;
            self.client.receive(&data, |event| {
                has_left |= event == ControlEvent::Unregistered;
                on_event(event);
            })?;
            if has_left {
                return Ok(());
            }
        }
    }

    fn send(&mut self, bytes: Vec<u8>, is_end: bool) -> Result<(), RegisterError> {
        let piece = SendPiece::new(Content::Bytes(Bytes::from(bytes)), &self.queue);
        self.send.send_data(piece, is_end).map_err(|error| RegisterError::Http2(error.to_string()))
    }
}
