//! Checks of `pin`: the tools of a server are kept somewhere, belong to one server, and can be approved.

use crate::config::checks::Checker;
use crate::config::table::{ConnectConfig, EdgeConfig};
use crate::policy::PinMode;
use crate::route::HostPattern;

impl Checker<'_> {
    pub(super) fn pins_of_hosts(&mut self, edge: &EdgeConfig) {
        for (index, host) in edge.hosts.iter().enumerate().filter(|(_, host)| host.pin != PinMode::Off) {
            let key = format!("host[{index}].pin");
            if edge.data_dir.is_none() {
                self.fault(
                    &key,
                    &["edge.data_dir"],
                    "what was approved is kept in the data directory: set edge.data_dir",
                );
            }
            if host.pin == PinMode::Quarantine && edge.admin_listen.is_none() {
                let why = "nobody can approve its tools, so that all stay hidden: set edge.admin_listen";
                self.fault(&key, &["edge.admin_listen"], why);
            }
            if matches!(host.host, HostPattern::Wildcard(_)) {
                let why =
                    "tools are those of one server, and this is a table for many hosts: write a [[host]] for each";
                self.fault(&key, &[], why);
            }
        }
    }

    pub(super) fn pins_of_routes(&mut self, connect: &ConnectConfig) {
        for (index, route) in connect.routes.iter().enumerate() {
            if route.pin != PinMode::Off && connect.state_dir.is_none() {
                let why = "what was approved is kept in the state directory: set connect.state_dir";
                self.fault(&format!("route[{index}].pin"), &["connect.state_dir"], why);
            }
            let can_approve = connect.admin_listen.is_some() && connect.admin_token_file.is_some();
            if route.pin == PinMode::Quarantine && !can_approve {
                let needed = ["connect.admin_listen", "connect.admin_token_file"];
                let why = "nobody can approve its tools, so that all stay hidden: set connect.admin_listen and \
                           connect.admin_token_file";
                self.fault(&format!("route[{index}].pin"), &needed, why);
            }
        }
    }
}
