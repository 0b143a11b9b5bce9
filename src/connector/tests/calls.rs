use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::bed::{Bed, UPSTREAM, UPSTREAM_PORT, ms, script, us};
use crate::engine::ByteStream;
use crate::wire::http1::{BodyDecoder, Decoded, Framing};
use crate::wire::mux::{Phases, Stage};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_call_is_forwarded_with_the_upstreams_own_host_and_answered() {
    let mut bed = Bed::new(script(|mut peer| async move {
        let request = peer.talk.until("{\"id\":1}").await;
        let want = format!(
            "POST /mcp?x=1 HTTP/1.1\r\nHost: {UPSTREAM}:{UPSTREAM_PORT}\r\nX-Forwarded-For: 192.0.2.1\r\n\
             X-Odd: a\r\nX-Odd: b\r\nContent-Length: 8\r\n\r\n{{\"id\":1}}"
        );
        assert_eq!(request, want);
        let answer = "HTTP/1.1 200 Fine\r\nContent-Type: application/json\r\nMcp-Session-Id: s\r\nContent-Length: 9\r\n\
                      Keep-Alive: timeout=5\r\n\r\n{\"ok\":\"é\"";
        peer.talk.write(&answer.as_bytes()[..answer.len() - 1]).await;
        peer.talk.rest().await.1.unwrap();
    }));
    bed.run(|edge| async move {
        let mut call = edge
            .call(
                "POST /mcp?x=1 HTTP/1.1\r\nHost: mcp.test\r\nX-Forwarded-For: 192.0.2.1\r\nX-Odd: a\r\nX-Odd: b\r\n\
                 Content-Length: 8\r\n\r\n{\"id\":1}",
            )
            .await;
        call.stream.finish();
        let (text, ended) = call.rest().await;
        assert_eq!(ended, Ok(()));
        assert!(
            text.starts_with("HTTP/1.1 200 Fine\r\nContent-Type: application/json\r\nMcp-Session-Id: s\r\n"),
            "{text}"
        );
        assert!(!text.contains("Keep-Alive") && text.contains("\r\nContent-Length: 9\r\n"), "{text}");
    });
    bed.assert_clean();
}

#[test]
fn events_pass_as_they_come() {
    let mut bed = Bed::new(script(|mut peer| async move {
        peer.talk.head().await;
        peer.talk
            .write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        for n in 0..3 {
            peer.core.sleep(ms(50)).await;
            peer.talk.write(format!("9;ext=1\r\ndata: {n}\n\n\r\n")).await;
        }
        peer.core.sleep(ms(50)).await;
        peer.talk.write("0\r\n\r\n").await;
        peer.talk.rest().await.1.unwrap();
    }));
    bed.run(|edge| async move {
        let mut call = edge.call("GET /mcp HTTP/1.1\r\nHost: mcp.test\r\n\r\n").await;
        call.stream.finish();
        let head = call.head().await;
        assert!(head.ends_with("Transfer-Encoding: chunked\r\n\r\n"), "{head}");
        let began = edge.now();
        for n in 0..3 {
            assert_eq!(call.until("\n\n\r\n").await, format!("9\r\ndata: {n}\n\n\r\n"));
            assert_eq!(edge.now() - began, ms(50) * (n + 1));
        }
        assert_eq!(call.whole().await, "0\r\n\r\n");
    });
    bed.assert_clean();
}

