//! Connections to an upstream that closes those that are idle.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::bed::{Bed, Script, ms, script, tables_set};
use crate::engine::ByteStream;
use crate::wire::mux::Cause;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The connection that each request came on, and the first word of the request.
type Seen = Rc<RefCell<Vec<(usize, String)>>>;

/// An upstream that answers each request with `answer` while `lives` says so, and otherwise closes the connection in place of
/// an answer. `lives` gets the number of the connection and that of the request on it.
fn upstream(answer: &'static str, lives: impl Fn(usize, usize) -> bool + 'static) -> (Script, Seen) {
    let (seen, lives) = (Seen::default(), Rc::new(lives));
    let note = Rc::clone(&seen);
    let play = script(move |peer| {
        let (note, lives) = (Rc::clone(&note), Rc::clone(&lives));
        async move {
            for nth_request in 0.. {
                let Ok(Some(lease)) = peer.talk.stream.recv().await else { return };
                let word = String::from_utf8_lossy(&lease).split(' ').next().unwrap_or_default().to_owned();
                note.borrow_mut().push((peer.nth, word));
                if !lives(peer.nth, nth_request) {
                    return;
                }
                peer.talk.say(answer).await;
            }
        }
    });
    (play, seen)
}

/// On which connections three calls go, with `pause` between them.
fn connections_of_calls(answer: &'static str, idle_timeout: Duration, pause: Duration) -> Vec<usize> {
    let (play, seen) = upstream(answer, |_, _| true);
    let mut bed = Bed::new(play);
    bed.role.reload(tables_set(|settings| settings.idle_timeout = idle_timeout));
    bed.run(move |edge| async move {
        for _ in 0..3 {
            assert!(edge.get().await.ends_with("ok"));
            edge.core.sleep(pause).await;
        }
    });
    bed.assert_clean();
    let seen = seen.borrow();
    seen.iter().map(|(nth, _)| *nth).collect()
}

#[test]
fn a_connection_is_not_used_in_the_last_second_before_the_upstream_closes_it() {
    const ANNOUNCED: &str = "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=5, max=100\r\nContent-Length: 2\r\n\r\nok";
    const AT_ONCE: &str = "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nok";
    let long = ms(30_000);
    assert_eq!(connections_of_calls(ANNOUNCED, long, ms(3_900)), [0, 0, 0]);
    assert_eq!(connections_of_calls(ANNOUNCED, long, ms(4_100)), [0, 1, 2]);
    assert_eq!(connections_of_calls(AT_ONCE, long, ms(1)), [0, 1, 2]);
    // The setting counts where it is the shorter time, to the moment and not to the next look at all connections.
    assert_eq!(connections_of_calls(ANNOUNCED, ms(2_000), ms(2_100)), [0, 1, 2]);
    assert_eq!(connections_of_calls(OK, ms(4_000), ms(4_100)), [0, 1, 2]);
    assert_eq!(connections_of_calls(OK, ms(4_000), ms(3_900)), [0, 0, 0]);
}

#[test]
fn an_idempotent_request_is_sent_once_more_when_an_idle_connection_was_closed_as_it_came() {
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        // Both idle connections are closed when the next request comes.
        let (play, seen) = upstream(OK, |nth, request| nth >= 2 || request == 0);
        let mut bed = Bed::new(play);
        bed.run(move |edge| async move {
            let mut first = edge.call("GET /mcp HTTP/1.1\r\nHost: mcp.test\r\n\r\n").await;
            first.stream.finish();
            assert!(edge.get().await.ends_with("ok"));
            assert!(first.whole().await.ends_with("ok"));
            let mut call = edge.call(format!("{method} /mcp HTTP/1.1\r\nHost: mcp.test\r\n\r\n")).await;
            call.stream.finish();
            assert!(call.whole().await.starts_with("HTTP/1.1 200 OK"), "{method}");
        });
        let again = seen.borrow().iter().filter(|(_, word)| word == method).count();
        assert_eq!(again, if method == "GET" { 4 } else { 2 }, "{seen:?}");
        assert_eq!(seen.borrow().last().unwrap().0, 2, "on a new connection: {seen:?}");
        assert_eq!(bed.role.counters().requests_resent.load(Ordering::Relaxed), 1);
        bed.assert_clean();
    }
}

#[test]
fn a_post_is_not_sent_again_and_nothing_is_sent_a_third_time() {
    for (method, sent) in [("POST", 1), ("PATCH", 1), ("DELETE", 2)] {
        let (play, seen) = upstream(OK, |nth, request| nth == 0 && request == 0);
        let mut bed = Bed::new(play);
        bed.run(move |edge| async move {
            assert!(edge.get().await.ends_with("ok"));
            let mut call = edge.call(format!("{method} /mcp HTTP/1.1\r\nHost: mcp.test\r\n\r\n")).await;
            call.stream.finish();
            assert_eq!(call.cause().await, Cause::UpstreamClosed, "{method}");
        });
        assert_eq!(seen.borrow().iter().filter(|(_, word)| word == method).count(), sent, "{seen:?}");
        bed.assert_clean();
    }
}
