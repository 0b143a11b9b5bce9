//! Secrets that an edge generates, and their text forms.

use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Secret, TunnelId};

/// The number of random bytes in a secret.
pub const SECRET_ENTROPY_LEN: usize = 32;
/// The length of an [`AuthorityPin`], in bytes.
pub const AUTHORITY_PIN_LEN: usize = 32;

/// The SHA-256 fingerprint of the certificate (DER) of an edge's own authority.
///
/// It is part of the secrets that such an edge generates, so that the holder of a secret can authenticate the edge
/// without further data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthorityPin(pub [u8; AUTHORITY_PIN_LEN]);

/// The purpose of a generated secret. Its prefix names the purpose, for people and for secret scanners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretKind {
    /// The secret of a tunnel: `adts_…`.
    Tunnel,
    /// A provisioning key, which new hosts trade for a tunnel: `adpk_…`.
    ProvisioningKey,
    /// A token for the admin API: `adat_…`.
    AdminToken,
}

impl SecretKind {
    const fn prefix(self) -> &'static str {
        match self {
            SecretKind::Tunnel => "adts_",
            SecretKind::ProvisioningKey => "adpk_",
            SecretKind::AdminToken => "adat_",
        }
    }
}

/// Creates a secret from `entropy`: the prefix, the random bytes and, after a dot, the pin of the edge's authority.
#[must_use]
pub fn mint(kind: SecretKind, entropy: &[u8; SECRET_ENTROPY_LEN], pin: Option<AuthorityPin>) -> Secret {
    // The capacity suffices from the start: growing would leave a copy of a part of the secret in freed memory.
    let mut text = String::with_capacity(128);
    text.push_str(kind.prefix());
    URL_SAFE_NO_PAD.encode_string(entropy, &mut text);
    if let Some(AuthorityPin(pin)) = pin {
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(pin, &mut text);
    }
    Secret::new(text.into_bytes())
}

/// The pin in a generated secret; `None` if the text is not such a secret or has no pin.
#[must_use]
pub fn pin_of(secret: &Secret) -> Option<AuthorityPin> {
    let text = std::str::from_utf8(secret.expose()).ok()?;
    let (_, pin) = text.rsplit_once('.').filter(|(drawn, _)| drawn.starts_with("ad"))?;
    let pin = URL_SAFE_NO_PAD.decode(pin).ok()?;
    pin.try_into().ok().map(AuthorityPin)
}

/// A tunnel's id and secret in one string: `tnl_…:adts_…`.
#[derive(Clone)]
pub struct TunnelToken {
    /// The id of the tunnel that the token belongs to.
    pub id: TunnelId,
    /// The secret that proves the right to use the tunnel.
    pub secret: Secret,
}

/// The error for a text that is not a valid token. It does not repeat the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a token is the tunnel's id, a colon and its secret, as `adit tunnel create` printed it")]
pub struct TunnelTokenError;

impl TunnelToken {
    /// The token as text; the text is a secret too.
    #[must_use]
    pub fn text(&self) -> Secret {
        let mut text = Vec::with_capacity(self.id.as_str().len() + 1 + self.secret.expose().len());
        text.extend_from_slice(self.id.as_str().as_bytes());
        text.push(b':');
        text.extend_from_slice(self.secret.expose());
        Secret::new(text)
    }
}

impl FromStr for TunnelToken {
    type Err = TunnelTokenError;

    fn from_str(text: &str) -> Result<TunnelToken, TunnelTokenError> {
        let (id, secret) = text.split_once(':').ok_or(TunnelTokenError)?;
        let id = id.parse().map_err(|_| TunnelTokenError)?;
        if secret.is_empty() || secret.bytes().any(|byte| byte.is_ascii_whitespace() || byte.is_ascii_control()) {
            return Err(TunnelTokenError);
        }
        Ok(TunnelToken { id, secret: Secret::from(secret) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIN: AuthorityPin = AuthorityPin([7; AUTHORITY_PIN_LEN]);

    fn text(secret: &Secret) -> &str {
        std::str::from_utf8(secret.expose()).unwrap()
    }

    #[test]
    fn a_minted_secret_names_its_purpose_and_its_edge() {
        let secret = mint(SecretKind::Tunnel, &[0xff; SECRET_ENTROPY_LEN], Some(PIN));
        let want = format!("adts_{}.{}", "_".repeat(42) + "8", "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc");
        assert_eq!(text(&secret), want);
        assert_eq!(pin_of(&secret), Some(PIN));
        let plain = mint(SecretKind::ProvisioningKey, &[0; SECRET_ENTROPY_LEN], None);
        assert_eq!((text(&plain).len(), pin_of(&plain)), (48, None));
        for other in ["a.b", "0123456789abcdef", "adts_x.BwcH", "my.BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"] {
            assert_eq!(pin_of(&Secret::from(other)), None, "{other}");
        }
    }

    #[test]
    fn a_token_is_taken_apart_and_put_together() {
        let token: TunnelToken = "tnl_a:adts_x.y".parse().unwrap();
        assert_eq!((token.id.as_str(), text(&token.secret)), ("tnl_a", "adts_x.y"));
        assert_eq!(text(&token.text()), "tnl_a:adts_x.y");
        for bad in ["", "tnl_a", "tnl_a:", ":s", "tnl a:s", "tnl_a:s\n", "tnl_a:s s"] {
            assert!(bad.parse::<TunnelToken>().is_err(), "{bad:?}");
        }
    }
}
