//! The hop on our engine: leases go from one connection to the other as they come.

use std::error::Error;
use std::future::pending;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use adit::base::CoreId;
use adit::engine::driver::{Address, SocketOptions};
use adit::engine::ladder::{self, DriverChoice};
use adit::engine::{BUFFER_MEMORY_DEFAULT, ByteStream, Core, Detached, Pool, StreamError};
use adit::tls::Connection;
use futures_lite::future;

use crate::place::{LOOPBACK, Place};

pub(crate) fn serve(driver: DriverChoice, spin: Duration, place: Place) -> io::Result<()> {
    let pool = Pool::new(BUFFER_MEMORY_DEFAULT);
    let driver = ladder::start(driver, &pool).map_err(io::Error::other)?.driver;
    let core = Core::new(CoreId(0), driver, pool, spin);
    core.run(accept(core.clone(), place))?
}

async fn accept(core: Core, place: Place) -> io::Result<()> {
    let listener = core.listen(&Address::Tcp(LOOPBACK))?;
    if let Address::Tcp(address) = listener.local() {
        Place::announce(*address)?;
    }
    let place = Rc::new(place);
    loop {
        let (detached, _) = listener.accept().await?;
        let (here, place) = (core.clone(), Rc::clone(&place));
        core.spawn(async move {
            // The client has gone, as it does at the end of each round.
            let _ = relay(&here, detached, &place).await;
        });
    }
}

async fn relay(core: &Core, agent: Detached, place: &Place) -> Result<(), Box<dyn Error>> {
    let agent = core.adopt(agent, SocketOptions::default()).await?;
    let agent = Connection::server(agent, &place.tls, None, None, pending()).await?;
    let upstream = core.connect(&Address::Tcp(place.upstream), SocketOptions::default()).await?;
    future::try_zip(carry(&agent, &upstream), carry(&upstream, &agent)).await?;
    Ok(())
}

async fn carry(from: &impl ByteStream, to: &impl ByteStream) -> Result<(), StreamError> {
    while let Some(lease) = from.recv().await? {
        to.ready().await?;
        to.send(lease)?;
    }
    to.finish();
    Ok(())
}
