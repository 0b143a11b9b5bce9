//! A connection to an edge over QUIC, at the connector: its control stream, and the streams that the edge opens.

use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future;
use http::StatusCode;
use serde_json::{Value, json};

use crate::engine::{ByteStream, LARGE_LEN};
use crate::link::close_reason::CloseReason;
use crate::link::cloudflared::connection::{CloudflaredLink, CloudflaredPush, CloudflaredTerms};
use crate::link::cloudflared::ended::{CloudflaredEnded, RegisterError};
use crate::link::cloudflared::quic_call::QuicCall;
use crate::link::cloudflared::stream::CloudflaredStream;
use crate::quic::{QuicConnection, QuicStream, QuicStreams};
use crate::wire::cloudflared::{
    ConnectionType, ControlClient, PushServer, PushedRules, QuicStreamFault, QuicStreamKind, quic_stream_kind,
    read_quic_request, write_own_quic_answer,
};
use crate::wire::quic::ConnectionError;

/// How long the edge may take to send the start of a stream, and a whole push.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the edge may take to close a connection on which nothing is left, and to take the last bytes of a stream.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The start of a stream of the edge.
enum Started {
    Call(Box<QuicCall>),
    /// A call that this connector does not carry, or cannot read.
    Refused(QuicStream, StatusCode),
    /// A remote procedure call, with the first bytes of its messages.
    Rpc(QuicStream, Vec<u8>),
}

impl CloudflaredLink {
    /// Serves the connection until it has ended.
    pub async fn run_quic(&self, connection: Rc<QuicConnection>, terms: CloudflaredTerms) -> CloudflaredEnded {
        let streams = QuicStreams::new(self.core(), connection);
        self.use_quic(&streams);
        let ended = self.serve_quic(&streams, terms).await;
        self.end(ended);
        streams.close();
        ended
    }

    async fn serve_quic(&self, streams: &QuicStreams, terms: CloudflaredTerms) -> CloudflaredEnded {
        let Some(control) = streams.open() else { return CloudflaredEnded::Lost };
        let limit = terms.register_timeout;
        let client = ControlClient::new(&terms.registration, terms.config);
        let _control = self.core().spawn_held(self.clone().run_control(Ok(control), client));
        let running = async { ended_of(&streams.run().await) };
        let accepting = async {
            while let Some(stream) = streams.accept().await {
                let link = self.clone();
                self.core().spawn(async move { link.begin_stream(stream).await });
            }
            pending().await
        };
        let registering = async {
            if self.core().timeout(limit, self.registered()).await.is_err() {
                self.answer(Err(RegisterError::Timeout(limit)));
                return CloudflaredEnded::Silent;
            }
            pending().await
        };
        let closing = async {
            let reason = self.closed_for().await;
            if reason == CloseReason::Ended {
                // The edge may still take the last answers, and closes the connection itself.
                self.core().sleep(CLOSE_TIMEOUT).await;
            }
            CloudflaredEnded::Closed(reason)
        };
        let ended = future::or(future::or(running, accepting), future::or(registering, closing)).await;
        match self.closes_for() {
            Some(reason) => CloudflaredEnded::Closed(reason),
            None => ended,
        }
    }

    /// Takes a stream that the edge has opened.
    async fn begin_stream(self, stream: QuicStream) {
        match self.core().timeout(START_TIMEOUT, start(stream)).await {
            Ok(Some(Started::Call(call))) => self.take_call(CloudflaredStream::over_quic(&self, *call)),
            Ok(Some(Started::Refused(stream, status))) => {
                let mut answer = Vec::new();
                write_own_quic_answer(status, &mut answer);
                // The edge may have given up the stream.
                let _ = stream.send_bytes(answer);
                stream.finish();
            }
            Ok(Some(Started::Rpc(stream, first))) => self.receive_rpc(stream, first).await,
            // Dropping the stream has reset it.
            Ok(None) | Err(_) => {}
        }
    }

