//! An upstream of HTTP/2 whose host answers nothing any more, behind a tunnel on each real driver.

use std::time::Duration;

use adit::base::Traffic;
use adit::engine::ladder::DriverChoice;

use crate::node::Node;
use crate::space;
use crate::support::{Tunnel, read_message};

/// Far less than the system takes to notice it by itself.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn an_upstream_of_http_2_that_answers_nothing_is_given_up() -> Result<(), String> {
    space::done(&["ip", "link", "set", "lo", "up"], "install iproute2");
    let nft = |rule: &str| space::done(&["nft", rule], "install nftables");
    nft("add table inet silence");
    nft("add chain inet silence input { type filter hook input priority 0; }");
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        let node = Node::start("clear");
        let tunnel = Tunnel::with_upstream(driver, Traffic::Plain, node.in_the_clear());
        let status = |path: &str| {
            let mut agent = tunnel.agent();
            agent.sock.set_read_timeout(Some(PATIENCE)).unwrap();
            let head = format!("POST {path} HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: 0\r\n\r\n");
            std::io::Write::write_all(&mut agent, head.as_bytes()).unwrap();
            let answer = read_message(&mut agent);
            answer.split(' ').nth(1).unwrap_or_default().to_owned()
        };
        // Behind a connection that has served, and during a call.
        for path in ["/bytes/3", "/hold"] {
            assert_eq!(status("/bytes/3"), "200");
            let (sent, waiting) = std::thread::scope(|scope| {
                let held = (path == "/hold").then(|| scope.spawn(|| status(path)));
                if held.is_some() {
                    // It is at the upstream before this one is answered.
                    assert_eq!(status("/bytes/3"), "200");
                }
                nft(&format!("add rule inet silence input tcp sport {} drop", node.port));
                let sent = held.is_none().then(|| status(path));
                (sent, held.map(|held| held.join().unwrap()))
            });
            assert_eq!(sent.or(waiting).as_deref(), Some("504"), "{driver:?} {path}");
            nft("flush chain inet silence input");
            assert_eq!(status("/bytes/3"), "200", "{driver:?}: the first one after it");
        }
        tunnel.end();
    }
    Ok(())
}
