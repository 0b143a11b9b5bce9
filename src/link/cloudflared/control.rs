//! The control stream of a connection, at the connector.

use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use futures_lite::future;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};

use crate::engine::{ByteStream, LARGE_LEN, Signal};
use crate::http2::{ConnectionQueue, Content, SendPiece, StreamQueue};
use crate::link::cloudflared::ended::RegisterError;
use crate::quic::QuicStream;
use crate::wire::cloudflared::{ControlClient, ControlEvent};

/// The bytes of a control stream, on the transport of its connection.
pub(super) trait ControlBytes {
    /// The next bytes; `None` when the edge has ended the stream.
    async fn recv(&mut self) -> Result<Option<Bytes>, RegisterError>;

    fn send(&mut self, bytes: Vec<u8>, is_end: bool) -> Result<(), RegisterError>;
}

/// A control stream over HTTP/2: a request of the edge, and its answer.
pub(super) struct Http2Control {
    recv: RecvStream,
    send: SendStream<SendPiece>,
    queue: Rc<StreamQueue>,
}

impl Http2Control {
    /// Answers the edge's request.
    pub(super) fn begin(
        (recv, mut respond): (RecvStream, SendResponse<SendPiece>),
        queue: &Rc<ConnectionQueue>,
    ) -> Result<Http2Control, RegisterError> {
        let mut response = Response::new(());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        let send = respond.send_response(response, false).map_err(|error| RegisterError::Http2(error.to_string()))?;
        Ok(Http2Control { recv, send, queue: StreamQueue::new(queue) })
    }
}

impl ControlBytes for Http2Control {
    async fn recv(&mut self) -> Result<Option<Bytes>, RegisterError> {
        match poll_fn(|cx| self.recv.poll_data(cx)).await {
            Some(Ok(data)) => {
                // A stream that has ended has nothing to release.
                let _ = self.recv.flow_control().release_capacity(data.len());
                Ok(Some(data))
            }
            Some(Err(error)) => Err(RegisterError::Http2(error.to_string())),
            None => Ok(None),
        }
    }

    fn send(&mut self, bytes: Vec<u8>, is_end: bool) -> Result<(), RegisterError> {
        let piece = SendPiece::new(Content::Bytes(Bytes::from(bytes)), &self.queue);
        self.send.send_data(piece, is_end).map_err(|error| RegisterError::Http2(error.to_string()))
    }
}

/// The first stream of a connection over QUIC.
impl ControlBytes for QuicStream {
    async fn recv(&mut self) -> Result<Option<Bytes>, RegisterError> {
        poll_fn(|cx| self.poll_bytes(LARGE_LEN, cx)).await.map_err(|error| RegisterError::Quic(error.to_string()))
    }

    fn send(&mut self, bytes: Vec<u8>, is_end: bool) -> Result<(), RegisterError> {
        self.send_bytes(bytes).map_err(|error| RegisterError::Quic(error.to_string()))?;
        if is_end {
            self.finish();
        }
        Ok(())
    }
}

/// Runs a control stream until the edge ends it. Leaves the edge when `leave` is raised.
pub(super) async fn run(
    mut stream: impl ControlBytes,
    mut client: ControlClient,
    leave: &Signal,
    mut on_event: impl FnMut(ControlEvent),
) -> Result<(), RegisterError> {
    let ended = exchange(&mut stream, &mut client, leave, &mut on_event).await;
    // The edge may have ended the stream already.
    let _ = stream.send(client.end(), true);
    ended
}

/// Exchanges messages until the edge ends the stream, or has taken note that the connector leaves.
async fn exchange(
    stream: &mut impl ControlBytes,
    client: &mut ControlClient,
    leave: &Signal,
    on_event: &mut impl FnMut(ControlEvent),
) -> Result<(), RegisterError> {
    let mut is_leaving = false;
    loop {
        let output = client.take_output();
        if !output.is_empty() {
            stream.send(output, false)?;
        }
        let receiving = async { Some(stream.recv().await) };
        let leaving = async {
            leave.after(u64::from(is_leaving)).await;
            None
        };
        let Some(received) = future::or(receiving, leaving).await else {
            is_leaving = true;
            client.unregister();
            continue;
        };
        let Some(data) = received? else { return Ok(()) };
        let mut has_left = false;
        client.receive(&data, |event| {
            has_left |= event == ControlEvent::Unregistered;
            on_event(event);
        })?;
        if has_left {
            return Ok(());
        }
    }
}
