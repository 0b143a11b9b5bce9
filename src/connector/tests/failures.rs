use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use super::bed::{
    Bed, CONNECTOR, EDGE, UPSTREAM, UPSTREAM_PORT, ms, script, settings, tables, tables_limited, tables_with, us,
};
use crate::base::Time;
use crate::engine::ByteStream;
use crate::engine::sim::Faults;
use crate::wire::mux::Cause;

const GET: &str = "GET /mcp HTTP/1.1\r\nHost: mcp.test\r\n\r\n";
const POST: &str = "POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: 4\r\n\r\nbody";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// The cause of a call whose upstream sends `answer` and closes the connection.
fn cause_after(answer: &'static str) -> Cause {
    let mut bed = Bed::new(script(move |mut peer| async move {
        peer.talk.head().await;
        peer.talk.write(answer).await;
        let _ = peer.talk.stream.flushed().await;
    }));
    let cause = Rc::new(Cell::new(None));
    let set = Rc::clone(&cause);
    bed.run(|edge| async move {
        let mut call = edge.call(GET).await;
        call.stream.finish();
        set.set(Some(call.cause().await));
    });
    assert_eq!(bed.role.counters().calls_failed.load(Ordering::Relaxed), 1);
    bed.assert_clean();
    cause.get().unwrap()
}

#[test]
fn an_upstream_that_breaks_off_or_off_the_rules_is_named() {
    let cases = [
        ("", Cause::UpstreamSilent),
        ("HTTP/1.1 200 OK\r\nContent-Le", Cause::UpstreamClosed),
        ("HTTP/1.1 103 Early Hints\r\n\r\n", Cause::UpstreamClosed),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", Cause::UpstreamClosed),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", Cause::UpstreamClosed),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", Cause::UpstreamProtocol),
        ("SSH-2.0-OpenSSH_9.6\r\n\r\n", Cause::UpstreamProtocol),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", Cause::UpstreamProtocol),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na", Cause::UpstreamProtocol),
    ];
    for (answer, cause) in cases {
        assert_eq!(cause_after(answer), cause, "{answer:?}");
    }
}

/// What is logged while `act` runs.
pub(super) fn logged(act: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let sink = Sink::default();
    let writer = sink.clone();
    // While no subscriber of the process wants an event, tracing may disable it for all threads while another test
    // emits it. A global subscriber that wants all events and writes nothing prevents that.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry());
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, act);
    let bytes = sink.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn an_answer_that_is_not_http_is_logged_with_address_and_reason_and_not_for_every_call() {
    const SETTINGS: &str = "\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64";
    let cases = [
        (SETTINGS, "the answer begins like one in HTTP/2"),
        ("\x15\x03\x01\0\x02\x02\x46", "it speaks TLS on this port"),
        ("SSH-2.0-OpenSSH_9.6\r\n\r\n", "the status line is malformed"),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "it switches protocols"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "a chunk size is malformed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "closed the connection before its answer was complete"),
    ];
    for (answer, reason) in cases {
        let mut bed = Bed::new(script(move |mut peer| async move {
            peer.talk.head().await;
            peer.talk.write(answer).await;
            let _ = peer.talk.stream.flushed().await;
        }));
        let mut calls = |n: usize, wait_ms: u64| {
            logged(|| {
                bed.run(move |edge| async move {
                    for _ in 0..n {
                        let mut call = edge.call(GET).await;
                        call.stream.finish();
                        call.cause().await;
                    }
                    edge.core.sleep(ms(wait_ms)).await;
                });
            })
        };
        let log = calls(3, 60_000);
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("cannot be passed on")).collect();
        let [line] = lines[..] else { panic!("{log}") };
        assert!(line.contains("WARN") && line.contains("10.0.0.3:9000") && line.contains(reason), "{line}");
        assert!(calls(1, 0).contains("unlogged=2"), "lines that were left out are counted");
    }
}

