use super::*;

const WAIT: Duration = Duration::from_millis(300);

/// A link with a window of 40,000 bytes whose edge receives `each` bytes on the streams, from a peer that ignores
/// shares.
fn clogged(each: &[usize]) -> (Pair, Vec<StreamId>) {
    let mut pair = Pair::ready(Settings {
        stream_window: 20_000,
        link_window: 40_000,
        slow_reader_ms: WAIT.as_millis() as u32,
        ..Settings::default()
    });
    pair.sides[CONNECTOR].ignore_shares();
    let streams: Vec<Side2<StreamId>> = each.iter().map(|_| pair.open()).collect();
    for ([_, connector], len) in streams.iter().zip(each) {
        pair.sides[CONNECTOR].send(*connector, vec![0; *len]).unwrap();
        pair.run_until_idle();
    }
    (pair, streams.iter().map(|[edge, _]| *edge).collect())
}

fn wait(pair: &mut Pair, time: Duration) {
    pair.now += time;
    pair.sides[EDGE].handle_timeout(pair.now);
    pair.collect(EDGE);
    pair.run_until_idle();
}

#[test]
fn unread_streams_are_reset_when_they_block_the_link() {
    let (mut pair, streams) = clogged(&[20_000, 12_000, 20_000]);
    assert_eq!(pair.sides[EDGE].window.held(), 40_000);
    assert_eq!(pair.bytes(EDGE, streams[2]).len(), 8_000, "the third waits for the first two");
    wait(&mut pair, WAIT - Duration::from_millis(50));
    assert_eq!(pair.cause(EDGE, streams[0]), None);
    wait(&mut pair, Duration::from_millis(60));
    assert_eq!(pair.cause(EDGE, streams[0]), Some(Cause::SlowReader), "the one that holds the most");
    assert_eq!(pair.cause(CONNECTOR, streams[0]), Some(Cause::SlowReader));
    assert_eq!(pair.cause(EDGE, streams[1]), None);
    assert_eq!(pair.bytes(EDGE, streams[2]).len(), 20_000, "the third continues");
}

#[test]
fn a_reader_that_takes_something_is_spared_however_much_it_holds() {
    let (mut pair, streams) = clogged(&[20_000, 18_000]);
    for _ in 0..10 {
        pair.sides[EDGE].consumed(streams[0], 60);
        pair.sides[CONNECTOR].send(streams[0], vec![0; 60]).unwrap();
        pair.run_until_idle();
    }
    assert_eq!(pair.sides[EDGE].window.held(), 38_000);
    wait(&mut pair, WAIT);
    assert_eq!(pair.cause(EDGE, streams[0]), None);
    assert_eq!(pair.cause(EDGE, streams[1]), Some(Cause::SlowReader));
}

#[test]
fn a_reader_that_takes_from_the_queues_behind_the_stream_is_spared() {
    let (mut pair, streams) = clogged(&[20_000, 18_000]);
    for _ in 0..10 {
        pair.sides[EDGE].reader_took(streams[0], 60);
        // Far less than the minimum.
        pair.sides[EDGE].reader_took(streams[1], 10);
        pair.now += WAIT / 10;
    }
    wait(&mut pair, Duration::ZERO);
    assert_eq!(pair.cause(EDGE, streams[0]), None);
    assert_eq!(pair.cause(EDGE, streams[1]), Some(Cause::SlowReader));
    assert_eq!(pair.sides[EDGE].window.held(), 20_000);
}

#[test]
fn a_small_rest_that_was_taken_whole_is_enough() {
    let (mut pair, streams) = clogged(&[20_000, 20_000, 100]);
    pair.sides[EDGE].consumed(streams[0], 5_000);
    pair.run_until_idle();
    assert_eq!(pair.bytes(EDGE, streams[2]).len(), 100);
    pair.sides[EDGE].reader_took(streams[2], 100);
    wait(&mut pair, WAIT);
    assert_eq!(pair.cause(EDGE, streams[2]), None);
    assert_eq!(pair.cause(EDGE, streams[1]), Some(Cause::SlowReader));
}

#[test]
fn no_stream_is_reset_when_the_link_is_not_blocked_or_not_shared() {
    // With a peer that divides the window into shares, unread streams hold three quarters of it.
    let (mut pair, streams) = clogged(&[20_000, 14_000]);
    wait(&mut pair, 20 * WAIT);
    assert!(streams.iter().all(|stream| pair.cause(EDGE, *stream).is_none()));
    let mut pair = Pair::ready(Settings { stream_window: 20_000, link_window: 20_000, ..Settings::default() });
    let [edge, connector] = pair.open();
    pair.sides[CONNECTOR].send(connector, vec![0; 20_000]).unwrap();
    pair.run_until_idle();
    wait(&mut pair, Duration::from_secs(12));
    assert_eq!((pair.cause(EDGE, edge), pair.closed(EDGE)), (None, None));
}

#[test]
fn a_link_that_clears_by_itself_starts_the_watch_anew() {
    let (mut pair, streams) = clogged(&[20_000, 18_000]);
    wait(&mut pair, WAIT - Duration::from_millis(50));
    pair.sides[EDGE].consumed(streams[0], 20_000);
    pair.sides[CONNECTOR].send(streams[0], vec![0; 5_000]).unwrap();
    pair.run_until_idle();
    wait(&mut pair, Duration::from_millis(100));
    assert!(streams.iter().all(|stream| pair.cause(EDGE, *stream).is_none()));
}
