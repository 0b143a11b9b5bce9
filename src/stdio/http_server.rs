//! The server of HTTP/1.1 in front of the children of a route. Its only clients are the connection pools of the routes, in the same
//! process.

use std::rc::Rc;

use crate::engine::{ByteStream, LocalServer, Socket, Task};
use crate::exchange::{ExchangeBuffers, ExchangeEnd};
use crate::stdio::child_pool::ChildPool;
use crate::stdio::exchange::HttpExchange;

/// Serves all connections until none can be made any more. Then all children end.
pub(super) async fn run(pool: Rc<ChildPool>, mut server: LocalServer) {
    if pool.starts_at_boot() {
        // Without any other group there is room for it.
        let _ = pool.add_group(Box::default());
    }
    let mut connections = Vec::<Task<()>>::new();
    while let Some(socket) = server.accept().await {
        connections.retain(|task| !task.is_finished());
        connections.push(pool.core.spawn_held(serve(Rc::clone(&pool), socket)));
    }
    // Nobody can start another child from here on. Those that run end as their sockets are closed.
    drop(connections);
    pool.close();
}

/// Serves one connection to its end.
async fn serve(pool: Rc<ChildPool>, socket: Socket) {
    let mut buffers = ExchangeBuffers::default();
    while buffers.next_head(&socket, &pool.core).await {
        match HttpExchange::new(&pool, &socket, &mut buffers).run().await {
            Ok(()) if buffers.keeps_alive() => {}
            Ok(()) | Err(ExchangeEnd::Stream) => return,
            Err(ExchangeEnd::NoAnswer) => return socket.abort(),
        }
    }
}
