//! The token of a tunnel, and the file of its credentials.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::registration::TunnelUuid;
use crate::base::Secret;

/// What proves that a connector may serve a tunnel.
#[derive(Clone)]
pub struct TunnelCredentials {
    /// The account that owns the tunnel.
    pub account: String,
    /// The tunnel that they are for.
    pub tunnel: TunnelUuid,
    /// The secret of the tunnel.
    pub secret: Secret,
    /// The region whose edges the connector should dial, if any.
    pub endpoint: Option<String>,
}

/// Why a token or a file of credentials cannot be used. The text repeats nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// It is not base64 of JSON.
    #[error("it is not base64 of a JSON object")]
    NotJson,
    /// A member is missing or malformed.
    #[error("its member `{0}` is missing or malformed")]
    Member(&'static str),
}

/// The names of the members: account, tunnel, secret, endpoint.
type Names = [&'static str; 4];
const OF_TOKEN: Names = ["a", "t", "s", "e"];
const OF_FILE: Names = ["AccountTag", "TunnelID", "TunnelSecret", "Endpoint"];

impl TunnelCredentials {
    /// The credentials in a token.
    ///
    /// # Errors
    ///
    /// If it is not a token.
    pub fn of_token(token: &str) -> Result<TunnelCredentials, CredentialsError> {
        let json = STANDARD.decode(token.trim()).map_err(|_| CredentialsError::NotJson)?;
        TunnelCredentials::read(&json, OF_TOKEN)
    }

    /// The credentials in the content of a file `<tunnel>.json`.
    ///
    /// # Errors
    ///
    /// If it is not such a file.
    pub fn of_file(json: &[u8]) -> Result<TunnelCredentials, CredentialsError> {
        TunnelCredentials::read(json, OF_FILE)
    }

    /// The token that stands for them, without a region.
    #[must_use]
    pub fn token(&self) -> String {
        let [account, tunnel, secret, _] = OF_TOKEN;
        let json = serde_json::json!({
            account: self.account,
            tunnel: self.tunnel.to_string(),
            secret: STANDARD.encode(self.secret.expose()),
        });
        STANDARD.encode(json.to_string())
    }

    fn read(json: &[u8], [account, tunnel, secret, endpoint]: Names) -> Result<TunnelCredentials, CredentialsError> {
        let object: Map<String, Value> = serde_json::from_slice(json).map_err(|_| CredentialsError::NotJson)?;
        let text = |name| object.get(name).and_then(Value::as_str);
        let secret_bytes = text(secret).and_then(|text| STANDARD.decode(text).ok()).filter(|bytes| !bytes.is_empty());
        Ok(TunnelCredentials {
            account: text(account).ok_or(CredentialsError::Member(account))?.to_owned(),
            tunnel: text(tunnel).and_then(|text| text.parse().ok()).ok_or(CredentialsError::Member(tunnel))?,
            secret: Secret::new(secret_bytes.ok_or(CredentialsError::Member(secret))?),
            endpoint: text(endpoint).filter(|text| !text.is_empty()).map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_and_a_file_name_the_same_things() {
        let file =
            br#"{"AccountTag":"acct","TunnelSecret":"c2VjcmV0","TunnelID":"3d539f97-cd3a-4d8e-c33b-65e9099c7a8d"}"#;
        let of_file = TunnelCredentials::of_file(file).unwrap();
        let token = of_file.token();
        let read = TunnelCredentials::of_token(&format!(" {token}\n")).unwrap();
        assert_eq!(
            (read.account.as_str(), read.secret.expose(), read.tunnel),
            ("acct", &b"secret"[..], of_file.tunnel)
        );
        assert_eq!((read.endpoint, read.tunnel.to_string().as_str()), (None, "3d539f97-cd3a-4d8e-c33b-65e9099c7a8d"));
        let with_endpoint = br#"{"a":"","t":"3d539f97-cd3a-4d8e-c33b-65e9099c7a8d","s":"c2VjcmV0","e":"us"}"#;
        assert_eq!(
            TunnelCredentials::of_token(&STANDARD.encode(with_endpoint)).unwrap().endpoint.as_deref(),
            Some("us")
        );
    }

    #[test]
    fn what_is_not_a_token_says_why_and_not_what() {
        let of = |json: &str| TunnelCredentials::of_token(&STANDARD.encode(json)).err();
        assert_eq!(TunnelCredentials::of_token("%").err(), Some(CredentialsError::NotJson));
        assert_eq!(of("[]"), Some(CredentialsError::NotJson));
        assert_eq!(of(r#"{"a":"x","t":"no","s":"c2VjcmV0"}"#), Some(CredentialsError::Member("t")));
        assert_eq!(
            of(r#"{"a":"x","t":"3d539f97-cd3a-4d8e-c33b-65e9099c7a8d","s":""}"#),
            Some(CredentialsError::Member("s"))
        );
        assert_eq!(
            of(r#"{"t":"3d539f97-cd3a-4d8e-c33b-65e9099c7a8d","s":"c2VjcmV0"}"#),
            Some(CredentialsError::Member("a"))
        );
    }
}
