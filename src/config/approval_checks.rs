//! Checks of `approvals`: who is told of calls that wait can know from whom the messages are, and their links lead somewhere.

use crate::config::checks::Checker;
use crate::config::identity_checks::is_safe_url;
use crate::config::table::{ApprovalsConfig, ConnectConfig, EdgeConfig};

impl Checker<'_> {
    pub(super) fn approvals(
        &mut self,
        approvals: &ApprovalsConfig,
        edge: Option<&EdgeConfig>,
        connect: Option<&ConnectConfig>,
    ) {
        let (url, secret) = ("approvals.webhook_url", "approvals.webhook_secret_file");
        self.approval_links(approvals, edge, connect);
        let Some(webhook) = &approvals.webhook_url else {
            let idle = [
                (secret, approvals.webhook_secret_file.is_some()),
                ("approvals.webhook_ca_file", approvals.webhook_ca_file.is_some()),
                ("approvals.link_url", approvals.link_url.is_some()),
            ];
            for (key, _) in idle.into_iter().filter(|(_, is_set)| *is_set) {
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

    fn approval_links(
        &mut self,
        approvals: &ApprovalsConfig,
        edge: Option<&EdgeConfig>,
        connect: Option<&ConnectConfig>,
    ) {
        let key = "approvals.link_url";
        let Some(link) = &approvals.link_url else { return };
        if !is_safe_url(&link.0) || link.0.contains(['?', '#']) {
            let why = "whoever reads a link can decide, which needs an https URL, or an http URL on this machine; without query and \
                       fragment";
            self.fault(key, &[], why);
        }
        if edge.is_some_and(|edge| edge.admin_listen.is_none() || edge.data_dir.is_none()) {
            let why = "its page is served at edge.admin_listen, and its key is kept in edge.data_dir: set both";
            self.fault(key, &["edge.admin_listen", "edge.data_dir"], why);
        }
        if connect.is_some_and(|connect| connect.admin_listen.is_none() || connect.admin_token_file.is_none()) {
            let why = "its page is part of the admin API: set connect.admin_listen and connect.admin_token_file";
            self.fault(key, &["connect.admin_listen", "connect.admin_token_file"], why);
        }
    }
}
