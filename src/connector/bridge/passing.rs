//! A call that came to the bridge while nothing was known of the server, and needs no translation: it is passed on unchanged.

use std::rc::Rc;
use std::time::Duration;

use futures_lite::future;

use crate::connector::bridge::agent_side::AgentSide;
use crate::connector::bridge::reply::Reply;
use crate::connector::upstream_stream::UpstreamStream;
use crate::engine::{ByteStream, Core, send_bytes};
use crate::exchange::{BodySource, ExchangeBuffers, ExchangeEnd, Http1Source, Intake, Piece};
use crate::upstream::UpstreamConnection;
use crate::wire::http1::{
    BodyDecoder, BodyEncoder, Framing, RequestEdits, RequestHead, ResponseEdits, ResponseHead, Version, write_request,
    write_response,
};

/// Passes on the call.
pub(super) async fn run(agent: &mut AgentSide<'_>) -> Result<(), ExchangeEnd> {
    let body = match agent.read_body().await? {
        Ok(body) => body,
        Err(reply) => return agent.send(reply).await,
    };
    let head = &agent.buffers.head;
    let framing = if body.is_empty() && head.framing() == Framing::None {
        Framing::None
    } else {
        Framing::Length(body.len() as u64)
    };
    let mut request = Vec::new();
    write_request(head, &RequestEdits { framing, drop_expect: true, ..RequestEdits::default() }, &mut request);
    request.extend_from_slice(&body);
    drop(body);
    let upstream = Rc::clone(agent.server.client.upstream());
    let Some(taken) = agent.while_connected(async { upstream.checkout().await }).await else {
        return Err(ExchangeEnd::Stream);
    };
    let connection = match taken {
        Ok(checkout) => checkout.connection,
        Err(error) => return agent.send(Reply::failed(&error.to_string(), b"null")).await,
    };
    let AgentSide { server, socket, buffers } = agent;
    let ExchangeBuffers { intake, head, .. } = &mut **buffers;
    let left = async {
        intake.ended(*socket).await;
        Err(ExchangeEnd::Stream)
    };
    match connection {
        UpstreamConnection::Http(connection) => {
            let carried = future::or(carry(&server.client.core, &connection, &request, head, *socket), left).await;
            match carried {
                Ok((true, idle)) => connection.give_back(idle),
                _ => connection.connection().abort(),
            }
            carried.map(|_| ())
        }
        UpstreamConnection::Http2(stream) => {
            let carried = future::or(carry(&server.client.core, &*stream, &request, head, *socket), left).await;
            if carried.is_err() {
                stream.abort();
            }
            carried.map(|_| ())
        }
    }
}

/// Carries one exchange; returns whether the connection can be kept, and for how long.
async fn carry<U: UpstreamStream>(
    core: &Core,
    upstream: &U,
    request: &[u8],
    head: &RequestHead,
    to: &impl ByteStream,
) -> Result<(bool, Option<Duration>), ExchangeEnd> {
    let stream = upstream.stream();
    let (mut intake, mut answer) = (Intake::default(), ResponseHead::new());
    send_bytes(stream, core.pool(), request).await.map_err(|_| ExchangeEnd::NoAnswer)?;
    loop {
        match intake.response_head(stream, &mut answer, head.method()).await {
            Ok(true) if answer.is_interim() => answer.clear(),
            Ok(true) => break,
            Ok(false) | Err(_) => return Err(ExchangeEnd::NoAnswer),
        }
    }
    let framing = answer.framing().toward(Version::Http11);
    let mut out = Vec::new();
    write_response(&answer, &ResponseEdits { framing, ..ResponseEdits::default() }, &mut out);
    send_bytes(to, core.pool(), &out).await?;
    let (mut decoder, mut encoder) = (BodyDecoder::new(answer.framing()), BodyEncoder::new(framing));
    let mut source = Http1Source::new(stream, &mut intake, &mut decoder);
    loop {
        match source.next().map_err(|_| ExchangeEnd::NoAnswer)? {
            Piece::Data(data) => {
                let wrap = encoder.data(data.len()).map_err(|_| ExchangeEnd::NoAnswer)?;
                let piece = [wrap.before.as_ref(), &data[..], wrap.after].concat();
                send_bytes(to, core.pool(), &piece).await?;
            }
            Piece::Wait => source.more().await.map_err(|_| ExchangeEnd::NoAnswer)?,
            Piece::End => break,
        }
    }
    out.clear();
    encoder.end(source.trailers(), &mut out).map_err(|_| ExchangeEnd::NoAnswer)?;
    send_bytes(to, core.pool(), &out).await?;
    let keeps = answer.keep_alive() && answer.framing() != Framing::UntilClose && !intake.has_rest();
    Ok((keeps, answer.idle_timeout()))
}
