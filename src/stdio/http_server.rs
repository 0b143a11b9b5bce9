//! The server of HTTP/1.1 in front of the children of a route. Its only clients are the connection pools of the routes, in the same
//! process.

use std::rc::Rc;

use futures_lite::future;

use crate::engine::driver::SocketOptions;
use crate::engine::{ByteStream, Detached, Socket, send_bytes};
use crate::stdio::children::Children;
use crate::stdio::exchange::{Buffers, ExchangeEnd, HttpExchange};
use crate::stdio::reply::Reply;
use crate::wire::mcp::{Era, is_stateless};

/// The code of JSON-RPC for a server that is not there.
const NOT_RUNNING: i64 = -32_000;

/// Serves one connection to its end.
pub(super) async fn serve(children: Rc<Children>, detached: Detached) {
    // A pool gives up a connection that fails.
    let Ok(socket) = children.core.adopt(detached, SocketOptions::default()).await else { return };
    let mut buffers = Buffers::default();
    loop {
        buffers.head.clear();
        let Buffers { intake, head, .. } = &mut buffers;
        let read = intake.request_head_within(&socket, head, &children.core, |_| true).await;
        if !matches!(read, Ok(Some(_))) {
            return;
        }
        buffers.decoder.restart(buffers.head.framing());
        match exchange(&children, &socket, &mut buffers).await {
            Ok(()) if buffers.head.keep_alive() => {}
            Ok(()) | Err(ExchangeEnd::Stream) => return,
            Err(ExchangeEnd::NoAnswer) => return socket.abort(),
        }
    }
}

async fn exchange(children: &Rc<Children>, socket: &Socket, buffers: &mut Buffers) -> Result<(), ExchangeEnd> {
    let era = if is_stateless(&buffers.head) { Era::Stateless } else { Era::Sessions };
    let left = async {
        buffers.intake.ended(socket).await;
        None
    };
    let found = future::or(async { Some(children.child_for(era).await) }, left).await;
    match found {
        Some(Ok(child)) => HttpExchange { children, child: &child, socket, buffers }.run().await,
        // The reason may name files and folders, and is for the operator.
        Some(Err(_)) => {
            let reply =
                Reply::error(503, NOT_RUNNING, "the MCP server is not running: the log of the connector says why");
            send_bytes(socket, children.core.pool(), &reply.bytes()).await?;
            Err(ExchangeEnd::Stream)
        }
        None => Err(ExchangeEnd::Stream),
    }
}
