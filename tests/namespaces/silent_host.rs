//! A peer whose host answers nothing any more: its connection fails, whether something waits to be acknowledged or not.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use adit::base::CoreId;
use adit::engine::driver::SocketOptions;
use adit::engine::ladder;
use adit::engine::{ByteStream, Core, Pool, StreamError};

use crate::packet_filter::on_each_driver;

/// How long a host may be silent here.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Longer than the system takes to notice it; who waits longer waits for ever.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn a_host_that_answers_nothing_is_given_up() -> Result<(), String> {
    on_each_driver(|choice, filter| {
        for unacknowledged in [false, true] {
            let pool = Pool::new(8 << 20);
            let driver = ladder::start(choice, &pool).expect("this machine has both drivers").driver;
            let core = Core::new(CoreId(0), driver, pool, Duration::ZERO);
            let listener = core.listen(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
            let adit::engine::driver::Address::Tcp(at) = listener.local().clone() else { unreachable!("it is TCP") };
            let mut peer = TcpStream::connect(at).unwrap();
            peer.write_all(b"hello").unwrap();
            // From here on the system hears nothing of it.
            let port = peer.local_addr().unwrap().port();
            let (inner, options) =
                (core.clone(), SocketOptions { silence_max: Some(SILENCE_MAX), ..SocketOptions::default() });
            let filter = filter.clone();
            let failed = core
                .run(async move {
                    let (accepted, _) = listener.accept().await.unwrap();
                    let socket = inner.adopt(accepted, options).await.unwrap();
                    assert_eq!(&*socket.recv().await.unwrap().unwrap(), b"hello");
                    filter.add(&format!("tcp sport {port} drop"));
                    if unacknowledged {
                        let mut lease = inner.pool().lease_for(4).await;
                        lease.append(b"news");
                        socket.send(lease).unwrap();
                    }
                    inner.timeout(PATIENCE, socket.recv()).await
                })
                .unwrap();
            let failed = failed.unwrap_or_else(|_| panic!("{choice:?}: it is still waited for"));
            assert!(matches!(failed, Err(StreamError::Io(_) | StreamError::TimedOut)), "{failed:?}");
        }
    });
    Ok(())
}
