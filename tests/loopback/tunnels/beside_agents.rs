//! Connectors that come to the port of agents, because their own does not answer.

use std::net::TcpListener;

use super::site::{Site, text_of};

const HOST: &str = "a.test";

#[test]
fn a_connector_whose_port_does_not_answer_comes_in_beside_the_agents() {
    for driver in ["epoll", "uring"] {
        let mut site = Site::new(driver);
        let made = site.create(&["--host", HOST]);
        let state = site.data_dir().with_file_name("state");
        // A port that stays closed, where connectors would be let in.
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let fallback = |site: &Site| format!("connect.edge_fallback={}", site.agents.port());
        let how = |site: &Site| {
            ["--edge", &closed, "--set", &fallback(site), "--state-dir", text_of(&state)].map(str::to_owned)
        };
        let start = |site: &Site| {
            let mut args = site.connector_args(HOST, &made.token.tunnel_token);
            let at = args.iter().position(|arg| arg == "--edge").unwrap();
            args.drain(at..at + 2);
            args.extend(how(site));
            crate::process::Adit::start(&args.iter().map(String::as_str).collect::<Vec<_>>())
        };
        // Agents' certificate or not, a connector is not let in unless that is set.
        assert_eq!(start(&site).next_of(&["linked", "no_link"])["event"], "no_link");
        site.end_edge();
        site.configure("[edge]\nconnectors_on_agents_listen = true\n");
        site.run_edge(driver);
        let connector = start(&site);
        connector.event("linked");
        for _ in 0..4 {
            assert_eq!(site.call(HOST, "echo").0, 200);
        }
        // Those that find their port come in there as before.
        let _other = site.connect(HOST, &made.token.tunnel_token);
        connector.signal("TERM");
        assert_eq!(connector.ended(), Some(0));
        assert_eq!(site.call(HOST, "echo").0, 200);
    }
}
