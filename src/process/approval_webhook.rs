//! Reads the approval webhook from the configuration.

use crate::config::{Config, NamedFileError, SecretSource, read_named};
use crate::control::ApprovalWebhook;
use crate::process::error::RunError;

/// The maximum length of the CA file, in bytes.
const CA_FILE_LEN_MAX: usize = 256 * 1024;

/// The webhook, if one is configured.
///
/// # Errors
///
/// If a configured file cannot be used.
pub(super) fn approval_webhook(config: &Config) -> Result<Option<ApprovalWebhook>, RunError> {
    let settings = &config.approvals;
    let (Some(url), Some(secret)) = (&settings.webhook_url, &settings.webhook_secret_file) else { return Ok(None) };
    let wrong = |key: &str, why: String| RunError::Other(format!("approvals.{key}: {why}"));
    let secret = SecretSource::File(secret.clone()).read();
    let secret = secret.map_err(|error| wrong("webhook_secret_file", error.to_string()))?;
    let file = settings.webhook_ca_file.as_deref();
    let pem = file.map(|file| read_named(file, CA_FILE_LEN_MAX)).transpose();
    let pem = pem.map_err(|error: NamedFileError| wrong("webhook_ca_file", error.to_string()))?;
    let ca = file.zip(pem.as_deref());
    let webhook = ApprovalWebhook::new(&url.0, &secret, ca, settings.webhook_arguments);
    webhook.map(Some).map_err(|why| wrong("webhook_secret_file", why))
}
