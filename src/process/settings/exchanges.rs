//! Reads where tokens of callers are exchanged, and keeps the tasks that do so.

use std::sync::Arc;

use reqwest::Client;

use crate::base::SecretHash;
use crate::config::{ConfigError, TokenExchangeConfig, read_named};
use crate::control::{ClientCredentials, ExchangeEndpoint, issuer_client, keep_exchanging};
use crate::identity::TokenExchange;
use crate::process::runtime::AbortOnDrop;
use crate::process::settings::callers::{CA_FILE_LEN_MAX, fault, read_line};

/// Where tokens are exchanged, as it was read. What was got for them is kept as long as the settings stay the same.
pub(super) struct KnownExchange {
    pub(super) exchange: Arc<TokenExchange>,
    config: TokenExchangeConfig,
    endpoint: ExchangeEndpoint,
    client: Client,
    /// The hashes of the files that this was read from.
    files: [Option<SecretHash>; 2],
    /// The task that exchanges tokens.
    task: Option<AbortOnDrop>,
}

impl KnownExchange {
    /// Reads where tokens are exchanged; what is known of those with the same settings is kept.
    ///
    /// # Errors
    ///
    /// If a file cannot be used. `table` is that of the configuration.
    pub(super) fn read(
        config: &TokenExchangeConfig,
        table: &str,
        known: &[KnownExchange],
    ) -> Result<KnownExchange, ConfigError> {
        let wrong = |why: String| fault(table, "ca_file", why);
        let file = config.ca_file.as_deref();
        let pem = file.map(|file| read_named(file, CA_FILE_LEN_MAX)).transpose();
        let pem = pem.map_err(|error| wrong(error.to_string()))?;
        let client = issuer_client(file.zip(pem.as_deref())).map_err(wrong)?;
        let secret = read_line(&config.client_secret_file, "the secret");
        let secret = secret.map_err(|why| fault(table, "client_secret_file", why))?;
        let files = [pem.as_deref().map(SecretHash::of_bytes), Some(SecretHash::of_bytes(secret.expose()))];
        let scopes: Vec<&str> = config.scopes.iter().map(|scope| &*scope.0).collect();
        let endpoint = ExchangeEndpoint {
            url: config.token_url.0.as_str().into(),
            credentials: ClientCredentials { id: config.client_id.0.as_str().into(), secret },
            audience: config.audience.as_ref().map(|audience| audience.0.as_str().into()),
            resource: config.resource.as_ref().map(|resource| resource.0.as_str().into()),
            scopes: scopes.join(" ").into(),
        };
        let exchange = match known.iter().find(|known| known.config == *config) {
            Some(same) => Arc::clone(&same.exchange),
            None => Arc::new(TokenExchange { name: config.name.0.as_str().into(), answers: Arc::default() }),
        };
        Ok(KnownExchange { exchange, config: config.clone(), endpoint, client, files, task: None })
    }

    /// Starts to exchange tokens, unless one of those before does so with the same authorities and secret.
    pub(super) fn start(&mut self, before: &mut [KnownExchange]) {
        let same = before.iter_mut().find(|before| Arc::ptr_eq(&before.exchange, &self.exchange));
        let running = same.filter(|before| before.files == self.files).and_then(|before| before.task.take());
        let (exchange, endpoint, client) = (Arc::clone(&self.exchange), self.endpoint.clone(), self.client.clone());
        self.task = running.or_else(|| Some(AbortOnDrop(tokio::spawn(keep_exchanging(exchange, endpoint, client)))));
    }
}
