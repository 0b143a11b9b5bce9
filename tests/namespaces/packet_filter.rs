//! Packets that get lost because a rule drops them.

use std::thread;

use adit::engine::ladder::DriverChoice;

use crate::space;

const REMEDY: &str = "install nftables";

/// Rules for the packets that this namespace receives, in a table of their own.
#[derive(Clone)]
pub(crate) struct PacketFilter {
    table: String,
}

impl PacketFilter {
    /// A table without rules.
    pub(crate) fn new(table: &str) -> PacketFilter {
        let filter = PacketFilter { table: table.to_owned() };
        nft(&format!("add table inet {table}"));
        nft(&format!("add chain inet {table} input {{ type filter hook input priority 0; }}"));
        filter
    }

    /// Adds a rule, such as `tcp dport 443 drop`.
    pub(crate) fn add(&self, rule: &str) {
        nft(&format!("add rule inet {} input {rule}", self.table));
    }

    /// Removes all rules.
    pub(crate) fn flush(&self) {
        nft(&format!("flush chain inet {} input", self.table));
    }

    /// The rules with their counters.
    pub(crate) fn list(&self) -> String {
        space::done(&["nft", "list", "table", "inet", &self.table], REMEDY)
    }
}

fn nft(command: &str) {
    space::done(&["nft", command], REMEDY);
}

/// Brings up the loopback interface, and runs a test on both drivers at the same time, each with a filter of its own.
pub(crate) fn on_each_driver(test: impl Fn(DriverChoice, &PacketFilter) + Sync) {
    space::done(&["ip", "link", "set", "lo", "up"], "install iproute2");
    thread::scope(|scope| {
        for (driver, table) in [(DriverChoice::Epoll, "epoll"), (DriverChoice::Uring, "uring")] {
            let test = &test;
            scope.spawn(move || test(driver, &PacketFilter::new(table)));
        }
    });
}
