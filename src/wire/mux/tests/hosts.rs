use super::*;

/// The hosts that a side received, in order.
fn hosts_received(pair: &Pair, side: usize) -> Vec<Hosts> {
    let hosts = pair.events[side].iter().filter_map(|event| match event {
        Event::Hosts(hosts) => Some(hosts.clone()),
        _ => None,
    });
    hosts.collect()
}

fn hosts(listed: &[&str]) -> Hosts {
    Hosts { listed: host_set(listed), left_out: 0 }
}

#[test]
fn each_side_sends_its_hosts_right_after_the_greeting() {
    let mut pair = Pair::new(Settings::default(), 4);
    pair.sides[EDGE].set_hosts(start(), &host_set(&["a.test", "*.b.test"]));
    pair.sides[CONNECTOR].set_hosts(start(), &host_set(&[]));
    pair.run_until_idle();
    assert_eq!(pair.kinds(EDGE)[..2], [FrameKind::Welcome, FrameKind::Hosts]);
    assert_eq!(pair.kinds(CONNECTOR)[..2], [FrameKind::Hello, FrameKind::Hosts]);
    assert_eq!(hosts_received(&pair, CONNECTOR), [hosts(&["a.test", "*.b.test"])]);
    assert_eq!(hosts_received(&pair, EDGE), [hosts(&[])]);
}

#[test]
fn only_the_last_of_changes_in_quick_succession_is_sent_and_no_flood_is_detected() {
    let mut pair = Pair::ready(Settings::default());
    for n in 0..1_000 {
        let now = pair.now;
        pair.sides[CONNECTOR].set_hosts(now, &host_set(&[&format!("h{n}.test")]));
        pair.step();
        pair.sides[CONNECTOR].handle_timeout(pair.now);
    }
    while !pair.sides[CONNECTOR].hosts.due {
        pair.now = pair.sides[CONNECTOR].poll_timeout().unwrap();
        pair.sides[CONNECTOR].handle_timeout(pair.now);
    }
    pair.run_until_idle();
    let received = hosts_received(&pair, EDGE);
    assert_eq!(received.last(), Some(&hosts(&["h999.test"])));
    assert!((20..60).contains(&received.len()), "{} frames in 5 s", received.len());
    assert_eq!(pair.closed(EDGE), None);
}

#[test]
fn hosts_that_stay_as_they_were_are_not_sent_again() {
    let mut pair = Pair::ready(Settings::default());
    for host in ["a.test", "a.test", "b.test", "b.test"] {
        pair.sides[EDGE].set_hosts(pair.now, &host_set(&[host]));
        pair.run_until_idle();
        pair.now += Duration::from_secs(1);
    }
    assert_eq!(hosts_received(&pair, CONNECTOR), [hosts(&["a.test"]), hosts(&["b.test"])]);
}

#[test]
fn a_list_of_the_size_of_a_frame_is_sent_with_any_budget_and_keeps_no_memory() {
    let mut pair = Pair::ready(Settings::default());
    let [stream, _] = pair.open();
    let names: Vec<String> = (0..2_000).map(|n| format!("host-{n}.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    pair.clear();
    pair.sides[EDGE].send(stream, vec![7; 5_000]).unwrap();
    pair.sides[EDGE].set_hosts(pair.now, &host_set(&names));
    while pair.transmit(EDGE, 100) > 0 {}
    pair.run_until_idle();
    assert_eq!(pair.kinds(EDGE)[..2], [FrameKind::Hosts, FrameKind::Data]);
    let received = hosts_received(&pair, CONNECTOR);
    assert_eq!(received[0].listed.len() + received[0].left_out as usize, 2_000);
    assert!(received[0].left_out > 0 && pair.sides[EDGE].scratch.capacity() < 2_000);
}

#[test]
fn unsent_calls_end_with_the_link() {
    let mut pair = Pair::ready(Settings::default());
    pair.sides[EDGE].set_hosts(pair.now, &host_set(&["a.test"]));
    pair.sides[EDGE].close(Fault::Ended);
    pair.sides[EDGE].set_hosts(pair.now, &host_set(&["b.test"]));
    pair.run_until_idle();
    assert_eq!(pair.kinds(EDGE), [FrameKind::Close]);
    assert_eq!(pair.sides[EDGE].poll_timeout(), None);
}