#[test]
fn an_upstream_that_does_not_stop_hinting_is_stopped() {
    let mut bed = Bed::new(script(|mut peer| async move {
        peer.talk.head().await;
        for _ in 0..1_000 {
            peer.talk.write("HTTP/1.1 102 Processing\r\n\r\n").await;
        }
        let _ = peer.talk.rest().await;
    }));
    bed.run(|edge| async move {
        let mut call = edge.call(GET).await;
        call.stream.finish();
        assert_eq!(call.cause().await, Cause::UpstreamProtocol);
    });
    bed.assert_clean();
}

#[test]
fn a_host_without_a_route_and_a_bad_head_never_reach_an_upstream() {
    let mut bed = Bed::new(script(|_| async { panic!("no call may arrive here") }));
    bed.run(|edge| async move {
        for (request, cause) in [
            ("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n", Cause::NoRoute),
            ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", Cause::RequestRefused),
            ("nonsense\r\n\r\n", Cause::RequestRefused),
        ] {
            assert_eq!(edge.call(request).await.cause().await, cause, "{request}");
        }
        let mut call = edge.call("GET / HT").await;
        call.stream.finish();
        assert_eq!(call.cause().await, Cause::RequestRefused);
        let began = edge.now();
        assert_eq!(edge.call("GET / HT").await.cause().await, Cause::Deadline);
        assert!(edge.now() - began < ms(31_000));
    });
    bed.assert_clean();
}

#[test]
fn an_upstream_that_takes_no_connection_is_named() {
    let mut bed = Bed::with(settings(), 1, Faults::none(), None);
    bed.run(|edge| async move {
        assert_eq!(edge.call(POST).await.cause().await, Cause::UpstreamRefused);
        edge.net.partition(CONNECTOR, UPSTREAM);
        let began = edge.now();
        assert_eq!(edge.call(POST).await.cause().await, Cause::UpstreamConnectTimeout);
        assert!((ms(2_000)..ms(2_001)).contains(&(edge.now() - began)));
    });
    let why = bed.report().upstreams[0].failing.clone().unwrap();
    assert!(why.contains("10.0.0.3:9000 did not answer within 2000 ms"), "{why}");
    bed.role.reload(tables(&[("mcp.test", "http://no.such.host")]));
    bed.run(|edge| async move { assert_eq!(edge.call(POST).await.cause().await, Cause::UpstreamUnreachable) });
    bed.assert_clean();
}

#[test]
fn too_many_calls_and_too_long_a_queue_are_overload() {
    let mut bed = Bed::with(
        crate::connector::ConnectorSettings { calls_max: 9, ..settings() },
        1,
        Faults::none(),
        Some(script(|mut peer| async move {
            let _ = peer.talk.rest().await;
        })),
    );
    bed.run(|edge| async move {
        let mut calls = Vec::new();
        for _ in 0..9 {
            calls.push(edge.call(GET).await);
        }
        // Eight have a connection each, the ninth waits for one, the tenth exceeds the limit.
        let began = edge.now();
        assert_eq!(edge.call(GET).await.cause().await, Cause::Overloaded);
        assert!(edge.now() - began < ms(1));
        assert_eq!(calls.pop().unwrap().cause().await, Cause::Overloaded);
        assert!(edge.now() - began >= ms(999));
    });
    bed.assert_clean();
}

#[test]
fn an_agent_that_leaves_is_noticed_by_the_upstream_at_once() {
    let closed = Rc::new(Cell::new(Time::ZERO));
    let set = Rc::clone(&closed);
    let mut bed = Bed::new(script(move |mut peer| {
        let set = Rc::clone(&set);
        async move {
            peer.talk.head().await;
            if peer.nth > 0 {
                peer.talk.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n").await;
            }
            let _ = peer.talk.rest().await;
            set.set(peer.core.turn_time());
        }
    }));
    for begun in [false, true] {
        let seen = Rc::clone(&closed);
        bed.run(|edge| async move {
            let mut call = edge.call(GET).await;
            call.stream.finish();
            if begun {
                call.until("a\r\n").await;
            } else {
                edge.core.sleep(ms(30)).await;
            }
            call.stream.reset(Cause::Cancelled);
            let at = edge.now();
            edge.core.sleep(ms(10)).await;
            assert!((at..at + ms(1)).contains(&seen.get()), "{at:?} {:?}", seen.get());
        });
    }
    assert_eq!(bed.role.counters().calls_cancelled.load(Ordering::Relaxed), 2);
    bed.assert_clean();
}

