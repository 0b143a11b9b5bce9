use super::*;

fn phases(stage: Stage) -> Phases {
    Phases { stage, connector_ns: 1, upstream_connect_ns: 2, upstream_first_ns: 3, upstream_last_ns: 4 }
}

#[test]
fn a_call_and_its_answer_cross_the_link() {
    let mut pair = Pair::ready(Settings::default());
    let [edge, connector] = pair.open();
    assert_eq!(pair.sides[CONNECTOR].opening(connector), Some(open()));
    assert_eq!(pair.sides[CONNECTOR].call(connector), Some((open().call, open().traffic)));
    assert_eq!(pair.sides[EDGE].opening(edge), Some(open()));
    pair.sides[EDGE].send(edge, b"request".to_vec()).unwrap();
    pair.sides[EDGE].finish(edge).unwrap();
    pair.run_until_idle();
    assert_eq!(pair.bytes(CONNECTOR, connector), b"request");
    pair.sides[CONNECTOR].consumed(connector, 7);
    pair.sides[CONNECTOR].phases(connector, phases(Stage::Head)).unwrap();
    pair.sides[CONNECTOR].send(connector, b"head".to_vec()).unwrap();
    pair.sides[CONNECTOR].send(connector, b"body".to_vec()).unwrap();
    pair.sides[CONNECTOR].phases(connector, phases(Stage::End)).unwrap();
    pair.sides[CONNECTOR].finish(connector).unwrap();
    pair.run_until_idle();
    let reported: Vec<String> = pair.events[EDGE].iter().map(|event| format!("{event:?}")).collect();
    let order = ["stage: Head", "chunk: [104", "chunk: [98", "stage: End", "Finished"];
    assert_eq!(reported.len(), order.len(), "{reported:?}");
    assert!(reported.iter().zip(order).all(|(event, part)| event.contains(part)), "{reported:?}");
    pair.sides[EDGE].consumed(edge, 8);
    assert_eq!((pair.sides[EDGE].streams_live(), pair.sides[CONNECTOR].streams_live()), (0, 0));
}

#[test]
fn commands_on_an_unusable_stream_return_the_reason() {
    let mut pair = Pair::ready(Settings::default());
    let [edge, connector] = pair.open();
    assert_eq!(pair.sides[EDGE].phases(edge, phases(Stage::Head)), Err(StreamCommandError::WrongSide));
    assert_eq!(pair.sides[CONNECTOR].open(&open()), Err(OpenError::WrongSide));
    assert_eq!(pair.sides[EDGE].open(&Open { route: "", ..open() }), Err(OpenError::Unsendable));
    pair.sides[CONNECTOR].phases(connector, phases(Stage::Head)).unwrap();
    assert_eq!(pair.sides[CONNECTOR].phases(connector, phases(Stage::Head)), Err(StreamCommandError::Repeated));
    pair.sides[CONNECTOR].phases(connector, phases(Stage::End)).unwrap();
    assert_eq!(pair.sides[CONNECTOR].phases(connector, phases(Stage::Head)), Err(StreamCommandError::Repeated));
    pair.sides[EDGE].finish(edge).unwrap();
    assert_eq!(pair.sides[EDGE].finish(edge), Err(StreamCommandError::Finished));
    assert_eq!(pair.sides[EDGE].send(edge, vec![1]).unwrap_err().error, StreamCommandError::Finished);
    assert_eq!(pair.sides[EDGE].capacity(edge, usize::MAX), 0);
    pair.sides[EDGE].reset(edge, Cause::Cancelled);
    for _ in 0..2 {
        assert_eq!(pair.sides[EDGE].finish(edge), Err(StreamCommandError::Gone));
        assert_eq!(pair.sides[EDGE].send(edge, vec![1]).unwrap_err().error, StreamCommandError::Gone);
        pair.sides[EDGE].consumed(edge, 10);
        pair.sides[EDGE].reset(edge, Cause::Cancelled);
        pair.run_until_idle();
    }
    assert_eq!(pair.cause(CONNECTOR, connector), Some(Cause::Cancelled));
}

#[test]
fn a_stream_that_is_dropped_before_it_was_sent_leaves_no_trace() {
    let mut pair = Pair::ready(Settings::default());
    let stream = pair.sides[EDGE].open(&open()).unwrap();
    pair.sides[EDGE].send(stream, vec![0; 1_000]).unwrap();
    pair.sides[EDGE].reset(stream, Cause::Cancelled);
    pair.run_until_idle();
    assert!(pair.sent[EDGE].is_empty());
    let [next, _] = pair.open();
    assert!(next.wire() > stream.wire());
}

