//! Checks of `approvals`: who is told of calls that wait can know from whom the messages are.

use crate::config::checks::Checker;
use crate::config::identity_checks::is_safe_url;
use crate::config::table::ApprovalsConfig;

impl Checker<'_> {
    pub(super) fn approvals(&mut self, approvals: &ApprovalsConfig) {
        let (url, secret) = ("approvals.webhook_url", "approvals.webhook_secret_file");
        let Some(webhook) = &approvals.webhook_url else {
            let idle =
                [(secret, &approvals.webhook_secret_file), ("approvals.webhook_ca_file", &approvals.webhook_ca_file)];
            for (key, _) in idle.into_iter().filter(|(_, file)| file.is_some()) {
                self.fault(key, &[url], "it has no effect without webhook_url");
            }
            return;
        };
        if !is_safe_url(&webhook.0) {
            let why = "who calls what is sent here, which needs an https URL, or an http URL on this machine";
            self.fault(url, &[], why);
        }
        if approvals.webhook_secret_file.is_none() {
            self.missing(secret, "missing; without it the receiver cannot know who sends the messages");
        }
    }
}