    /// Receives ingress rules, and queues them.
    async fn receive_rpc(&self, stream: QuicStream, first: Vec<u8>) {
        let receiving = self.core().timeout(START_TIMEOUT, receive_rules(&stream, first));
        let Ok(Some((mut server, PushedRules { question, version, config }))) = receiving.await else { return };
        // The rules are parsed with this around them.
        let json = [format!("{{\"version\":{version},\"config\":").as_bytes(), &config, b"}"].concat();
        let core = self.core().clone();
        self.take_push(CloudflaredPush::new(json, move |answer| {
            let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|_| json!({ "err": "not applied" }));
            let applied = answer["lastAppliedVersion"].as_i64().and_then(|version| i32::try_from(version).ok());
            let error = match &answer["err"] {
                Value::Null => String::new(),
                Value::String(error) => error.clone(),
                error => error.to_string(),
            };
            server.answer(question, applied.unwrap_or(-1), &error);
            core.clone().spawn(async move {
                // The edge may have given up the stream.
                let _ = stream.send_bytes(server.take_output());
                stream.finish();
                let _ = core.timeout(CLOSE_TIMEOUT, stream.delivered()).await;
            });
        }));
    }
}

/// Reads the start of a stream; `None` if it means nothing.
async fn start(stream: QuicStream) -> Option<Started> {
    let mut bytes = Vec::new();
    loop {
        match quic_stream_kind(&bytes) {
            Ok(None) => {}
            Ok(Some(QuicStreamKind::Rpc(len))) => return Some(Started::Rpc(stream, bytes.split_off(len))),
            Ok(Some(QuicStreamKind::Call)) => match read_quic_request(&bytes) {
                Ok(None) => {}
                Ok(Some(request)) if request.kind == ConnectionType::Http => {
                    stream.put_back(Bytes::from(bytes.split_off(request.len)));
                    return Some(Started::Call(Box::new(QuicCall::new(stream, &request))));
                }
                Ok(Some(request)) => {
                    tracing::debug!(kind = ?request.kind, "the edge asked for a connection that this connector does not carry");
                    return Some(Started::Refused(stream, StatusCode::NOT_IMPLEMENTED));
                }
                Err(error) => {
                    tracing::debug!(%error, "the edge sent a request that cannot be read");
                    let status =
                        if error == QuicStreamFault::Head { StatusCode::BAD_REQUEST } else { StatusCode::BAD_GATEWAY };
                    return Some(Started::Refused(stream, status));
                }
            },
            Err(error) => {
                tracing::debug!(%error, "the edge opened a stream of an unknown kind");
                return None;
            }
        }
        match poll_fn(|cx| stream.poll_bytes(LARGE_LEN, cx)).await {
            Ok(Some(more)) => bytes.extend_from_slice(&more),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Exchanges messages until the edge has sent rules.
async fn receive_rules(stream: &QuicStream, first: Vec<u8>) -> Option<(PushServer, PushedRules)> {
    let (mut server, mut rules) = (PushServer::default(), None);
    let mut bytes = Bytes::from(first);
    loop {
        server.receive(&bytes, |pushed| rules = Some(pushed)).ok()?;
        let output = server.take_output();
        if !output.is_empty() {
            stream.send_bytes(output).ok()?;
        }
        if let Some(rules) = rules {
            return Some((server, rules));
        }
        bytes = poll_fn(|cx| stream.poll_bytes(LARGE_LEN, cx)).await.ok().flatten()?;
    }
}

/// How the end of a connection counts.
fn ended_of(why: &ConnectionError) -> CloudflaredEnded {
    match why {
        ConnectionError::ApplicationClosed(_) | ConnectionError::ConnectionClosed(_) => CloudflaredEnded::ByEdge,
        ConnectionError::TimedOut => CloudflaredEnded::Silent,
        ConnectionError::TransportError(_) | ConnectionError::VersionMismatch => CloudflaredEnded::Fault,
        _ => CloudflaredEnded::Lost,
    }
}
