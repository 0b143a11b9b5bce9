//! HTTP/2 towards the edge for tests that are written in HTTP/1.1: each request of theirs becomes a stream of one connection of
//! the `h2` crate, piece by piece, and each response is told to them as HTTP/1.1. It shows what the edge makes of the same
//! exchange in the other form; a name of a field is in lower case then, a status has no words, and fields of the same name stand
//! together.

use std::future::poll_fn;
use std::io;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Fields of a connection of HTTP/1.1, and the one that has a pseudo-header of its own.
const OF_HTTP1: [&str; 3] = ["connection", "host", "transfer-encoding"];

/// Carries the requests of a connection, one after the other, until one breaks off.
pub(super) async fn serve(agent: TcpStream, mut edge: SendRequest<Bytes>, scheme: &str) {
    let (read, mut write) = agent.into_split();
    let mut agent = Agent { read, ahead: Vec::new() };
    while let Ok(head) = agent.head().await {
        let (request, length) = translate(&head, scheme);
        let is_head = request.method() == Method::HEAD;
        edge = edge.ready().await.expect("the edge goes on");
        let (response, mut send) =
            edge.send_request(request, matches!(length, Length::None)).expect("a request of a test can be sent");
        let whole = {
            let upload = async {
                agent.body(length, &mut send).await?;
                // More may follow, which is for later. What counts is when the agent is gone.
                while agent.fill().await? {}
                Err::<(), Broken>(Broken)
            };
            tokio::select! {
                biased;
                answered = answer(response, is_head, &mut write) => answered.is_ok(),
                _ = upload => false,
            }
        };
        if !whole {
            send.send_reset(h2::Reason::CANCEL);
            return;
        }
    }
}

/// The exchange cannot be completed.
#[derive(Debug)]
struct Broken;

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Broken {
        Broken
    }
}

impl From<h2::Error> for Broken {
    fn from(_: h2::Error) -> Broken {
        Broken
    }
}

/// How long a body is.
#[derive(Clone, Copy)]
enum Length {
    None,
    Bytes(usize),
    Chunked,
}

/// The request of a head.
fn translate(head: &[u8], scheme: &str) -> (Request<()>, Length) {
    let mut lines = head[..head.len() - 4].split(|byte| *byte == b'\n').map(|line| line.trim_ascii_end());
    let start = String::from_utf8(lines.next().expect("a first line").to_vec()).expect("a start line in ASCII");
    let mut words = start.split(' ');
    let (method, target) = (words.next().expect("a method"), words.next().expect("a target"));
    let (mut fields, mut host, mut length) = (HeaderMap::new(), String::new(), Length::None);
    for line in lines {
        let (name, value) = field(line);
        let text = || String::from_utf8_lossy(value.as_bytes()).into_owned();
        match name.as_str() {
            "host" => host = text(),
            "transfer-encoding" => length = Length::Chunked,
            "content-length" if text() != "0" => length = Length::Bytes(text().parse().expect("a length")),
            _ => {}
        }
        if !OF_HTTP1.contains(&name.as_str()) {
            fields.append(name, value);
        }
    }
    let request = Request::builder().method(method).uri(format!("{scheme}://{host}{target}")).body(());
    let mut request = request.expect("a request of a test is a request");
    *request.headers_mut() = fields;
    (request, length)
}

fn field(line: &[u8]) -> (HeaderName, HeaderValue) {
    let at = line.iter().position(|byte| *byte == b':').expect("a field has a colon");
    let name = HeaderName::from_bytes(&line[..at]).expect("a name");
    (name, HeaderValue::from_bytes(line[at + 1..].trim_ascii()).expect("a value"))
}

