//! Reads from the configuration who is told of calls that wait for approval, and with which links.

use std::path::Path;
use std::sync::Arc;

use crate::config::{Config, SecretSource, read_named};
use crate::control::{ApprovalCounts, ApprovalLinks, ApprovalWebhook, LINK_KEY_LEN};
use crate::private;
use crate::process::error::RunError;
use crate::process::random::random;

/// The maximum length of the CA file, in bytes.
const CA_FILE_LEN_MAX: usize = 256 * 1024;
/// The name of the file with the key of links, in the data directory of an edge or the state directory of a connector.
const LINK_KEY_FILE: &str = "approval-link.key";

/// The webhook and its links, where they are configured.
#[derive(Default)]
pub(super) struct ApprovalNotices {
    pub(super) webhook: Option<ApprovalWebhook>,
    pub(super) links: Option<Arc<ApprovalLinks>>,
    pub(super) counts: Arc<ApprovalCounts>,
}

/// Reads the configuration. The key of links is kept in `dir`; without it links end with the process, as approvals do.
///
/// # Errors
///
/// If a configured file cannot be used, or the key cannot be kept.
pub(super) fn approval_notices(config: &Config, dir: Option<&Path>) -> Result<ApprovalNotices, RunError> {
    let (settings, mut notices) = (&config.approvals, ApprovalNotices::default());
    let (Some(url), Some(secret)) = (&settings.webhook_url, &settings.webhook_secret_file) else { return Ok(notices) };
    let wrong = |key: &str, why: String| RunError::Other(format!("approvals.{key}: {why}"));
    let secret = SecretSource::File(secret.clone()).read();
    let secret = secret.map_err(|error| wrong("webhook_secret_file", error.to_string()))?;
    let file = settings.webhook_ca_file.as_deref();
    let pem = file.map(|file| read_named(file, CA_FILE_LEN_MAX)).transpose();
    let pem = pem.map_err(|error| wrong("webhook_ca_file", error.to_string()))?;
    let (ca, counts) = (file.zip(pem.as_deref()), Arc::clone(&notices.counts));
    let webhook = ApprovalWebhook::new(&url.0, &secret, ca, settings.webhook_arguments, Arc::clone(&counts));
    let webhook = webhook.map_err(|why| wrong("webhook_secret_file", why))?;
    if let Some(url) = &settings.link_url {
        let key = link_key(dir)?;
        notices.links = Some(ApprovalLinks::new(&url.0, &key, settings.link_arguments, counts));
    }
    notices.webhook = Some(webhook.with_links(notices.links.clone()));
    Ok(notices)
}

/// The key that signs links. It is made when it is first needed.
fn link_key(dir: Option<&Path>) -> Result<[u8; LINK_KEY_LEN], RunError> {
    let Some(path) = dir.map(|dir| dir.join(LINK_KEY_FILE)) else { return random() };
    let wrong = |why: String| {
        RunError::Other(format!(
            "the key of approvals.link_url cannot be used: {why}; remove the file {} to make a new one, which ends the links that were \
             sent",
            path.display()
        ))
    };
    if matches!(path.try_exists(), Ok(false)) {
        let key = random::<LINK_KEY_LEN>()?;
        private::write(&path, &key).map_err(|error| wrong(error.to_string()))?;
    }
    let key = private::read(&path, LINK_KEY_LEN).map_err(|error| wrong(error.to_string()))?;
    key.as_slice().try_into().map_err(|_| wrong(format!("it has {} bytes in place of {LINK_KEY_LEN}", key.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_links_is_kept_and_one_that_is_cut_short_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let made = link_key(Some(dir.path())).unwrap();
        assert_eq!(link_key(Some(dir.path())).unwrap(), made);
        assert_ne!(link_key(None).unwrap(), link_key(None).unwrap());
        private::write(&dir.path().join(LINK_KEY_FILE), &made[1..]).unwrap();
        let error = link_key(Some(dir.path())).unwrap_err().to_string();
        assert!(error.contains("31 bytes") && error.contains(LINK_KEY_FILE), "{error}");
    }
}