#[test]
fn a_chunked_upload_passes_while_the_answer_comes_with_its_trailers() {
    let mut bed = Bed::new(script(|mut peer| async move {
        let head = peer.talk.head().await;
        assert!(head.contains("\r\nTransfer-Encoding: chunked\r\n"), "{head}");
        assert_eq!(peer.talk.until("\r\none\r\n").await, "3\r\none\r\n");
        peer.talk.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n").await;
        assert_eq!(peer.talk.until("\r\n\r\n").await, "3\r\ntwo\r\n0\r\nX-Sum: 6\r\n\r\n");
        peer.talk.write("1\r\nb\r\n0\r\nX-Sum: 2\r\n\r\n").await;
        peer.talk.rest().await.1.unwrap();
    }));
    bed.run(|edge| async move {
        let mut call = edge.call("POST / HTTP/1.1\r\nHost: mcp.test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        call.write("3\r\none\r\n").await;
        call.head().await;
        assert_eq!(call.until("a\r\n").await, "1\r\na\r\n");
        call.write("3\r\ntwo\r\n0\r\nX-Sum: 6\r\n\r\n").await;
        call.stream.finish();
        assert_eq!(call.whole().await, "1\r\nb\r\n0\r\nX-Sum: 2\r\n\r\n");
    });
    bed.assert_clean();
}

#[test]
fn large_bodies_pass_both_ways_whole() {
    let body = |seed: usize| -> String { (0..1_000_000).map(|n| char::from(b'a' + ((n * seed) % 23) as u8)).collect() };
    let mut bed = Bed::new(script(move |mut peer| async move {
        let request = peer.talk.until("zzz").await;
        assert!(request.ends_with(&format!("\r\n\r\n{}zzz", body(5))));
        peer.talk.write(format!("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{}", body(7))).await;
        peer.talk.rest().await.1.unwrap();
    }));
    bed.run(move |edge| async move {
        let mut call = edge
            .call(format!("POST / HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: 1000003\r\n\r\n{}zzz", body(5)))
            .await;
        call.stream.finish();
        let text = call.whole().await;
        assert!(text.ends_with(&format!("\r\n\r\n{}", body(7))), "{}", text.len());
    });
    bed.assert_clean();
}

#[test]
fn one_connection_serves_one_call_after_another() {
    let connections = Rc::new(Cell::new(0));
    let count = Rc::clone(&connections);
    let mut bed = Bed::new(script(move |mut peer| {
        count.set(peer.nth + 1);
        async move {
            for _ in 0..3 {
                peer.talk.head().await;
                peer.talk.write(OK).await;
            }
            peer.talk.rest().await.1.unwrap();
        }
    }));
    bed.run(|edge| async move {
        for _ in 0..3 {
            assert!(edge.get().await.ends_with("\r\n\r\nok"));
        }
    });
    assert_eq!(connections.get(), 1);
    let report = bed.report();
    assert_eq!((report.upstreams[0].connections_open, report.links[0].streams), (1, 0));
    bed.assert_clean();
}

#[test]
fn a_connection_that_an_upstream_ends_or_overfills_is_not_used_again() {
    let answers = [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\nHTTP/1.1 200 OK\r\n",
        OK,
    ];
    let nths = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&nths);
    let mut bed = Bed::new(script(move |mut peer| {
        seen.borrow_mut().push(peer.nth);
        async move {
            peer.talk.head().await;
            peer.talk.write(answers[peer.nth]).await;
            let _ = peer.talk.rest().await;
        }
    }));
    bed.run(move |edge| async move {
        for _ in answers {
            assert!(edge.get().await.ends_with("\r\n\r\nok"));
        }
    });
    assert_eq!(*nths.borrow(), [0, 1, 2, 3]);
    bed.assert_clean();
}

#[test]
fn a_body_that_ends_with_the_connection_becomes_chunked() {
    let mut bed = Bed::new(script(|mut peer| async move {
        peer.talk.head().await;
        peer.talk.write("HTTP/1.1 200 OK\r\n\r\nall of it").await;
    }));
    bed.run(|edge| async move {
        let answer = edge.get().await;
        assert!(answer.ends_with("Transfer-Encoding: chunked\r\n\r\n9\r\nall of it\r\n0\r\n\r\n"), "{answer}");
    });
    bed.assert_clean();
}

