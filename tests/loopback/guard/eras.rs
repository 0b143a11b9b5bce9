//! Agents and servers of the two eras of MCP, which have no revision in common: the edge counts where one meets the other.

use super::site::Site;
use crate::raw::{Peer, Upstream};

const STATELESS: &str = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: server/discover\r\n";

fn post(fields: &str, method: &str) -> String {
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}"}}"#);
    let length = body.len();
    format!("POST /mcp HTTP/1.1\r\nHost: one.test\r\n{fields}Content-Length: {length}\r\n\r\n{body}")
}

#[test]
fn an_agent_that_meets_a_server_of_the_other_era_is_counted() {
    let mut upstream = Upstream::start();
    let mut site = Site::without_connectors([""; 2], "");
    site.connect_to(0, &["one.test"], &format!("http://{}", upstream.address));
    let mut agent = Peer::connect(site.agents);
    for (request, status, counted) in [
        (post("", "initialize"), 200, 0),
        (post("", "initialize"), 404, 1),
        (post(STATELESS, "server/discover"), 400, 2),
        (post(STATELESS, "server/discover"), 200, 2),
        // Who is not let in has met no other era, and later requests may be refused for other reasons.
        (post("", "initialize"), 401, 2),
        (post("", "tools/list"), 400, 2),
    ] {
        agent.send(&request);
        let (came, mut at) = upstream.next();
        let _ = at.body(&came);
        at.send(format!("HTTP/1.1 {status} Told\r\nContent-Length: 2\r\n\r\n{{}}"));
        let answer = agent.head();
        assert_eq!((answer.status(), agent.body(&answer)), (status, b"{}".to_vec()), "{request}");
        upstream.keep(at);
        assert_eq!(site.count("eras_differed"), counted, "{request}");
    }
}
