//! As much HTTP/1.1 as the simulated agents and the simulated upstream need, written apart from the one under test.

use adit::engine::{ByteStream, Class, Socket, StreamError};

/// Bytes of a head, at the most.
const HEAD_MAX: usize = 64 * 1024;

/// Why no more can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    /// The peer finished where nothing had begun.
    Ended,
    /// It finished in the middle.
    Truncated,
    /// The connection failed.
    Failed(StreamError),
    /// What came is no HTTP.
    Nonsense(String),
}

/// A head: its first line, and its fields by lower-case name.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) start: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// The first field of this name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The number in the second word, of a response.
    pub(crate) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
    }

    /// How the body is delimited; none when the length is not said.
    pub(crate) fn length(&self) -> Result<Option<Length>, Break> {
        let chunked = self.field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        match (chunked, self.field("content-length")) {
            (true, None) => Ok(Some(Length::Chunked)),
            (false, Some(length)) => length
                .parse()
                .map(|bytes| Some(Length::Bytes(bytes)))
                .map_err(|_| Break::Nonsense(format!("a length of {length}"))),
            (false, None) => Ok(None),
            (true, Some(_)) => Err(Break::Nonsense("two lengths".to_owned())),
        }
    }
}

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Bytes(usize),
    Chunked,
    ToTheEnd,
}

/// A connection, and what was read of it and not used.
pub(crate) struct Wire {
    pub(crate) socket: Socket,
    pub(crate) rest: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(socket: Socket) -> Wire {
        Wire { socket, rest: Vec::new() }
    }
}

/// Reads a connection.
pub(crate) struct Reader<'a> {
    pub(crate) socket: &'a Socket,
    pub(crate) rest: Vec<u8>,
}

impl Reader<'_> {
    /// The next head.
    pub(crate) async fn head(&mut self) -> Result<Head, Break> {
        loop {
            if let Some(end) = self.rest.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.rest.drain(..end + 4).collect();
                return parse(&head[..end]);
            }
            if self.rest.len() > HEAD_MAX {
                return Err(Break::Nonsense("a head without end".to_owned()));
            }
            if !self.more().await? {
                return Err(if self.rest.is_empty() { Break::Ended } else { Break::Truncated });
            }
        }
    }

    /// Reads a body, piece by piece.
    pub(crate) async fn body(&mut self, length: Length, mut take: impl FnMut(&[u8])) -> Result<(), Break> {
        match length {
            Length::Bytes(bytes) => self.take_exactly(bytes, &mut take).await,
            Length::Chunked => loop {
                let line = self.line().await?;
                let size = line.split(';').next().unwrap_or_default();
                let size = usize::from_str_radix(size, 16)
                    .map_err(|_| Break::Nonsense(format!("a chunk of {line:?} bytes")))?;
                if size == 0 {
                    while !self.line().await?.is_empty() {}
                    return Ok(());
                }
                self.take_exactly(size, &mut take).await?;
                if !self.line().await?.is_empty() {
                    return Err(Break::Nonsense("a chunk that goes on".to_owned()));
                }
            },
            Length::ToTheEnd => loop {
                take(&self.rest);
                self.rest.clear();
                if !self.more().await? {
                    return Ok(());
                }
            },
        }
    }

    async fn take_exactly(&mut self, mut bytes: usize, take: &mut impl FnMut(&[u8])) -> Result<(), Break> {
        while bytes > 0 {
            let n = bytes.min(self.rest.len());
            take(&self.rest[..n]);
            self.rest.drain(..n);
            bytes -= n;
            if bytes > 0 && !self.more().await? {
                return Err(Break::Truncated);
            }
        }
        Ok(())
    }

    async fn line(&mut self) -> Result<String, Break> {
        loop {
            if let Some(end) = self.rest.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.rest.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if !self.more().await? {
                return Err(Break::Truncated);
            }
        }
    }

    async fn more(&mut self) -> Result<bool, Break> {
        match self.socket.recv().await {
            Ok(Some(lease)) => self.rest.extend_from_slice(&lease),
            Ok(None) => return Ok(false),
            Err(error) => return Err(Break::Failed(error)),
        }
        Ok(true)
    }
}

/// Waits until the peer goes away; bytes that come before are kept.
pub(crate) async fn gone(socket: &Socket, rest: &mut Vec<u8>) {
    while let Ok(Some(lease)) = socket.recv().await {
        rest.extend_from_slice(&lease);
    }
}

/// Sends bytes, waiting for room.
pub(crate) async fn send(socket: &Socket, bytes: &[u8]) -> Result<(), StreamError> {
    for piece in bytes.chunks(Class::Small.bytes()) {
        socket.ready().await?;
        let mut lease = socket.core().pool().lease(Class::Small).await;
        lease.append(piece);
        socket.send(lease)?;
    }
    Ok(())
}

/// Sends one chunk of a chunked body; an empty one ends it.
pub(crate) async fn send_chunk(socket: &Socket, bytes: &[u8]) -> Result<(), StreamError> {
    let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
    chunk.extend_from_slice(bytes);
    chunk.extend_from_slice(b"\r\n");
    send(socket, &chunk).await
}

fn parse(head: &[u8]) -> Result<Head, Break> {
    let text = std::str::from_utf8(head).map_err(|_| Break::Nonsense("a head that is no text".to_owned()))?;
    let mut lines = text.split("\r\n");
    let start = lines.next().unwrap_or_default().to_owned();
    let fields = lines.map(|line| match line.split_once(':') {
        Some((name, value)) => Ok((name.to_ascii_lowercase(), value.trim().to_owned())),
        None => Err(Break::Nonsense(format!("a field {line:?}"))),
    });
    Ok(Head { start, fields: fields.collect::<Result<_, _>>()? })
}
