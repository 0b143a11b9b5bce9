//! Ingress rules that edges send while the connector runs.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value, json};

use crate::config::{CloudflaredIngress, IngressFault, read_ingress};
use crate::connector::{ConfigPush, Connector};
use crate::engine::MailReceiver;
use crate::process::settings::{UpstreamTrust, cloudflared_tables};

/// The rules in force, and their version: -1 for those that the connector began with.
pub(super) struct RulesInForce(Mutex<(i64, Value)>);

impl RulesInForce {
    pub(super) fn new(ingress: Option<&CloudflaredIngress>) -> RulesInForce {
        let rules = ingress.map_or_else(|| json!({ "ingress": [] }), CloudflaredIngress::json);
        RulesInForce(Mutex::new((-1, rules)))
    }

    /// The rules and their version, as JSON.
    pub(super) fn json(&self) -> Value {
        let (version, config) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner);
        json!({ "version": version, "config": config })
    }

    pub(super) fn version(&self) -> i64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    fn set(&self, version: i64, rules: Value) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (version, rules);
    }
}

/// Puts the rules that edges send in force, until the connector has ended.
pub(super) async fn take_pushes(
    mut pushes: MailReceiver<ConfigPush>,
    connector: Arc<Connector>,
    rules: Arc<RulesInForce>,
    cores: usize,
    mut trust: UpstreamTrust,
) {
    while let Some(ConfigPush { json, answer }) = pushes.recv().await {
        let fault = match apply(&json, &connector, &rules, cores, &mut trust) {
            Ok(()) => Value::Null,
            Err(fault) => {
                tracing::error!(error = %fault, "The edge sent rules that cannot be used: the ones before stay in force");
                fault.to_string().into()
            }
        };
        // The connection may be gone.
        let _ = answer.send(json!({ "lastAppliedVersion": rules.version(), "err": fault }).to_string());
    }
}

/// Puts rules in force, unless they are older than those that are.
fn apply(
    json: &[u8],
    connector: &Connector,
    rules: &RulesInForce,
    cores: usize,
    trust: &mut UpstreamTrust,
) -> Result<(), IngressFault> {
    let bad = |why: &str| IngressFault { place: "config".to_owned(), why: why.to_owned() };
    let pushed: Map<String, Value> = serde_json::from_slice(json).map_err(|_| bad("it is not JSON"))?;
    let version = pushed.get("version").and_then(Value::as_i64).ok_or_else(|| bad("it has no version"))?;
    if version <= rules.version() {
        return Ok(());
    }
    let config = pushed.get("config").and_then(Value::as_object).ok_or_else(|| bad("it has no rules"))?;
    let ingress = read_ingress(config)?;
    connector.reload(cloudflared_tables(ingress.as_ref(), cores, trust)?);
    let json = ingress.as_ref().map_or_else(|| json!({ "ingress": [] }), CloudflaredIngress::json);
    tracing::info!(version, config = %json, "Updated to new configuration");
    rules.set(version, json);
    Ok(())
}