/// Tells the agent the response, whole.
async fn answer(mut response: ResponseFuture, is_head: bool, agent: &mut OwnedWriteHalf) -> Result<(), Broken> {
    while let Some(interim) = poll_fn(|cx| response.poll_informational(cx)).await {
        agent.write_all(&head_of(&interim?, None)).await?;
    }
    let (head, mut body) = response.await?.into_parts();
    let has_none = is_head || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let is_chunked = !has_none && !head.headers.contains_key("content-length");
    let head = Response::from_parts(head, ());
    agent.write_all(&head_of(&head, is_chunked.then_some("transfer-encoding: chunked\r\n"))).await?;
    while let Some(data) = next(&mut body).await? {
        let piece = if is_chunked {
            [format!("{:x}\r\n", data.len()).as_bytes(), &data, b"\r\n"].concat()
        } else {
            data.to_vec()
        };
        agent.write_all(&piece).await?;
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    if is_chunked {
        agent.write_all(&[b"0\r\n", &lines_of(&trailers)[..], b"\r\n"].concat()).await?;
    }
    Ok(())
}

/// The next bytes of a body.
async fn next(body: &mut RecvStream) -> Result<Option<Bytes>, h2::Error> {
    while let Some(data) = body.data().await.transpose()? {
        body.flow_control().release_capacity(data.len())?;
        if !data.is_empty() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

fn head_of(head: &Response<()>, more: Option<&str>) -> Vec<u8> {
    let start = format!("HTTP/1.1 {} \r\n", head.status().as_str());
    [start.as_bytes(), &lines_of(head.headers()), more.unwrap_or_default().as_bytes(), b"\r\n"].concat()
}

fn lines_of(fields: &HeaderMap) -> Vec<u8> {
    fields
        .iter()
        .flat_map(|(name, value)| [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat())
        .collect()
}

/// What comes from the agent.
struct Agent {
    read: OwnedReadHalf,
    /// What came and was not used yet.
    ahead: Vec<u8>,
}

impl Agent {
    /// Reads more; false at the end. Nothing is lost when this is dropped.
    async fn fill(&mut self) -> Result<bool, Broken> {
        Ok(self.read.read_buf(&mut self.ahead).await? > 0)
    }

    /// Reads up to and with `end`.
    async fn until(&mut self, end: &[u8]) -> Result<Vec<u8>, Broken> {
        loop {
            if let Some(at) = self.ahead.windows(end.len()).position(|window| window == end) {
                return Ok(self.take(at + end.len()));
            }
            if !self.fill().await? {
                return Err(Broken);
            }
        }
    }

    async fn head(&mut self) -> Result<Vec<u8>, Broken> {
        self.until(b"\r\n\r\n").await
    }

    /// Sends the body of a request on as it comes.
    async fn body(&mut self, length: Length, edge: &mut SendStream<Bytes>) -> Result<(), Broken> {
        match length {
            Length::None => Ok(()),
            Length::Bytes(len) => self.bytes(len, true, edge).await,
            Length::Chunked => loop {
                let size = String::from_utf8_lossy(&self.until(b"\r\n").await?).trim().to_owned();
                let len = usize::from_str_radix(&size, 16).expect("a chunk of a test has a size");
                if len == 0 {
                    return self.trailers(edge).await;
                }
                self.bytes(len, false, edge).await?;
                self.until(b"\r\n").await?;
            },
        }
    }

    async fn trailers(&mut self, edge: &mut SendStream<Bytes>) -> Result<(), Broken> {
        let mut trailers = HeaderMap::new();
        loop {
            let line = self.until(b"\r\n").await?;
            if line == b"\r\n" {
                break;
            }
            let (name, value) = field(line.trim_ascii_end());
            trailers.append(name, value);
        }
        if trailers.is_empty() {
            return Ok(edge.send_data(Bytes::new(), true)?);
        }
        Ok(edge.send_trailers(trailers)?)
    }

    /// Sends so many bytes on, each piece as soon as it is there and may be sent.
    async fn bytes(&mut self, mut len: usize, is_end: bool, edge: &mut SendStream<Bytes>) -> Result<(), Broken> {
        while len > 0 {
            if self.ahead.is_empty() && !self.fill().await? {
                return Err(Broken);
            }
            edge.reserve_capacity(len.min(self.ahead.len()));
            let room = poll_fn(|cx| edge.poll_capacity(cx)).await.ok_or(Broken)??;
            let piece = self.take(room.min(len).min(self.ahead.len()));
            len -= piece.len();
            edge.send_data(piece.into(), is_end && len == 0)?;
        }
        Ok(())
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let rest = self.ahead.split_off(len);
        std::mem::replace(&mut self.ahead, rest)
    }
}
