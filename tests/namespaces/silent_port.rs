//! A network that drops all that goes to the edge's own port for connectors: they come in at port 443, beside the agents.

use crate::packet_filter::PacketFilter;
use crate::process::Adit;
use crate::site::Site;
use crate::space;

const HOST: &str = "a.test";

pub(crate) fn connectors_whose_packets_vanish_at_the_edges_port_come_in_at_the_port_of_https() -> Result<(), String> {
    space::done(&["ip", "link", "set", "lo", "up"], "install iproute2");
    let filter = PacketFilter::new("silence");
    let dir = tempfile::tempdir().unwrap();
    let mut site = Site::within(dir.path(), "epoll");
    let made = site.create(&["--host", HOST]);
    site.end_edge();
    // 443 is what connectors try without a setting.
    (site.listen, site.connectors) = ("127.0.0.1:443".to_owned(), "127.0.0.1:7844".to_owned());
    site.configure("[edge]\nconnectors_on_agents_listen = true\n");
    site.run_edge("epoll");
    let start =
        || ["epoll", "uring"].map(|driver| site.start_connector(HOST, &made.token.tunnel_token, &["--driver", driver]));
    let is_tried = || !filter.list().contains("counter packets 0");

    filter.add("tcp dport 7844 counter drop");
    let linked = start();
    linked.iter().for_each(|connector| _ = connector.event("linked"));
    assert!(is_tried(), "the edge's own port comes first");
    assert_eq!(site.call(HOST, "echo").0, 200);
    end(linked);

    // Where that port answers, they come in there.
    filter.flush();
    filter.add("tcp dport 7844 counter accept");
    filter.add("tcp dport 443 tcp flags syn / syn,ack drop");
    let linked = start();
    linked.iter().for_each(|connector| _ = connector.event("linked"));
    end(linked);
    Ok(())
}

fn end(connectors: [Adit; 2]) {
    for connector in connectors {
        connector.signal("TERM");
        assert_eq!(connector.ended(), Some(0));
    }
}