#[test]
fn an_agent_that_leaves_ends_the_connecting_too() {
    let mut bed = Bed::new(script(|_| async {}));
    bed.net.partition(CONNECTOR, UPSTREAM);
    bed.run(|edge| async move {
        let call = edge.call(POST).await;
        edge.core.sleep(ms(5)).await;
        assert_eq!(edge.net.open_sockets(CONNECTOR), 2);
        call.stream.reset(Cause::Cancelled);
        edge.core.sleep(ms(1)).await;
        assert_eq!(edge.net.open_sockets(CONNECTOR), 1);
    });
    bed.assert_clean();
}

#[test]
fn a_request_that_breaks_off_does_not_look_whole_to_the_upstream() {
    let ends = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&ends);
    let mut bed = Bed::new(script(move |mut peer| {
        let seen = Rc::clone(&seen);
        async move {
            peer.talk.head().await;
            let (body, ended) = peer.talk.rest().await;
            seen.borrow_mut().push((body, ended.is_err()));
        }
    }));
    bed.run(|edge| async move {
        for broken in ["3\r\nabc\r\n", "3\r\nabc\r\nzz\r\n"] {
            let request = "POST / HTTP/1.1\r\nHost: mcp.test\r\nTransfer-Encoding: chunked\r\n\r\n";
            let mut call = edge.call(request).await;
            edge.core.sleep(ms(1)).await;
            call.write(broken).await;
            call.stream.finish();
            assert_eq!(call.cause().await, Cause::RequestBroken);
        }
        edge.core.sleep(ms(1)).await;
    });
    assert!(ends.borrow().iter().all(|(_, broken)| *broken), "{ends:?}");
    assert_eq!(ends.borrow().len(), 2);
    bed.assert_clean();
}

#[test]
fn a_pooled_connection_that_was_closed_meanwhile_is_not_used() {
    let mut bed = Bed::new(script(|mut peer| async move {
        peer.talk.head().await;
        peer.talk.write(OK).await;
        // The connection is closed as soon as it is idle.
    }));
    bed.run(|edge| async move {
        for _ in 0..3 {
            assert!(edge.get().await.ends_with("ok"));
            edge.core.sleep(ms(1)).await;
        }
    });
    assert_eq!(bed.role.counters().requests_resent.load(Ordering::Relaxed), 0);
    bed.assert_clean();
}

#[test]
fn a_request_is_sent_once_more_only_when_nothing_of_it_was_sent() {
    let mut resent = 0;
    for seed in 0..40 {
        let posts = Rc::new(Cell::new(0));
        let count = Rc::clone(&posts);
        let play = script(move |mut peer| {
            let count = Rc::clone(&count);
            async move {
                peer.talk.until(if peer.nth == 0 { "\r\n\r\n" } else { "body" }).await;
                count.set(count.get() + 1);
                peer.talk.write(OK).await;
                if peer.nth > 0 {
                    let _ = peer.talk.rest().await;
                    return;
                }
                // So soon that the connector does not check the connection for its end.
                peer.core.sleep(us(300)).await;
                peer.talk.stream.abort();
            }
        });
        let mut bed = Bed::with(settings(), seed, Faults::none(), Some(play));
        bed.run(|edge| async move {
            assert!(edge.get().await.ends_with("ok"));
            // From here on the connector often reads late, and so also notices the end of the connection late.
            let slow = Faults { slow_read_chance: 0.6, slow_read_ns_max: 2_000_000, ..Faults::none() };
            edge.net.set_faults(slow);
            edge.core.sleep(us(300)).await;
            let mut call = edge.call(POST).await;
            call.stream.finish();
            assert!(call.whole().await.ends_with("ok"));
        });
        assert_eq!(posts.get(), 2, "seed {seed}");
        resent += bed.role.counters().requests_resent.load(Ordering::Relaxed);
        bed.net.calm();
        bed.assert_clean();
    }
    assert!(resent > 0, "no seed made a connection fail unseen");
}

