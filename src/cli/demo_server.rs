//! The MCP server that `adit up` puts behind the tunnel where it is given none.

use crate::cli::run::{AbortOnDrop, RunError};

pub(super) use build::DemoServer;

#[cfg(feature = "demo")]
mod build {
    use std::future::pending;
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};

    use super::{AbortOnDrop, RunError};
    use crate::control::demo::{DEMO_PATH, Demo};

    const CANNOT_LISTEN: &str = "the demo server cannot listen";

    /// A demo server that listens on a free port of the loopback address.
    pub(in crate::cli) struct DemoServer {
        listener: TcpListener,
        address: SocketAddr,
    }

    impl DemoServer {
        /// One that listens and does not serve yet.
        pub(in crate::cli) fn new() -> Result<DemoServer, RunError> {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(RunError::io(CANNOT_LISTEN))?;
            let address = listener.local_addr().map_err(RunError::io(CANNOT_LISTEN))?;
            Ok(DemoServer { listener, address })
        }

        /// Its URL without the path, and the path.
        pub(in crate::cli) fn url_parts(&self) -> (String, String) {
            (format!("http://{}", self.address), DEMO_PATH.to_owned())
        }

        /// Serves until the result is dropped.
        pub(in crate::cli) fn serve(&self) -> Result<AbortOnDrop, RunError> {
            let listen = || {
                self.listener.set_nonblocking(true)?;
                tokio::net::TcpListener::from_std(self.listener.try_clone()?)
            };
            let listener = listen().map_err(RunError::io(CANNOT_LISTEN))?;
            Ok(AbortOnDrop(tokio::spawn(async move {
                if let Err(error) = Demo::serve(listener, pending()).await {
                    tracing::error!(%error, "the demo server ended");
                }
            })))
        }
    }
}

#[cfg(not(feature = "demo"))]
mod build {
    use super::{AbortOnDrop, RunError};

    /// This build has none.
    pub(in crate::cli) enum DemoServer {}

    impl DemoServer {
        pub(in crate::cli) fn new() -> Result<DemoServer, RunError> {
            let reason = "this build has no demo server: name the MCP server to reach with --upstream URL";
            Err(RunError::Other(reason.to_owned()))
        }

        pub(in crate::cli) fn url_parts(&self) -> (String, String) {
            match *self {}
        }

        pub(in crate::cli) fn serve(&self) -> Result<AbortOnDrop, RunError> {
            match *self {}
        }
    }
}
