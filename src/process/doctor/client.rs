use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Client, ClientBuilder};

use crate::tls::{CertError, read_chain};

/// How long the doctor waits for an answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// An HTTP client that follows no redirects, uses no proxy, and trusts these authorities, or the public ones.
pub(super) fn http_client(
    ca_file: Option<&Path>,
    more: impl FnOnce(ClientBuilder) -> ClientBuilder,
) -> Result<Client, String> {
    let redirects = reqwest::redirect::Policy::none();
    let mut builder =
        Client::builder().redirect(redirects).no_proxy().tcp_nodelay(true).connect_timeout(ANSWER_TIMEOUT);
    if let Some(file) = ca_file {
        let pem = std::fs::read(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let certs = read_chain(&file.display().to_string(), &pem).map_err(|error| error.to_string())?;
        if certs.is_empty() {
            return Err(CertError::NoCertificate { file: file.display().to_string() }.to_string());
        }
        let certs: Result<Vec<Certificate>, _> = certs.iter().map(|der| Certificate::from_der(der)).collect();
        let certs = certs.map_err(|error| format!("{}: {error}", file.display()))?;
        builder = builder.tls_certs_only(certs);
    }
    more(builder).build().map_err(|error| format!("no HTTP client: {error}"))
}
