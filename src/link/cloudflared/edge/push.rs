//! Ingress rules that the edge sends to a connector.

use std::future::poll_fn;
use std::rc::Rc;

use bytes::Bytes;
use h2::client::SendRequest;

use crate::http2::{ConnectionQueue, Content, SendPiece, StreamQueue};
use crate::wire::cloudflared::{PUSH_ANSWER_LEN_MAX, PushFault, push_body, push_request, read_push_answer};

/// The rule that a connector should have, and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Push {
    pub(super) version: i32,
    pub(super) service: Rc<str>,
}

/// Why a push did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PushError {
    #[error(transparent)]
    Fault(#[from] PushFault),
    #[error("the connection failed: {0}")]
    Http2(#[from] h2::Error),
}

/// Sends a rule, and waits until the connector has applied it.
pub(super) async fn push(
    send: SendRequest<SendPiece>,
    queue: &Rc<ConnectionQueue>,
    Push { version, service }: &Push,
) -> Result<(), PushError> {
    let body = push_body(*version, service);
    let mut send = send.ready().await?;
    let (response, mut stream) = send.send_request(push_request(&body), false)?;
    stream.send_data(SendPiece::new(Content::Bytes(Bytes::from(body)), &StreamQueue::new(queue)), true)?;
    let mut recv = response.await?.into_body();
    let mut answer = Vec::new();
    while let Some(data) = poll_fn(|cx| recv.poll_data(cx)).await {
        let data = data?;
        // A stream that has ended has nothing to release.
        let _ = recv.flow_control().release_capacity(data.len());
        answer.extend_from_slice(&data);
        if answer.len() > PUSH_ANSWER_LEN_MAX {
            return Err(PushFault::Malformed.into());
        }
    }
    Ok(read_push_answer(*version, &answer)?)
}
