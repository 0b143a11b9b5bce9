use std::pin::Pin;
use std::task::{Context, Poll, ready};

use h2::client::ResponseFuture;

use crate::engine::{Lease, Pool};
use crate::http2::{BegunRequest, ExpectedAnswer, ReceivedHead, ReceivedText};
use crate::wire::http1::Method;
use crate::wire::http2::write_response_head;

/// The response of an exchange: received as HTTP/2, written as HTTP/1.1.
#[derive(Default)]
pub(super) struct Incoming {
    head: AnswerHead,
    text: ReceivedText,
}

/// The head of a response, and where the server has ended it.
struct AnswerHead {
    /// None while the request is not sent, and after the head.
    response: Option<ResponseFuture>,
    /// Detects where the server has ended the response.
    answer: Option<ExpectedAnswer>,
    method: Method,
}

impl Default for AnswerHead {
    fn default() -> AnswerHead {
        AnswerHead { response: None, answer: None, method: Method::Other }
    }
}

impl Incoming {
    /// The request was sent, and this is the response to it.
    pub(super) fn begin(&mut self, begun: BegunRequest, answer: ExpectedAnswer) {
        self.head = AnswerHead { response: Some(begun.response), answer: Some(answer), method: begun.method };
    }

    /// The next bytes of the response; `None` at its end.
    pub(super) fn poll_recv(&mut self, pool: &Pool, cx: &mut Context<'_>) -> Poll<Result<Option<Lease>, h2::Error>> {
        self.text.poll_recv(&mut self.head, pool, cx)
    }

    /// Drops what was received and not read. The stream is reset together with its sending half.
    pub(super) fn clear(&mut self) {
        self.head = AnswerHead::default();
        self.text.clear();
    }
}

impl ReceivedHead for AnswerHead {
    fn poll_head(&mut self, to: &mut ReceivedText, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let Some(response) = &mut self.response else { return Poll::Pending };
        if let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
            let (head, ()) = interim?.into_parts();
            write_response_head(head.status, &head.headers, self.method, false, to.text());
            return Poll::Ready(Ok(()));
        }
        let (head, recv) = ready!(Pin::new(response).poll(cx))?.into_parts();
        self.response = None;
        let has_body = !recv.is_end_stream() && self.method != Method::Head;
        let is_chunked = write_response_head(head.status, &head.headers, self.method, has_body, to.text());
        to.begin_body(recv, is_chunked);
        Poll::Ready(Ok(()))
    }

    fn on_read(&self, len: usize) {
        self.answer.iter().for_each(|answer| answer.on_read(len));
    }

    /// A server that has sent its whole response may say that it needs no more of the request (RFC 9113, section 8.1).
    fn is_end(&self, error: &h2::Error) -> bool {
        error.is_reset()
            && error.is_remote()
            && error.reason() == Some(h2::Reason::NO_ERROR)
            && self.answer.as_ref().is_some_and(ExpectedAnswer::is_whole)
    }
}