#[test]
fn head_and_bodiless_statuses_have_no_body_and_keep_the_connection() {
    let mut bed = Bed::new(script(|mut peer| async move {
        assert_eq!(peer.nth, 0);
        assert!(peer.talk.head().await.starts_with("HEAD "));
        peer.talk.write("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n").await;
        peer.talk.until("{}").await;
        peer.talk.write("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
        peer.talk.head().await;
        peer.talk.write("HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n").await;
        peer.talk.rest().await.1.unwrap();
    }));
    bed.run(|edge| async move {
        for (request, want) in [
            ("HEAD / HTTP/1.1\r\nHost: mcp.test\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
            (
                "POST / HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: 2\r\n\r\n{}",
                "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
            ),
            ("GET / HTTP/1.1\r\nHost: mcp.test\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 77\r\n\r\n"),
        ] {
            let mut call = edge.call(request).await;
            call.stream.finish();
            assert_eq!(call.whole().await, want);
        }
    });
    bed.assert_clean();
}

#[test]
fn an_upstream_is_asked_whether_it_wants_the_body_and_its_other_hints_pass() {
    let mut bed = Bed::new(script(|mut peer| async move {
        let head = peer.talk.head().await;
        assert!(head.contains("\r\nExpect: 100-continue\r\n"), "{head}");
        peer.talk.write("HTTP/1.1 100 Continue\r\n\r\n").await;
        peer.talk.until("body").await;
        peer.talk.write("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n").await;
        peer.core.sleep(ms(10)).await;
        peer.talk.write(OK).await;
        peer.talk.rest().await.1.unwrap();
    }));
    bed.run(|edge| async move {
        let mut call =
            edge.call("POST / HTTP/1.1\r\nHost: mcp.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n").await;
        assert_eq!(call.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
        call.write("body").await;
        call.stream.finish();
        assert_eq!(call.head().await, "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
        assert!(call.whole().await.ends_with("\r\n\r\nok"));
        let phases = call.stream.phases().unwrap();
        // The interim response is not the answer.
        assert_eq!((phases.upstream_first_ns, phases.connector_ns), (10_060_000, 0));
    });
    bed.assert_clean();
}

#[test]
fn the_time_is_split_to_the_nanosecond_and_reported_in_order() {
    let ns = |duration: std::time::Duration| duration.as_nanos() as u64;
    let mut bed = Bed::new(script(|mut peer| async move {
        for _ in 0..2 {
            peer.talk.head().await;
            peer.core.sleep(ms(20)).await;
            peer.talk.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab").await;
            peer.core.sleep(ms(5)).await;
            peer.talk.write("cd").await;
        }
        peer.talk.rest().await.1.unwrap();
    }));
    bed.run(move |edge| async move {
        for upstream_connect in [us(20), us(0)] {
            let mut call = edge.call("GET / HTTP/1.1\r\nHost: mcp.test\r\n\r\n").await;
            call.stream.finish();
            call.head().await;
            let first = Phases {
                stage: Stage::Head,
                connector_ns: 0,
                upstream_connect_ns: ns(upstream_connect),
                upstream_first_ns: ns(ms(20) + us(20)),
                upstream_last_ns: 0,
            };
            assert_eq!(call.stream.phases(), Some(first));
            call.whole().await;
            let last = Phases { stage: Stage::End, upstream_last_ns: ns(ms(25) + us(20)), ..first };
            assert_eq!(call.stream.phases(), Some(last));
        }
    });
    bed.assert_clean();
}

#[test]
fn an_early_answer_ends_the_call_although_the_request_continues() {
    let mut bed = Bed::new(script(|mut peer| async move {
        if peer.nth == 0 {
            peer.talk.head().await;
            peer.talk.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno").await;
            assert!(peer.talk.rest().await.1.is_err(), "the connection is unusable");
        } else {
            peer.talk.head().await;
            peer.talk.write(OK).await;
        }
    }));
    bed.run(|edge| async move {
        let mut call = edge.call("POST / HTTP/1.1\r\nHost: mcp.test\r\nContent-Length: 1000\r\n\r\nabc").await;
        let (answer, ended) = call.rest().await;
        assert!(answer.ends_with("\r\n\r\nno"), "{answer}");
        assert_eq!(ended, Ok(()));
        drop(call);
        assert!(edge.get().await.ends_with("\r\n\r\nok"));
    });
    bed.assert_clean();
}

#[test]
fn many_calls_at_once_share_a_bounded_number_of_connections() {
    let most = Rc::new(Cell::new(0));
    let seen = Rc::clone(&most);
    let mut bed = Bed::new(script(move |mut peer| {
        seen.set(peer.nth + 1);
        async move {
            while peer.talk.next_head().await.is_some() {
                peer.core.sleep(ms(10)).await;
                peer.talk.write(OK).await;
            }
        }
    }));
    bed.run(|edge| async move {
        let left = Rc::new(Cell::new(50));
        for _ in 0..50 {
            let (core, edge, left) = (edge.core.clone(), edge.clone(), Rc::clone(&left));
            core.spawn(async move {
                assert!(edge.get().await.ends_with("\r\n\r\nok"));
                left.set(left.get() - 1);
            });
        }
        while left.get() > 0 {
            edge.core.sleep(ms(1)).await;
        }
    });
    assert_eq!(most.get(), 8);
    bed.assert_clean();
    let tasks = bed.report().tasks_open;
    bed.pass(ms(30_000));
    let left = bed.report().tasks_open;
    assert!(left + 40 <= tasks, "{left} of {tasks} tasks are left: workers that are not needed have ended");
    bed.run(|edge| async move { assert!(edge.get().await.ends_with("\r\n\r\nok")) });
}

#[test]
fn a_burst_of_events_waits_for_a_link_that_is_full() {
    const EVENTS: usize = 400;
    let event = |n: usize| format!("data: {n:04}{}\n\n", "x".repeat(2_090));
    let mut bed = Bed::new(script(move |mut peer| async move {
        peer.talk.head().await;
        let mut burst = String::from("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for n in 0..EVENTS {
            let event = event(n);
            burst.push_str(&format!("{:x}\r\n{event}\r\n", event.len()));
        }
        peer.talk.write(burst + "0\r\n\r\n").await;
        peer.talk.rest().await.1.unwrap();
    }));
    bed.run(move |edge| async move {
        let mut call = edge.call("GET /mcp HTTP/1.1\r\nHost: mcp.test\r\n\r\n").await;
        call.stream.finish();
        call.head().await;
        // The credit of the stream is used up long before the events are.
        edge.core.sleep(ms(1_000)).await;
        let (mut framed, mut body) = (call.whole().await.into_bytes(), Vec::new());
        let mut decoder = BodyDecoder::new(Framing::Chunked);
        while let Decoded::Data(data) = decoder.next(&mut framed).unwrap() {
            body.extend(data);
        }
        assert!(decoder.is_done() && body == (0..EVENTS).map(event).collect::<String>().into_bytes());
    });
    bed.assert_clean();
}
