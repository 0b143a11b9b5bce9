//! What a connector may do that the stock program does only sometimes, or never.

use adit::wire::cloudflared::{ControlEvent, RegistrationAnswer};
use bytes::Bytes;
use http::Response;
use http::response::Builder;
use tokio_rustls::rustls::NamedGroup;

use super::peer::{Peer, dial, registration};
use super::site::{Site, run, within};

/// The head of an answer of the server, with `Content-Type: a` among its fields.
fn of_origin() -> Builder {
    let response = Response::builder().header("cf-cloudflared-response-meta", r#"{"src":"origin"}"#);
    response.header("cf-cloudflared-response-headers", "Q29udGVudC1UeXBl:YQ")
}

/// The code of the error with which the edge answers a call that `answer` answers.
async fn failed_with(site: &Site, peer: &mut Peer, answer: impl FnOnce(super::peer::Call)) -> String {
    let call = site.agent().post(site.url("/")).body(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).send();
    let answering = async { answer(peer.call().await) };
    let (answered, ()) = tokio::join!(call, answering);
    let body: serde_json::Value = serde_json::from_slice(&answered.unwrap().bytes().await.unwrap()).unwrap();
    body["error"]["data"]["reason"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn both_groups_of_the_stock_program_are_accepted_and_a_connection_may_end_before_it_registers() {
    run(async |site| {
        for group in [NamedGroup::X25519MLKEM768, NamedGroup::secp256r1] {
            let stream = dial(&site, group).await;
            let chosen = stream.get_ref().1.negotiated_key_exchange_group().unwrap().name();
            assert_eq!((chosen, stream.get_ref().1.alpn_protocol()), (group, None));
        }
        // The edge goes on.
        let mut peer = Peer::register(&site, &registration(1, 0)).await;
        let call = site.agent().get(site.url("/")).send();
        let answering = async {
            let (_, mut respond) = peer.call().await;
            let mut body = respond.send_response(of_origin().status(201).body(()).unwrap(), false).unwrap();
            body.send_data(Bytes::from_static(b"yes"), true).unwrap();
        };
        let (answer, ()) = tokio::join!(call, answering);
        let answer = answer.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()["content-type"].to_str().unwrap()), (201, "a"));
        assert_eq!(answer.text().await.unwrap(), "yes");
    });
}

#[test]
fn a_connector_without_the_tunnels_uuid_or_with_rubbish_is_refused_and_its_connection_closed() {
    run(async |site| {
        let mut other = registration(1, 0);
        other.tunnel = other.connector;
        let mut peer = Peer::connect(&site, &other).await;
        let ControlEvent::Registered(RegistrationAnswer::Refused(error)) = peer.event().await else {
            panic!("it is refused")
        };
        assert!(!error.should_retry && error.cause.contains("unknown to this edge"), "{error:?}");
        peer.closed().await;
        for rubbish in [&[0xff; 64][..], &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f]] {
            let mut peer = Peer::connect(&site, &registration(1, 0)).await;
            peer.send(rubbish.to_vec());
            peer.closed().await;
        }
    });
}

#[test]
fn a_newer_connection_with_the_same_number_replaces_the_older_one() {
    run(async |site| {
        let older = Peer::register(&site, &registration(1, 0)).await;
        let _beside = Peer::register(&site, &registration(1, 1)).await;
        let _other = Peer::register(&site, &registration(2, 0)).await;
        let _newer = Peer::register(&site, &registration(1, 0)).await;
        older.closed().await;
    });
}

#[test]
fn answers_that_are_none_of_the_server_are_errors_of_the_call_alone() {
    run(async |site| {
        let mut peer = Peer::register(&site, &registration(1, 0)).await;
        // Nothing says who has answered.
        let code = failed_with(&site, &mut peer, |(_, mut respond)| {
            respond.send_response(Response::new(()), true).unwrap();
        });
        assert_eq!(code.await, "upstream_broken");
        let code = failed_with(&site, &mut peer, |(_, mut respond)| {
            let answer =
                Response::builder().status(502).header("cf-cloudflared-response-meta", r#"{"src":"cloudflared"}"#);
            respond.send_response(answer.body(()).unwrap(), true).unwrap();
        });
        assert_eq!(code.await, "no_upstream_answer");
        // The reset overtakes the head.
        let code = failed_with(&site, &mut peer, |(_, mut respond)| respond.send_reset(h2::Reason::INTERNAL_ERROR));
        assert_eq!(code.await, "upstream_broken");
        let code = failed_with(&site, &mut peer, |(_, mut respond)| {
            let answer = of_origin().header("cf-cloudflared-response-headers", "YQ").body(()).unwrap();
            respond.send_response(answer, true).unwrap();
        });
        assert_eq!(code.await, "upstream_broken");
    });
}

#[test]
fn a_whole_answer_is_passed_on_although_the_rest_of_the_request_is_not_wanted() {
    run(async |site| {
        let mut peer = Peer::register(&site, &registration(1, 0)).await;
        // More than the connection takes ahead.
        let call = site.agent().post(site.url("/")).body(vec![b'x'; 4 << 20]).send();
        let answering = async {
            // The request is dropped, which resets the stream behind the answer (NO_ERROR), as servers of Go do.
            let (_, mut respond) = peer.call().await;
            let mut body = respond.send_response(of_origin().status(413).body(()).unwrap(), false).unwrap();
            body.send_data(Bytes::from_static(b"too much"), true).unwrap();
        };
        let (answer, ()) = tokio::join!(call, answering);
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 413);
        assert_eq!(answer.text().await.unwrap(), "too much");
    });
}

#[test]
fn a_call_is_cancelled_at_the_connector_when_its_agent_leaves() {
    run(async |site| {
        let mut peer = Peer::register(&site, &registration(1, 0)).await;
        let call = site.agent().get(site.url("/")).send();
        let taken = async {
            let (_, mut respond) = peer.call().await;
            respond.send_response(of_origin().body(()).unwrap(), false).unwrap()
        };
        let (answer, mut body) = tokio::join!(call, taken);
        drop(answer.unwrap());
        let reason = within(std::future::poll_fn(|cx| body.poll_reset(cx))).await.unwrap();
        assert_eq!(reason, h2::Reason::CANCEL);
    });
}
