//! Agents and servers of the two eras of MCP over each kind of traffic: whoever reads the calls counts where one meets the other.

use std::thread;

use adit::base::Traffic;

use super::site::{HOST, OPEN_HOST, SEAL_CA, Site, call, metric};
use crate::drivers::drivers;
use crate::raw::Upstream;

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#;

#[test]
fn the_role_that_reads_a_call_counts_an_agent_that_meets_a_server_of_the_other_era() {
    for driver in drivers() {
        for traffic in [Traffic::Plain, Traffic::Resealed, Traffic::Passthrough] {
            let mut upstream = Upstream::start();
            let site = Site::start(driver, traffic);
            let (_connector, of_connector) = site.connect_with(driver, traffic, upstream.address, "");
            let ends_in_connector = traffic == Traffic::Passthrough;
            let (ca, name) = if ends_in_connector { (SEAL_CA, HOST) } else { ("ca.pem", OPEN_HOST) };
            let mut agent = site.agent(ca, Some(name));
            for (status, counted) in [("200 OK", 0), ("404 Not Found", 1)] {
                let server = thread::spawn(move || {
                    let (came, mut at) = upstream.next();
                    let _ = at.body(&came);
                    at.send(format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}"));
                    upstream.keep(at);
                    upstream
                });
                let answer = call(&mut agent, HOST, INITIALIZE);
                upstream = server.join().unwrap();
                assert!(
                    answer.head.starts_with(&format!("HTTP/1.1 {status}\r\n")),
                    "{driver} {traffic}: {}",
                    answer.head
                );
                let at_edge = site.metric("adit_eras_differed_total");
                let at_connector = metric(of_connector, "adit_eras_differed_total");
                let expected = if ends_in_connector { (0, counted) } else { (counted, 0) };
                assert_eq!((at_edge, at_connector), expected, "{driver} {traffic}");
            }
        }
    }
}
