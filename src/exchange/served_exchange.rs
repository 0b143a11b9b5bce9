//! Exchanges that this process answers itself: in front of a child that speaks stdio, and in the era bridge.

use futures_lite::future;

use crate::base::Share;
use crate::engine::{Core, Socket, StreamError, send_bytes};
use crate::exchange::{BodySource, Http1Source, Intake, Piece};
use crate::wire::http1::{BodyDecoder, CONTINUE, RequestHead};

/// The state of a connection between its exchanges, and the head of the one that was begun.
#[derive(Default)]
pub struct ExchangeBuffers {
    /// What has arrived and was not parsed.
    pub intake: Intake,
    /// The head of the request.
    pub head: RequestHead,
    /// How much of the body is missing.
    pub decoder: BodyDecoder,
}

/// Why a connection ends within an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeEnd {
    /// The connection has failed, or the other side has closed it.
    Stream,
    /// There is no answer, and the response that has begun has no place for an error.
    NoAnswer,
}

/// Why a body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyRefusal {
    /// It is longer than allowed.
    TooLong,
    /// Other bodies use the memory that there is for all.
    Crowded,
}

impl From<StreamError> for ExchangeEnd {
    fn from(_: StreamError) -> ExchangeEnd {
        ExchangeEnd::Stream
    }
}

impl ExchangeBuffers {
    /// Reads the head of the next request. Returns false if there is none.
    pub async fn next_head(&mut self, socket: &Socket, core: &Core) -> bool {
        self.head.clear();
        let read = self.intake.request_head_within(socket, &mut self.head, core, |_| true).await;
        let is_read = matches!(read, Ok(Some(_)));
        if is_read {
            self.decoder.restart(self.head.framing());
        }
        is_read
    }

    /// Whether another request can follow on the connection.
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        self.head.keep_alive() && self.decoder.is_done()
    }

    /// Reads the body, up to `len_max` bytes, which `share` counts. The rest of a body that is refused is read and dropped, so that
    /// the refusal arrives.
    ///
    /// # Errors
    ///
    /// If the connection fails.
    pub async fn read_body(
        &mut self,
        socket: &Socket,
        core: &Core,
        (len_max, share): (usize, &mut Share),
    ) -> Result<Result<Vec<u8>, BodyRefusal>, ExchangeEnd> {
        if self.head.expects_continue() {
            send_bytes(socket, core.pool(), CONTINUE).await?;
        }
        let (mut source, mut body) = (Http1Source::new(socket, &mut self.intake, &mut self.decoder), Ok(Vec::new()));
        loop {
            match source.next().map_err(|_| ExchangeEnd::Stream)? {
                Piece::Data(data) => {
                    let Ok(read) = &mut body else { continue };
                    let len = Vec::len(read) + data.len();
                    if len <= len_max && share.set(len) {
                        read.extend_from_slice(&data);
                    } else {
                        body = Err(if len > len_max { BodyRefusal::TooLong } else { BodyRefusal::Crowded });
                        share.clear();
                    }
                }
                Piece::Wait => source.more().await?,
                Piece::End => return Ok(body),
            }
        }
    }

    /// Waits for `what`; none if the other side closes the connection first.
    pub async fn while_connected<T>(&mut self, socket: &Socket, what: impl Future<Output = T>) -> Option<T> {
        let intake = &mut self.intake;
        let left = async {
            intake.ended(socket).await;
            None
        };
        future::or(async { Some(what.await) }, left).await
    }
}
