//! An agent that speaks HTTP/2: the client of the `h2` crate, over a connection in the clear.

use std::future::Future;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response};
use tokio::net::TcpStream;

use crate::support::HOST;

/// Runs `test` with an agent's connection to `edge`.
pub(crate) fn with_client<F: Future>(edge: SocketAddr, test: impl FnOnce(Client) -> F) -> F::Output {
    with_client_of(edge, &mut Builder::new(), test)
}

/// The same, with settings of its own.
pub(crate) fn with_client_of<F: Future>(
    edge: SocketAddr,
    builder: &mut Builder,
    test: impl FnOnce(Client) -> F,
) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = TcpStream::connect(edge).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let (send, connection) = builder.handshake(socket).await.unwrap();
        let connection = tokio::spawn(connection);
        let client = Client { send };
        let output = test(client).await;
        connection.abort();
        output
    })
}

/// An agent's connection.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) send: SendRequest<Bytes>,
}

/// A response, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Response<()>,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Client {
    /// Sends a request whose body follows unless `is_end`.
    pub(crate) async fn begin(&self, request: Request<()>, is_end: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let mut send = self.send.clone().ready().await.unwrap();
        send.send_request(request, is_end).unwrap()
    }

    /// One request with this body, whole, and its answer.
    pub(crate) async fn call(&self, method: Method, path: &str, body: &'static [u8]) -> Result<Answer, h2::Error> {
        let request = request(method, path).body(()).unwrap();
        let (response, mut send) = self.begin(request, body.is_empty()).await;
        if !body.is_empty() {
            send.send_data(Bytes::from_static(body), true).unwrap();
        }
        whole(response).await
    }
}

/// A request to the tunnel's host.
pub(crate) fn request(method: Method, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://{HOST}{path}"))
}

/// The answer to a request, whole.
pub(crate) async fn whole(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = next(&mut body).await? {
        bytes.extend_from_slice(&data);
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    Ok(Answer { head: Response::from_parts(head, ()), body: bytes.into(), trailers })
}

/// The next bytes of a body, at least one.
pub(crate) async fn next(body: &mut RecvStream) -> Result<Option<Bytes>, h2::Error> {
    while let Some(data) = body.data().await.transpose()? {
        body.flow_control().release_capacity(data.len()).unwrap();
        if !data.is_empty() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}
