//! Who is believed about where an agent comes from, and what one source may do.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};

use crate::http2::frames;

use super::site::{LOCALHOST, SECRETS, Scale, Site, ask, dial, relay, serve};

const BEHIND_A_PROXY: &str = "[admission]\nagents_proxies = \"127.0.0.1\"\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: one.test\r\n\r\n";

/// What a proxy says before a connection that it passes on: version 2, for TCP from this address.
fn header(source: &str) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    match source.parse().expect("an address") {
        IpAddr::V4(source) => {
            header.extend([0x11, 0, 12]);
            header.extend(source.octets());
            header.extend([10, 0, 0, 1]);
        }
        IpAddr::V6(source) => {
            header.extend([0x21, 0, 36]);
            header.extend(source.octets());
            header.extend([0; 16]);
        }
    }
    header.extend([0x30, 0x39, 0x01, 0xbb]);
    header
}

fn came_from(answer: &str, address: &str) -> bool {
    answer.contains(&format!("\r\nX-Forwarded-For: {address}\r\n"))
}

#[test]
fn forwarded_fields_of_untrusted_peers_are_removed() {
    let site = Site::start([""; 2], "");
    let mut agent = site.agent(Ipv4Addr::new(127, 0, 0, 2), "one.test", b"").unwrap();
    let forged = "GET / HTTP/1.1\r\nHost: one.test\r\nX-Forwarded-For: 192.0.2.9\r\nForwarded: for=192.0.2.9\r\n\
                  X-Real-IP: 192.0.2.9\r\nX_Forwarded_For: 192.0.2.9\r\nX-Forwarded-Proto: gopher\r\n\
                  X-Forwarded-Host: two.test\r\nX-Forwarded-Port: 9\r\nX-Original-URL: /admin\r\n\
                  X-Rewrite-URL: /admin\r\nX-Original-Host: two.test\r\nX-Host: two.test\r\nAuthorization: Bearer kept\r\n\r\n";
    let answer = ask(&mut agent, forged).unwrap();
    assert!(!answer.contains("192.0.2.9") && !answer.contains("gopher") && !answer.contains("two.test"), "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("forwarded-port") && !answer.contains("\r\nForwarded"), "{answer}");
    assert!(came_from(&answer, "127.0.0.2"), "{answer}");
    assert!(answer.contains("\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: one.test\r\n"), "{answer}");
    assert!(answer.contains("\r\nAuthorization: Bearer kept\r\n"), "{answer}");
}

#[test]
fn a_proxy_is_believed_and_must_say_for_whom_it_speaks() {
    let site = Site::start([""; 2], &format!("{BEHIND_A_PROXY}deny_from = \"192.0.2.66\"\n"));
    for source in ["192.0.2.7", "2001:db8::7"] {
        let mut agent = site.agent(LOCALHOST, "one.test", &header(source)).unwrap();
        let answer = ask(&mut agent, GET).unwrap();
        assert!(came_from(&answer, source), "{answer}");
    }
    assert!(site.agent(LOCALHOST, "one.test", &header("192.0.2.66")).is_err(), "denied by what the proxy says");
    assert!(site.agent(LOCALHOST, "one.test", b"").is_err(), "a proxy that says nothing");
    assert!(site.agent(LOCALHOST, "one.test", b"PROXY TCP4 192.0.2.7 10.0.0.1 1 443\r\n").is_err(), "version 1");
    assert_eq!((site.count("admission_denied"), site.count("proxy_headers_refused")), (1, 2));
    // The proxy itself, looking whether anybody is here.
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
    assert!(came_from(&ask(&mut site.agent(LOCALHOST, "one.test", local).unwrap(), GET).unwrap(), "127.0.0.1"));
}

/// A site whose edge has these lines, and what its upstream is told of the address that an agent called.
fn public_address(edge: &'static str, more: &str, from: Ipv4Addr, text: &[u8]) -> String {
    let mut site = Site::scaled(Scale { edge, ..Scale::default() }, [""; 2], more);
    site.connect(0, &["one.test"]);
    let mut socket = dial(site.agents, from).unwrap();
    socket.write_all(text).unwrap();
    address_in(&ask(&mut socket, "").unwrap())
}

/// What an upstream was told of the address that an agent called, as its answer repeats it.
fn address_in(answer: &str) -> String {
    let field =
        |name: &str| answer.split(&format!("\r\nX-Forwarded-{name}: ")).nth(1).and_then(|rest| rest.lines().next());
    let (scheme, host) = (field("Proto"), field("Host"));
    format!("{}://{}", scheme.unwrap_or_else(|| panic!("{answer}")), host.unwrap_or_else(|| panic!("{answer}")))
}

#[test]
fn the_scheme_is_forwarded_when_a_proxy_ends_tls() {
    assert_eq!(public_address("", "", LOCALHOST, GET.as_bytes()), "http://one.test");
    // The PROXY protocol's field about TLS: the client's connection has it.
    let mut with_tls = header("192.0.2.7");
    with_tls.extend([0x20, 0, 5, 0x01, 0, 0, 0, 0]);
    with_tls[15] += 8;
    let text = [&with_tls[..], GET.as_bytes()].concat();
    assert_eq!(public_address("", BEHIND_A_PROXY, LOCALHOST, &text), "https://one.test");
    assert_eq!(
        public_address("public_url = \"https://one.test:8443\"", "", LOCALHOST, GET.as_bytes()),
        "https://one.test:8443"
    );
    let text = GET.replace("\r\n\r\n", "\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: pub.test\r\n\r\n");
    let trusted = |from| {
        public_address(
            "trusted_proxies = \"127.0.0.1\"\nallow_plain_http_off_loopback = true",
            "",
            from,
            text.as_bytes(),
        )
    };
    assert_eq!(trusted(LOCALHOST), "https://pub.test");
    assert_eq!(trusted(Ipv4Addr::new(127, 0, 0, 2)), "http://one.test", "a stranger");
}

#[test]
fn a_page_of_the_host_itself_may_call_when_a_proxy_ends_its_tls() {
    let page = GET.replace("\r\n\r\n", "\r\nOrigin: https://one.test\r\n\r\n");
    let mut with_tls = header("192.0.2.7");
    with_tls.extend([0x20, 0, 5, 0x01, 0, 0, 0, 0]);
    with_tls[15] += 8;
    let text = [&with_tls[..], page.as_bytes()].concat();
    assert_eq!(public_address("", BEHIND_A_PROXY, LOCALHOST, &text), "https://one.test");
    assert_eq!(public_address("public_url = \"https://one.test\"", "", LOCALHOST, page.as_bytes()), "https://one.test");
    let text = page.replace("\r\n\r\n", "\r\nX-Forwarded-Proto: https\r\n\r\n");
    assert_eq!(public_address("trusted_proxies = \"127.0.0.1\"", "", LOCALHOST, text.as_bytes()), "https://one.test");
}

/// A connection of HTTP/2 behind a proxy that says for whom it speaks.
fn over_http2(site: &Site, source: &str) -> frames::Peer {
    let mut socket = dial(site.agents, LOCALHOST).unwrap();
    socket.write_all(&header(source)).unwrap();
    frames::Peer::over(socket, frames::PREFACE_LEN)
}

/// A request for `/` of this host, on its stream.
fn get_on(stream: u32, host: &str) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", host), (":path", "/")];
    frames::frame(frames::HEADERS, frames::END_HEADERS | frames::END_STREAM, stream, &frames::block(&fields))
}

