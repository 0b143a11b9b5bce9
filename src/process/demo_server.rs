use std::net::{Ipv4Addr, TcpListener};

use crate::control::demo::{DEMO_PATH, Demo};
use crate::process::error::RunError;
use crate::process::runtime::AbortOnDrop;

const FAILED: &str = "the demo server cannot listen";

/// The built-in MCP server, listening on a free port of the loopback address.
pub struct DemoServer(TcpListener);

impl DemoServer {
    /// The path of its MCP endpoint.
    pub const PATH: &str = DEMO_PATH;

    /// Listens; connections wait until it serves.
    ///
    /// # Errors
    ///
    /// When the system gives no port.
    pub fn bind() -> Result<DemoServer, RunError> {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(DemoServer).map_err(RunError::io(FAILED))
    }

    /// Its URL, without the path.
    ///
    /// # Errors
    ///
    /// When the system does not say where it listens.
    pub fn url(&self) -> Result<String, RunError> {
        let address = self.0.local_addr().map_err(RunError::io(FAILED))?;
        Ok(format!("http://{address}"))
    }

    /// Serves until what comes back is dropped.
    pub(super) fn serve(self) -> Result<AbortOnDrop, RunError> {
        self.0.set_nonblocking(true).map_err(RunError::io(FAILED))?;
        let listener = tokio::net::TcpListener::from_std(self.0).map_err(RunError::io(FAILED))?;
        Ok(AbortOnDrop(tokio::spawn(async move {
            if let Err(error) = Demo::serve(listener, std::future::pending()).await {
                tracing::error!(%error, "the demo server ended");
            }
        })))
    }
}
