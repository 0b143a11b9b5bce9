//! The MCP server that `adit up` starts behind the tunnel if no upstream is given.

pub use build::DemoServer;

#[cfg(feature = "demo")]
mod build {
    use std::future::pending;
    use std::net::{Ipv4Addr, SocketAddr, TcpListener};

    use crate::control::demo::{DEMO_PATH, Demo};
    use crate::process::error::RunError;
    use crate::process::runtime::AbortOnDrop;

    const FAILED: &str = "the demo server cannot listen";

    /// The built-in MCP server, listening on a free port of the loopback address.
    pub struct DemoServer {
        listener: TcpListener,
        address: SocketAddr,
    }

    impl DemoServer {
        /// Binds the listener. Connections wait until the server serves.
        ///
        /// # Errors
        ///
        /// If the system has no free port, or this build has no demo server.
        pub fn bind() -> Result<DemoServer, RunError> {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(RunError::io(FAILED))?;
            let address = listener.local_addr().map_err(RunError::io(FAILED))?;
            Ok(DemoServer { listener, address })
        }

        /// The server's URL without the path, and the path of its MCP endpoint.
        #[must_use]
        pub fn url_parts(&self) -> (String, String) {
            (format!("http://{}", self.address), DEMO_PATH.to_owned())
        }

        /// Serves until the returned handle is dropped.
        pub(in crate::process) fn serve(self) -> Result<AbortOnDrop, RunError> {
            self.listener.set_nonblocking(true).map_err(RunError::io(FAILED))?;
            let listener = tokio::net::TcpListener::from_std(self.listener).map_err(RunError::io(FAILED))?;
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
    use crate::process::error::RunError;
    use crate::process::runtime::AbortOnDrop;

    /// This build has no demo server.
    pub enum DemoServer {}

    impl DemoServer {
        /// Fails, because this build has no demo server.
        ///
        /// # Errors
        ///
        /// Always.
        pub fn bind() -> Result<DemoServer, RunError> {
            let reason = "this build has no demo server: name the MCP server to reach with --upstream URL";
            Err(RunError::Other(reason.to_owned()))
        }

        /// Never called, since this type has no values without the feature.
        #[must_use]
        pub fn url_parts(&self) -> (String, String) {
            match *self {}
        }

        pub(in crate::process) fn serve(self) -> Result<AbortOnDrop, RunError> {
            match self {}
        }
    }
}