#[test]
fn a_proxy_is_believed_for_each_call_over_http_2() {
    let site = Site::start([""; 2], BEHIND_A_PROXY);
    let mut peer = over_http2(&site, "192.0.2.7");
    for (stream, host) in [(1, "one.test"), (3, "two.test")] {
        peer.send(&get_on(stream, host));
        assert_eq!(peer.status(stream), 200);
        let message = String::from_utf8(peer.until(&[frames::DATA]).payload).unwrap();
        assert!(came_from(&message, "192.0.2.7"), "{message}");
        assert!(message.contains(&format!("\r\nX-Forwarded-Host: {host}\r\n")), "{message}");
    }
}

#[test]
fn a_host_may_have_a_public_url_of_its_own() {
    let edge = "public_url = \"http://two.test:8080\"";
    let own = "[[host]]\nhost = \"one.test\"\npublic_url = \"https://one.test:8443\"\n";
    let mut site = Site::scaled(Scale { edge, ..Scale::default() }, ["", own], "");
    site.connect(0, &["one.test"]);
    site.connect(1, &["two.test"]);
    let address_of = |text: &str| {
        let mut socket = dial(site.agents, LOCALHOST).unwrap();
        socket.write_all(text.as_bytes()).unwrap();
        address_in(&ask(&mut socket, "").unwrap())
    };
    assert_eq!(address_of(GET), "https://one.test:8443");
    assert_eq!(address_of(&GET.replace("one.test", "two.test")), "http://two.test:8080");
    // Its pages may call it.
    assert_eq!(address_of(&GET.replace("\r\n\r\n", "\r\nOrigin: https://one.test\r\n\r\n")), "https://one.test:8443");
}