#[test]
fn a_request_that_may_have_been_seen_is_never_sent_again() {
    let requests = Rc::new(Cell::new(0));
    let count = Rc::clone(&requests);
    let mut bed = Bed::new(script(move |mut peer| {
        let count = Rc::clone(&count);
        async move {
            peer.talk.head().await;
            peer.talk.write(OK).await;
            peer.talk.until("body").await;
            count.set(count.get() + 1);
            peer.talk.stream.abort();
        }
    }));
    bed.run(|edge| async move {
        assert!(edge.get().await.ends_with("ok"));
        let mut call = edge.call(POST).await;
        call.stream.finish();
        assert_eq!(call.cause().await, Cause::UpstreamSilent);
    });
    assert_eq!(requests.get(), 1);
    assert_eq!(bed.role.counters().requests_resent.load(Ordering::Relaxed), 0);
    bed.assert_clean();
}

#[test]
fn a_link_that_breaks_takes_its_calls_with_it() {
    let mut bed = Bed::new(script(|mut peer| async move {
        peer.talk.head().await;
        let _ = peer.talk.rest().await;
    }));
    bed.run(|edge| async move {
        let link = edge.link().await;
        let _calls = [edge.call_on(&link, GET).await, edge.call_on(&link, GET).await];
        edge.core.sleep(ms(5)).await;
        assert_eq!(edge.net.open_sockets(UPSTREAM), 2);
        edge.net.partition(EDGE, CONNECTOR);
        // PINGs detect it.
        edge.core.sleep(ms(20_000)).await;
        assert_eq!(edge.net.open_sockets(UPSTREAM), 0);
        edge.net.heal(EDGE, CONNECTOR);
        edge.core.sleep(ms(10_000)).await;
    });
    bed.assert_clean();
}

#[test]
fn a_route_may_change_under_way_and_only_its_own_connections_go() {
    let nths = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&nths);
    let mut bed = Bed::new(script(move |mut peer| {
        seen.borrow_mut().push(peer.nth);
        async move {
            loop {
                let head = peer.talk.head().await;
                peer.talk.write(OK).await;
                if head.starts_with("DELETE") {
                    break;
                }
            }
        }
    }));
    let url = format!("http://{UPSTREAM}:{UPSTREAM_PORT}");
    bed.run(|edge| async move { assert!(edge.get().await.ends_with("ok")) });
    bed.role.reload(tables(&[("new.test", "http://10.0.0.9:1"), ("mcp.test", &url)]));
    bed.run(|edge| async move { assert!(edge.get().await.ends_with("ok")) });
    assert_eq!(*nths.borrow(), [0]);
    bed.role.reload(tables(&[("new.test", &url)]));
    bed.run(|edge| async move {
        assert_eq!(edge.call(GET).await.cause().await, Cause::NoRoute);
        let mut call = edge.call("DELETE / HTTP/1.1\r\nHost: new.test\r\n\r\n").await;
        call.stream.finish();
        assert!(call.whole().await.ends_with("ok"));
    });
    assert_eq!(*nths.borrow(), [0, 1]);
    let routes: Vec<String> = bed.report().upstreams.iter().map(|up| up.route.to_string()).collect();
    assert_eq!(routes, ["new.test"]);
    bed.assert_clean();
}

