//! The server of HTTP/1.1 in front of the children of a route. Its only clients are the connection pools of the routes, in the same
//! process.

use std::rc::Rc;

use crate::engine::driver::SocketOptions;
use crate::engine::{ByteStream, Detached, MailReceiver, Task};
use crate::stdio::child_pool::ChildPool;
use crate::stdio::exchange::{Buffers, ExchangeEnd, HttpExchange};

/// Serves all connections until none can be made any more. Then all children end.
pub(super) async fn run(pool: Rc<ChildPool>, mut waiting: MailReceiver<Detached>) {
    if pool.starts_at_boot() {
        // Without any other group there is room for it.
        let _ = pool.add_group(Box::default());
    }
    let mut connections = Vec::<Task<()>>::new();
    while let Some(detached) = waiting.recv().await {
        connections.retain(|task| !task.is_finished());
        connections.push(pool.core.spawn_held(serve(Rc::clone(&pool), detached)));
    }
    // Nobody can start another child from here on. Those that run end as their sockets are closed.
    drop(connections);
    pool.close();
}

/// Serves one connection to its end.
async fn serve(pool: Rc<ChildPool>, detached: Detached) {
    // A pool gives up a connection that fails.
    let Ok(socket) = pool.core.adopt(detached, SocketOptions::default()).await else { return };
    let mut buffers = Buffers::default();
    loop {
        buffers.head.clear();
        let Buffers { intake, head, .. } = &mut buffers;
        let read = intake.request_head_within(&socket, head, &pool.core, |_| true).await;
        if !matches!(read, Ok(Some(_))) {
            return;
        }
        buffers.decoder.restart(buffers.head.framing());
        match (HttpExchange { pool: &pool, socket: &socket, buffers: &mut buffers }).run().await {
            Ok(()) if buffers.head.keep_alive() => {}
            Ok(()) | Err(ExchangeEnd::Stream) => return,
            Err(ExchangeEnd::NoAnswer) => return socket.abort(),
        }
    }
}