#[test]
fn a_header_may_come_in_pieces() {
    let site = Site::start([""; 2], BEHIND_A_PROXY);
    let header = header("192.0.2.7");
    for cut in [1, 12, 13, 16, header.len() - 1] {
        let mut socket = dial(site.agents, LOCALHOST).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.write_all(&header[..cut]).unwrap();
        std::thread::yield_now();
        socket.write_all(&[&header[cut..], GET.as_bytes()].concat()).unwrap();
        // Plain HTTP, which the proxy may speak: it is on this machine.
        let answer = ask(&mut socket, "").unwrap();
        assert!(came_from(&answer, "192.0.2.7"), "{cut}: {answer}");
    }
}

#[test]
fn only_a_proxy_is_trusted() {
    let site = Site::start([""; 2], BEHIND_A_PROXY);
    let stranger = Ipv4Addr::new(127, 0, 0, 2);
    assert!(site.agent(stranger, "one.test", &header("192.0.2.7")).is_err());
    let mut socket = dial(site.agents, stranger).unwrap();
    socket.write_all(&[&header("192.0.2.7"), GET.as_bytes()].concat()).unwrap();
    let mut text = String::new();
    let _ = socket.read_to_string(&mut text);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 400 "), "{text}");
    let answer = site.get(stranger, "one.test").unwrap();
    assert!(came_from(&answer, "127.0.0.2"), "{answer}");
}

#[test]
fn one_source_may_make_so_many_connections_and_others_their_own() {
    let site = Site::start([""; 2], &format!("{BEHIND_A_PROXY}handshakes_per_min = 1\nhandshakes_burst = 3\n"));
    let made = |source: &str| (0..5).filter(|_| site.agent(LOCALHOST, "one.test", &header(source)).is_ok()).count();
    assert_eq!(made("192.0.2.7"), 3);
    assert_eq!(made("192.0.2.8"), 3);
    assert_eq!((made("2001:db8::7"), made("2001:db8::8"), made("2001:db8:0:1::8")), (3, 0, 3), "a /64 is one source");
    assert_eq!(site.count("handshakes_limited"), 2 + 2 + 2 + 5 + 2);
}

#[test]
fn connectors_that_cannot_prove_themselves_are_not_heard_for_a_while() {
    let more = "[admission]\nconnectors_proxies = \"127.0.0.1\"\nfailed_registrations_per_min = 1\n\
                failed_registrations_burst = 2\n";
    let site = Site::without_connectors([""; 2], more);
    let (bad, good) = (relay(site.connectors, header("192.0.2.7")), relay(site.connectors, header("192.0.2.8")));
    let guesser = site.start_connector(0, "not-the-secret-of-tunnel-one", &["one.test"], bad);
    guesser.event("no_link");
    // It dials again and again; soon nothing is read of it any more.
    while site.count("registrations_limited") == 0 {
        std::thread::yield_now();
    }
    assert_eq!(site.count("links_refused"), 2);
    let honest = site.start_connector(1, SECRETS[1], &["two.test"], good);
    honest.event("linked");
    site.edge.event("linked");
    assert!(site.agent(LOCALHOST, "two.test", b"").is_ok());
    assert!(site.get(LOCALHOST, "two.test").unwrap().contains("upstream 1"));
}

