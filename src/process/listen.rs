//! The listeners of the cores and of the admin API.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use crate::control::api::Access;
use crate::control::{State, serve_admin};
use crate::engine::Reservation;
use crate::process::error::RunError;
use crate::process::runtime::AbortOnDrop;

/// The pause between two attempts to take what another process still holds: an address, or a data directory.
pub(super) const IN_USE_POLL: Duration = Duration::from_millis(10);
/// The most pauses. Together they take two seconds, longer than the listener of a killed process was ever seen to last.
pub(super) const IN_USE_POLLS_MAX: usize = 200;

/// Reserves an address for all cores.
///
/// If the address is in use, it is tried for a while. It may belong to a predecessor that was killed: the kernel closes
/// an io_uring and its listener only some time after the process has ended, so an immediate restart would fail
/// otherwise.
pub(super) async fn reserve(
    what: &'static str,
    address: SocketAddr,
    flag: &'static str,
) -> Result<Reservation, RunError> {
    let reserved = reserve_with_retries(address, async || tokio::time::sleep(IN_USE_POLL).await).await;
    reserved.map_err(|error| RunError::Listen { what, address, error, flag })
}

async fn reserve_with_retries(address: SocketAddr, mut pause: impl AsyncFnMut()) -> io::Result<Reservation> {
    for _ in 0..IN_USE_POLLS_MAX {
        match Reservation::new(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => pause().await,
            reserved => return reserved,
        }
    }
    Reservation::new(address)
}

/// Binds the listener of the admin API, if it has an address.
pub(super) fn listen_admin(address: Option<SocketAddr>) -> Result<Option<TcpListener>, RunError> {
    let Some(address) = address else { return Ok(None) };
    let listen = |error| RunError::Listen { what: "readers of the admin API", address, error, flag: "--admin" };
    TcpListener::bind(address).map(Some).map_err(listen)
}

/// Serves the admin API on its listener, if there is one, until the returned handle is dropped.
pub(super) fn serve_admin_if(
    listener: Option<TcpListener>,
    state: Arc<State>,
    access: Option<Access>,
) -> Result<Option<AbortOnDrop>, RunError> {
    let served = listener.map(|listener| serve_admin(listener, state, access)).transpose();
    Ok(served.map_err(RunError::io("the admin API could not start"))?.map(AbortOnDrop))
}

/// The URL of a listener.
pub(super) fn admin_url(listener: Option<&TcpListener>) -> Option<String> {
    let address = listener?.local_addr().ok()?;
    Some(format!("http://{address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_its_last_owner_releases_late_is_reserved_all_the_same() {
        let mut last = Some(TcpListener::bind("127.0.0.1:0").unwrap());
        let address = last.as_ref().unwrap().local_addr().unwrap();
        let reserved = reserve_with_retries(address, async || drop(last.take())).await.unwrap();
        assert_eq!(reserved.address(), address);
    }

    #[tokio::test]
    async fn an_address_that_stays_in_use_is_an_error_in_the_end() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut pauses = 0;
        let error = reserve_with_retries(other.local_addr().unwrap(), async || pauses += 1).await.unwrap_err();
        assert_eq!((error.kind(), pauses), (io::ErrorKind::AddrInUse, IN_USE_POLLS_MAX));
        // Other errors are not retried.
        let nowhere = "192.0.2.1:1".parse().unwrap();
        reserve_with_retries(nowhere, async || panic!("there is nothing to wait for")).await.unwrap_err();
    }
}