#[test]
fn a_local_reset_silences_the_stream_even_for_events_that_wait() {
    let mut pair = Pair::ready(Settings::default());
    let [edge, connector] = pair.open();
    pair.sides[EDGE].send(edge, vec![0; 1_000]).unwrap();
    pair.transmit(EDGE, 16_384);
    let (_, bytes) = pair.wires[CONNECTOR].pop_front().unwrap();
    pair.sides[CONNECTOR].receive(pair.now, bytes);
    pair.sides[CONNECTOR].reset(connector, Cause::NoRoute);
    assert!(pair.sides[CONNECTOR].poll_event().is_none());
    pair.run_until_idle();
    assert_eq!(pair.cause(EDGE, edge), Some(Cause::NoRoute));
}

#[test]
fn a_reset_of_a_stream_that_is_over_on_the_wire_is_not_sent() {
    let mut pair = Pair::ready(Settings::default());
    let [edge, connector] = pair.open();
    pair.sides[CONNECTOR].send(connector, vec![0; 100]).unwrap();
    pair.sides[CONNECTOR].finish(connector).unwrap();
    pair.sides[EDGE].finish(edge).unwrap();
    pair.run_until_idle();
    pair.clear();
    pair.sides[EDGE].reset(edge, Cause::Cancelled);
    pair.run_until_idle();
    assert!(pair.sent[EDGE].is_empty());
    assert_eq!((pair.sides[EDGE].streams_live(), pair.sides[EDGE].window.held()), (0, 0));
}

#[test]
fn a_reset_in_the_middle_of_a_frame_drops_the_rest_of_it() {
    let mut pair = Pair::ready(Settings::default());
    let [_, connector] = pair.open();
    let whole = frame(FrameKind::Data, connector.wire(), &[5; 3_000]);
    pair.sides[CONNECTOR].receive(pair.now, whole[..1_000].to_vec());
    assert!(matches!(pair.sides[CONNECTOR].poll_event(), Some(Event::Data { .. })));
    pair.sides[CONNECTOR].reset(connector, Cause::Internal);
    let mut sent = Sent::default();
    pair.sides[CONNECTOR].poll_transmit(pair.now, 16_384, &mut sent);
    pair.sides[CONNECTOR].receive(pair.now, whole[1_000..].to_vec());
    assert!(pair.sides[CONNECTOR].poll_event().is_none());
    check(&mut pair.sides[CONNECTOR]);
    assert_eq!(pair.sides[CONNECTOR].window.held(), 0);
}

#[test]
fn a_response_may_end_before_the_request() {
    let mut pair = Pair::ready(Settings { backlog: 1 << 20, ..Settings::default() });
    let [edge, connector] = pair.open();
    pair.sides[EDGE].send(edge, vec![0; 600_000]).unwrap();
    pair.run_until_idle();
    pair.sides[CONNECTOR].send(connector, b"413".to_vec()).unwrap();
    pair.sides[CONNECTOR].finish(connector).unwrap();
    pair.run_until_idle();
    pair.sides[CONNECTOR].reset(connector, Cause::NotNeeded);
    pair.run_until_idle();
    assert_eq!(pair.bytes(EDGE, edge), b"413");
    let tail: Vec<_> = pair.events[EDGE].iter().rev().take(2).collect();
    assert!(matches!(tail[1], Event::Finished { .. }) && matches!(tail[0], Event::Reset { .. }), "{tail:?}");
}