#[test]
fn one_source_may_have_so_many_connections_open_and_others_their_own() {
    let site = Site::start([""; 2], &format!("{BEHIND_A_PROXY}connections_per_source_max = 2\n"));
    let open = |source: &str| site.agent(LOCALHOST, "one.test", &header(source));
    let (first, second) = (open("192.0.2.7").unwrap(), open("192.0.2.7").unwrap());
    assert!(open("192.0.2.7").is_err());
    assert_eq!(site.count("connections_limited"), 1);
    assert!(open("192.0.2.8").is_ok());
    assert!(site.get(LOCALHOST, "one.test").is_err(), "the proxy must say for whom it speaks");
    // A place is free again when the edge has seen that its connection ended.
    drop(first);
    while open("192.0.2.7").is_err() {
        std::thread::yield_now();
    }
    drop(second);
}

#[test]
fn one_source_may_have_so_many_calls_in_flight() {
    let (asked, asking) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (asked, released) = (std::sync::Mutex::new(asked), std::sync::Mutex::new(released));
    let upstream = serve(move |_| {
        asked.lock().unwrap().send(()).unwrap();
        released.lock().unwrap().recv().unwrap();
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone".to_owned()
    });
    let mut site = Site::without_connectors([""; 2], &format!("{BEHIND_A_PROXY}calls_per_source_max = 1\n"));
    site.connect_to(0, &["one.test"], &format!("http://{upstream}"));
    site.connect(1, &["two.test"]);
    let open = |source: &str, host| site.agent(LOCALHOST, host, &header(source)).unwrap();
    let mut slow = open("192.0.2.7", "one.test");
    slow.write_all(GET.as_bytes()).unwrap();
    asking.recv().unwrap();
    let two = "GET / HTTP/1.1\r\nHost: two.test\r\n\r\n";
    let refused = ask(&mut open("192.0.2.7", "two.test"), two).unwrap();
    assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("too_many_calls"), "{refused}");
    assert!(ask(&mut open("192.0.2.8", "two.test"), two).unwrap().starts_with("HTTP/1.1 200 "));
    release.send(()).unwrap();
    assert!(ask(&mut slow, "").unwrap().starts_with("HTTP/1.1 200 "));
    assert_eq!(site.count("calls_limited"), 1);
    // Calls on one connection count too.
    let mut peer = over_http2(&site, "192.0.2.9");
    peer.send(&get_on(1, "one.test"));
    asking.recv().unwrap();
    peer.send(&get_on(3, "two.test"));
    assert_eq!(peer.status(3), 429);
    release.send(()).unwrap();
    assert_eq!(peer.status(1), 200);
    peer.send(&get_on(5, "two.test"));
    assert_eq!(peer.status(5), 200);
    assert!(ask(&mut open("192.0.2.7", "two.test"), two).unwrap().starts_with("HTTP/1.1 200 "));
}

#[test]
fn unregistered_connectors_are_limited_per_source() {
    let more = "[admission]\nconnectors_proxies = \"127.0.0.1\"\nstrangers_per_source_max = 1\n";
    let mut site = Site::without_connectors([""; 2], more);
    let knock = |source: &str| {
        let mut socket = dial(site.connectors, LOCALHOST).unwrap();
        socket.write_all(&header(source)).unwrap();
        socket
    };
    let held = [knock("192.0.2.7"), knock("192.0.2.8")];
    let mut refused = knock("192.0.2.7");
    // One of the two from there is the one too many, whichever came first.
    assert_eq!(refused.read(&mut [0]).unwrap_or(0), 0);
    assert_eq!(site.count("connections_limited"), 1);
    drop(held);
    site.connectors = relay(site.connectors, header("192.0.2.9"));
    // Those that have are not counted: this one links, and another may come.
    site.connect(0, &["one.test"]);
    site.connect(1, &["two.test"]);
}
