//! An agent over HTTP/2, by hand: the same calls as those of HTTP/1.1, all on one connection.

use std::cell::Cell;
use std::future::pending;
use std::sync::Arc;

use adit::engine::driver::{Address, SocketOptions};
use adit::engine::{ByteStream, Core};
use adit::tls::{ClientConfig, Connection, ServerName};

use super::call::roles::{AGENTS_AT, HOST};
use super::call::{BODY_LEN, send};
use super::jsonrpc::tools_call;
use super::tls_pair::NAME;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// More than all answers of a measurement.
const WINDOW: u32 = 1 << 30;
/// What is sent at a time, in bytes.
const PIECE_LEN: usize = 32 * 1024;

pub(super) struct Agent {
    core: Core,
    connection: Connection,
    next_stream: Cell<u32>,
    block: Vec<u8>,
    body: Vec<u8>,
}

impl Agent {
    pub(super) async fn connect(core: &Core, config: &Arc<ClientConfig>) -> Agent {
        let socket = core.connect(&Address::Tcp(AGENTS_AT), SocketOptions::default()).await.expect("the edge listens");
        let name = ServerName::try_from(NAME).expect("a name");
        let connection = Connection::client(socket, config, name, pending()).await.expect("the edge speaks TLS");
        let mut begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        push_frame(&mut begin, SETTINGS, 0, 0, &[&[0, 4][..], &WINDOW.to_be_bytes()].concat());
        push_frame(&mut begin, WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes());
        push_frame(&mut begin, SETTINGS, ACK, 0, &[]);
        send(core, &connection, &begin).await;
        let length = BODY_LEN.to_string();
        let fields = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", HOST),
            (":path", "/mcp"),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("mcp-protocol-version", "2025-11-25"),
            ("mcp-session-id", "0123456789abcdef0123456789abcdef"),
            ("user-agent", "agent/1.0"),
            ("content-length", &length),
        ];
        // Literals without indexing (RFC 7541, section 6.2.2).
        let block = fields.iter().flat_map(|(name, value)| {
            let len = |text: &str| u8::try_from(text.len()).expect("a short text");
            [&[0, len(name)], name.as_bytes(), &[len(value)], value.as_bytes()].concat()
        });
        let (block, body) = (block.collect(), tools_call(BODY_LEN).into_bytes());
        Agent { core: core.clone(), connection, next_stream: Cell::new(1), block, body }
    }

    /// So many calls at once.
    pub(super) async fn call(&self, at_once: usize) {
        let mut requests = Vec::with_capacity(at_once * 2 * BODY_LEN);
        for _ in 0..at_once {
            let stream = self.next_stream.replace(self.next_stream.get() + 2);
            push_frame(&mut requests, HEADERS, END_HEADERS, stream, &self.block);
            push_frame(&mut requests, DATA, END_STREAM, stream, &self.body);
        }
        for piece in requests.chunks(PIECE_LEN) {
            send(&self.core, &self.connection, piece).await;
        }
        let (mut received, mut at, mut left) = (Vec::with_capacity(at_once * 2 * BODY_LEN), 0, at_once);
        while left > 0 {
            let lease = self.connection.recv().await.expect("the peer stays").expect("the peer stays");
            received.extend_from_slice(&lease);
            while let [a, b, c, kind, flags, _, _, _, _, payload @ ..] = &received[at..] {
                let len = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
                let Some(payload) = payload.get(..len) else { break };
                // Status 200 is entry 8 of the static table.
                assert!(*kind != HEADERS || payload[0] == 0x88, "{payload:?}");
                left -= usize::from(*kind == DATA && flags & END_STREAM != 0);
                at += 9 + len;
            }
        }
    }
}

fn push_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let [_, a, b, c] = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    out.extend([a, b, c, kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}