#[test]
fn a_freed_connection_is_given_to_a_call_that_still_waits() {
    let mut bed = Bed::new(script(|mut peer| async move {
        loop {
            peer.talk.head().await;
            peer.core.sleep(ms(500)).await;
            peer.talk.write(OK).await;
        }
    }));
    bed.role.reload(tables_with(1, &[("mcp.test", &format!("http://{UPSTREAM}:{UPSTREAM_PORT}"))]));
    bed.run(|edge| async move {
        let mut calls = Vec::new();
        for _ in 0..3 {
            let call = edge.call(GET).await;
            call.stream.finish();
            calls.push(call);
            edge.core.sleep(ms(1)).await;
        }
        // Of the two that wait, the first one gives up.
        let last = calls.pop();
        calls.pop().unwrap().stream.reset(Cause::Cancelled);
        let began = edge.now();
        assert!(last.unwrap().rest().await.0.ends_with("ok"));
        // The rest of the first call and its own: it did not wait for its timeout.
        assert!(edge.now() - began < ms(1_001), "{:?}", edge.now() - began);
    });
}

#[test]
fn an_upstream_that_stops_reading_times_out_and_a_slow_one_does_not() {
    // The first is far more than the queues between edge and upstream can hold.
    for (goes_on, len) in [(false, 8_000_000_usize), (true, 1_000_000)] {
        let request = format!("POST /mcp HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: {len}\r\n\r\n");
        let faults = Faults { receive_buffer_bytes: 10_000, send_buffer_bytes: 10_000, ..Faults::none() };
        let upstream = script(move |mut peer| async move {
            peer.talk.head().await;
            // Bytes that arrived with the head are not counted.
            let mut left: usize = len - 65_536;
            while goes_on && left > 0 {
                // Slowly, but always within the write timeout.
                let Ok(Some(lease)) = peer.talk.stream.recv().await else { return };
                left = left.saturating_sub(lease.len());
                peer.core.sleep(ms(100)).await;
            }
            if goes_on {
                peer.talk.write(OK).await;
            }
            std::future::pending::<()>().await;
        });
        let mut bed = Bed::with(settings(), 1, faults, Some(upstream));
        let began = Rc::new(Cell::new(Time::ZERO));
        let since = Rc::clone(&began);
        bed.run(move |edge| async move {
            since.set(edge.now());
            let mut call = edge.call(request).await;
            let body = vec![b'x'; 50_000];
            for _ in 0..len / body.len() {
                call.write(&body).await;
            }
            if goes_on {
                assert!(call.whole().await.ends_with("ok"));
            } else {
                assert_eq!(call.cause().await, Cause::UpstreamTimeout);
                let took = edge.now() - since.get();
                assert!(took >= ms(60_000) && took < ms(130_000), "{took:?}");
            }
        });
    }
}

#[test]
fn a_route_may_limit_the_time_to_the_first_byte_of_an_answer_but_not_to_that_of_a_stream() {
    let mut bed = Bed::new(script(|mut peer| async move {
        while let Some(head) = peer.talk.next_head().await {
            if head.starts_with("POST") {
                peer.talk.until("body").await;
            }
            peer.core.sleep(ms(5_000)).await;
            peer.talk.write(OK).await;
        }
    }));
    bed.role.reload(tables_limited(ms(3_000)));
    bed.run(|edge| async move {
        let began = edge.now();
        let mut call = edge.call(POST).await;
        call.stream.finish();
        assert_eq!(call.cause().await, Cause::Deadline);
        assert!((ms(3_000)..ms(3_001)).contains(&(edge.now() - began)));
        assert!(edge.get().await.ends_with("ok"), "a GET waits for events");
    });
    bed.role.reload(tables_limited(ms(6_000)));
    bed.run(|edge| async move {
        let mut call = edge.call(POST).await;
        call.stream.finish();
        assert!(call.whole().await.ends_with("ok"));
    });
    bed.assert_clean();
}
