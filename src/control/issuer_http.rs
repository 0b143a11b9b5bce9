//! HTTP requests to token issuers: for their keys and about tokens.

use std::path::Path;
use std::time::Duration;

use reqwest::{Certificate, Client, RequestBuilder, Response, Url, header};

use crate::base::Secret;
use crate::control::once::chain;
use crate::control::wall_time::WallTime;
use crate::tls::read_chain;

/// The timeout of one fetch, including its connection and the metadata of the issuer.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(6);

/// The credentials of a client at an authorization server (RFC 6749 section 2.3.1).
#[derive(Clone)]
pub struct ClientCredentials {
    /// The client id at the authorization server.
    pub id: Box<str>,
    /// The client secret, which is text.
    pub secret: Secret,
}

/// Creates an HTTP client for token issuers. It follows no redirects, uses the proxies of the environment, and trusts
/// the authorities in this file (path and content), or by default the public ones.
///
/// # Errors
///
/// Why the content cannot be used.
pub fn issuer_client(ca: Option<(&Path, &[u8])>) -> Result<Client, String> {
    let mut builder = Client::builder().redirect(reqwest::redirect::Policy::none()).connect_timeout(FETCH_TIMEOUT);
    if let Some((file, pem)) = ca {
        let name = file.display().to_string();
        let certs = read_chain(&name, pem).map_err(|error| error.to_string())?;
        if certs.is_empty() {
            return Err(format!("{name} holds no certificate"));
        }
        let certs: Result<Vec<Certificate>, _> = certs.iter().map(|der| Certificate::from_der(der)).collect();
        builder = builder.tls_certs_only(certs.map_err(|error| format!("{name}: {error}"))?);
    }
    builder.build().map_err(|error| format!("the HTTP client cannot be created: {error}"))
}

/// Sends a request, and returns the response before its body.
pub(super) async fn sent(url: &str, request: RequestBuilder) -> Result<Response, String> {
    let request = request.header(header::ACCEPT, "application/json");
    request.send().await.map_err(|error| format!("{url}: {}", chain(&error)))
}

/// Reads the body of a response, of at most `len_max` bytes.
pub(super) async fn content_of(url: &str, mut answer: Response, len_max: usize) -> Result<Vec<u8>, String> {
    let mut content = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| format!("{url}: {}", chain(&error)))? {
        if content.len() + piece.len() > len_max {
            return Err(format!("the response of {url} exceeds {len_max} bytes"));
        }
        content.extend_from_slice(&piece);
    }
    Ok(content)
}

/// A request with this form and the credentials of the client.
pub(super) fn form(
    client: &Client,
    url: &str,
    credentials: &ClientCredentials,
    fields: &[(&str, &str)],
) -> RequestBuilder {
    let secret = String::from_utf8_lossy(credentials.secret.expose());
    let [id, secret] = [&*credentials.id, &*secret].map(|text| encoded(&[(text, "")]).trim_end_matches('=').to_owned());
    let request = client.post(url).basic_auth(id, Some(secret));
    request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(encoded(fields))
}

/// Encodes fields as `application/x-www-form-urlencoded`.
fn encoded(fields: &[(&str, &str)]) -> String {
    let mut url = Url::parse("form:x").expect("this is a URL");
    url.query_pairs_mut().extend_pairs(fields);
    url.query().unwrap_or_default().to_owned()
}

/// The time since 1970.
pub(super) fn unix_time() -> Duration {
    Duration::from_secs(WallTime::now().as_unix().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_and_credentials_are_percent_encoded() {
        assert_eq!(encoded(&[("token", "a+b/c=&d e"), ("x", "ä")]), "token=a%2Bb%2Fc%3D%26d+e&x=%C3%A4");
        let credentials = ClientCredentials { id: "a:b".into(), secret: Secret::from("s=:%") };
        let request = form(&Client::new(), "http://a.test/", &credentials, &[]).build().unwrap();
        // printf 'a%%3Ab:s%%3D%%3A%%25' | base64
        assert_eq!(request.headers()[header::AUTHORIZATION], "Basic YSUzQWI6cyUzRCUzQSUyNQ==");
    }
}
