//! The control stream of a connection, at the edge.

use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use futures_lite::future;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};

use crate::engine::Signal;
use crate::http2::{ConnectionQueue, Content, SendPiece, StreamQueue};
use crate::link::cloudflared::edge::ended::RegistrationFault;
use crate::wire::cloudflared::{ControlRequest, ControlServer, RegistrationAnswer};

/// A control stream that was opened.
pub(super) struct ControlStream {
    response: Option<ResponseFuture>,
    recv: Option<RecvStream>,
    send: SendStream<SendPiece>,
    queue: Rc<StreamQueue>,
    server: ControlServer,
}

impl ControlStream {
    pub(super) fn new(
        (response, send): (ResponseFuture, SendStream<SendPiece>),
        queue: &Rc<ConnectionQueue>,
    ) -> ControlStream {
        let (queue, server) = (StreamQueue::new(queue), ControlServer::default());
        ControlStream { response: Some(response), recv: None, send, queue, server }
    }

    /// Exchanges messages until the connector ends the stream. `answer` is asked for the answer to the registration when
    /// `answered` was raised. After a refusal there is nothing more to say.
    pub(super) async fn run(
        mut self,
        answered: &Signal,
        answer: impl Fn() -> Option<RegistrationAnswer>,
        mut on_request: impl FnMut(ControlRequest),
    ) -> Result<(), RegistrationFault> {
        let (mut seen, mut is_refused) = (0, false);
        loop {
            let output = self.server.take_output();
            if !output.is_empty() {
                let piece = SendPiece::new(Content::Bytes(Bytes::from(output)), &self.queue);
                self.send.send_data(piece, is_refused).map_err(|error| of_http2(&error))?;
            }
            if is_refused {
                while self.receive().await?.is_some() {}
                return Ok(());
            }
            let receiving = async { Some(self.receive().await) };
            let answering = async {
                answered.after(seen).await;
                None
            };
            let Some(received) = future::or(receiving, answering).await else {
                seen = answered.count();
                if let Some(answer) = answer() {
                    is_refused = matches!(answer, RegistrationAnswer::Refused(_));
                    self.server.answer(&answer);
                }
                continue;
            };
            let Some(data) = received? else { return Ok(()) };
            self.server.receive(&data, &mut on_request)?;
        }
    }

    /// The next bytes from the connector; `None` at their end.
    async fn receive(&mut self) -> Result<Option<Bytes>, RegistrationFault> {
        if let Some(response) = &mut self.response {
            let (head, recv) = response.await.map_err(|error| of_http2(&error))?.into_parts();
            if !head.status.is_success() {
                return Err(RegistrationFault::Refused(head.status.as_u16()));
            }
            (self.response, self.recv) = (None, Some(recv));
        }
        let Some(recv) = &mut self.recv else { return Ok(None) };
        let data = poll_fn(|cx| recv.poll_data(cx)).await.transpose().map_err(|error| of_http2(&error))?;
        // A stream that has ended has nothing to release.
        data.iter().for_each(|data| drop(recv.flow_control().release_capacity(data.len())));
        Ok(data)
    }
}

fn of_http2(error: &h2::Error) -> RegistrationFault {
    RegistrationFault::Http2(error.to_string())
}