#[test]
fn the_stream_limit_is_kept_on_both_sides() {
    let mut pair = Pair::ready(Settings { streams_max: 3, ..Settings::default() });
    let streams: Vec<Side2<StreamId>> = (0..3).map(|_| pair.open()).collect();
    assert_eq!(pair.sides[EDGE].open(&open()), Err(OpenError::StreamLimit));
    let [edge, connector] = streams[0];
    pair.sides[EDGE].send(edge, vec![0; 100]).unwrap();
    pair.sides[EDGE].finish(edge).unwrap();
    pair.sides[CONNECTOR].finish(connector).unwrap();
    pair.run_until_idle();
    assert_eq!(pair.sides[EDGE].streams_live(), 2);
    assert_eq!(pair.sides[CONNECTOR].streams_live(), 3, "its application has not taken the request");
    let turned_away = pair.sides[EDGE].open(&open()).unwrap();
    pair.sides[EDGE].send(turned_away, vec![0; 5_000]).unwrap();
    pair.run_until_idle();
    assert_eq!(pair.cause(EDGE, turned_away), Some(Cause::StreamLimit));
    assert!(Cause::StreamLimit.never_reached_upstream());
    assert_eq!(pair.closed(CONNECTOR), None);
    pair.sides[CONNECTOR].consumed(connector, 100);
    pair.open();
}

#[test]
fn slots_and_their_buffers_are_used_again() {
    let mut pair = Pair::ready(Settings::default());
    for _ in 0..500 {
        let [edge, connector] = pair.open();
        assert_eq!((edge.slot, connector.slot), (0, 0));
        pair.sides[EDGE].send(edge, vec![0; 100]).unwrap();
        pair.sides[EDGE].finish(edge).unwrap();
        pair.sides[CONNECTOR].send(connector, vec![0; 100]).unwrap();
        pair.sides[CONNECTOR].finish(connector).unwrap();
        pair.run_until_idle();
        pair.sides[EDGE].consumed(edge, 100);
        pair.sides[CONNECTOR].consumed(connector, 100);
        pair.clear();
    }
    for side in &pair.sides {
        assert_eq!((side.streams.live(), side.streams.slots_len(), side.control.len()), (0, 1, 0));
        assert!(side.streams.index_len() < 40);
    }
}

#[test]
fn a_released_stream_still_sends_its_queue() {
    let mut pair = Pair::ready(Settings::default());
    let [edge, connector] = pair.open();
    pair.sides[EDGE].finish(edge).unwrap();
    pair.run_until_idle();
    pair.sides[CONNECTOR].send(connector, vec![7; 1_000]).unwrap();
    assert!(!pair.sides[CONNECTOR].is_sent(connector));
    pair.sides[CONNECTOR].finish(connector).unwrap();
    pair.sides[CONNECTOR].release_stream(connector, Cause::NotNeeded);
    assert!(!pair.sides[CONNECTOR].is_sent(connector));
    pair.run_until_idle();
    assert!(pair.sides[CONNECTOR].is_sent(connector));
    assert_eq!(pair.bytes(EDGE, edge), vec![7; 1_000]);
    assert_eq!(pair.cause(EDGE, edge), None);
    pair.sides[EDGE].release_stream(edge, Cause::NotNeeded);
    assert_eq!((pair.sides[EDGE].streams_live(), pair.sides[CONNECTOR].streams_live()), (0, 0));
}

#[test]
fn a_stream_that_is_released_before_both_have_finished_is_reset() {
    let mut pair = Pair::ready(Settings::default());
    for edge_finishes in [false, true] {
        let [edge, connector] = pair.open();
        if edge_finishes {
            pair.sides[EDGE].finish(edge).unwrap();
        }
        pair.sides[EDGE].release_stream(edge, Cause::Cancelled);
        pair.run_until_idle();
        assert_eq!(pair.cause(CONNECTOR, connector), Some(Cause::Cancelled));
    }
}

/// The edge may begin the next exchange of a sealed stream before it has received everything of the previous one.
#[test]
fn a_report_that_crosses_the_next_request_is_no_fault() {
    let mut pair = Pair::ready(Settings::default());
    let [edge, connector] = pair.open();
    pair.sides[CONNECTOR].phases(connector, phases(Stage::Head)).unwrap();
    pair.sides[CONNECTOR].send(connector, b"answer".to_vec()).unwrap();
    pair.run_until_idle();
    pair.sides[EDGE].send(edge, b"next request".to_vec()).unwrap();
    pair.sides[CONNECTOR].phases(connector, phases(Stage::End)).unwrap();
    pair.run_until_idle();
    pair.sides[CONNECTOR].phases(connector, phases(Stage::Head)).unwrap();
    pair.run_until_idle();
    assert!(pair.sides[EDGE].is_ready() && pair.sides[CONNECTOR].is_ready(), "{:?}", pair.events);
    let stages = pair.events[EDGE].iter().filter(|event| matches!(event, Event::Phases { .. })).count();
    assert_eq!(stages, 3);
}
