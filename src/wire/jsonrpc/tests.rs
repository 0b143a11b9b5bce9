use aws_lc_rs::digest;
use serde_json::{Map, Value, json};

use super::*;
use crate::base::Rng;
use crate::wire::jsonrpc::members::TRACEPARENT_LEN_MAX;

fn peek(body: &[u8]) -> Peek {
    let mut peek = Peek::new();
    peek.feed(body);
    peek
}

/// Whether servers may interpret a member differently, because a key occurs twice.
fn is_ambiguous(peek: &Peek) -> bool {
    peek.doubled != 0
}

/// The values that are compared between two inspections of the same message.
type Seen = (Option<String>, Option<String>, Option<String>, Option<String>, Option<Message>, [bool; 4]);

fn seen(peek: &Peek) -> Seen {
    let own = |text: Option<&str>| text.map(str::to_owned);
    let flags = [peek.is_whole(), peek.is_batch(), is_ambiguous(peek), peek.is_done()];
    (own(peek.method()), own(peek.id()), own(peek.name()), own(peek.uri()), peek.message(), flags)
}

#[test]
fn the_members_of_a_call_are_found_in_every_cut() {
    let body = br#" {"jsonrpc":"2.0","id":17,"method":"tools\/call","params":{"arguments":{"name":"not this","a":[1,{"name":"nor"}]},
        "name":"ec\u0068\u00f6 \ud83d\ude00","_meta":{"uri":"x"}},"method2":true} "#;
    let mut looks = Peek::new();
    for at in 0..=body.len() {
        looks.clear();
        looks.feed(&body[..at]);
        looks.feed(&body[at..]);
        assert_eq!(looks.method(), Some("tools/call"), "cut at {at}");
        assert_eq!((looks.id(), looks.name(), looks.uri()), (Some("17"), Some("echö 😀"), None), "cut at {at}");
        assert_eq!(looks.message(), Some(Message::Request));
        assert!(looks.is_whole() && looks.is_done() && !is_ambiguous(&looks) && !looks.is_batch());
    }
}

#[test]
fn kinds_of_messages() {
    let cases: [(&[u8], Option<Message>); 7] = [
        (br#"{"id":1,"method":"ping"}"#, Some(Message::Request)),
        (br#"{"method":"ping","id":1"#, Some(Message::Request)),
        (br#"{"method":"notifications/initialized"}"#, Some(Message::Notification)),
        (br#"{"method":"notifications/initialized""#, None),
        (br#"{"id":"a","result":{"method":"x"}}"#, Some(Message::Response)),
        (br#"{"id":"a","error":{}}"#, Some(Message::Response)),
        (br#"{}"#, None),
    ];
    for (body, message) in cases {
        assert_eq!(peek(body).message(), message, "{}", body.escape_ascii());
    }
}

#[test]
fn a_failed_response_is_distinguished_from_a_good_one() {
    assert!(peek(br#"{"id":1,"error":{"code":-32603,"message":"no"}}"#).has_error());
    assert!(!peek(br#"{"id":1,"result":{"error":1}}"#).has_error());
}

#[test]
fn ids_are_kept_as_they_were_written() {
    let good = ["1", "-0", "1.50", "1e+9", "12345678901234567890123", r#""a""#, r#""a\"\u00e9\\""#, r#""""#];
    for id in good {
        let body = format!(r#"{{"method":"x","id":{id} }}"#);
        assert_eq!(peek(body.as_bytes()).id(), Some(id));
    }
    let long = format!("\"{}\"", "x".repeat(ID_LEN_MAX));
    for id in ["null", "true", "[1]", "{\"id\":1}", "01", "1.", ".5", "1e", "-", "0x1", long.as_str()] {
        let body = format!(r#"{{"id":{id},"method":"x"}}"#);
        assert_eq!(peek(body.as_bytes()).id(), None, "{id}");
    }
    assert_eq!(peek(br#"{"id":12"#).id(), None, "more digits may follow");
    assert_eq!(peek(br#"{"id":"ab"#).id(), None, "more text may follow");
}

#[test]
fn two_readings_are_none_and_are_flagged() {
    let cases: [(&[u8], &str); 9] = [
        (br#"{"method":"a","method":"b"}"#, "twice"),
        (br#"{"method":"a","\u006dethod":"b"}"#, "twice, once escaped"),
        (br#"{"method":"a","Method":"b"}"#, "in another case"),
        (br#"{"METHOD":"b"}"#, "only in another case"),
        (br#"{"params":{"name":"a","name":"b"}}"#, "name twice"),
        (br#"{"params":{"name":"a"},"params":{}}"#, "params twice"),
        ("{\"params\":{\"name\":\"a\"},\"param\u{17f}\":{\"name\":\"b\"}}".as_bytes(), "params with a long s"),
        ("{\"params\":{\"tas\u{212a}Id\":\"a\"}}".as_bytes(), "taskId with a Kelvin sign"),
        (br#"{"id":1,"id":2}"#, "id twice"),
    ];
    for (body, case) in cases {
        let peek = peek(body);
        assert!(is_ambiguous(&peek), "{case}");
        assert_eq!((peek.method(), peek.id(), peek.name(), peek.task_id()), (None, None, None, None), "{case}");
    }
    assert!(!is_ambiguous(&peek(br#"{"method":"a","x":1,"x":2,"params":{"a":1,"a":2}}"#)));
}

#[test]
fn wrong_types_and_wrong_places_give_nothing() {
    let bodies: [&[u8]; 8] = [
        br#"{"method":5,"params":{"name":["a"],"uri":{"uri":"x"}}}"#,
        br#"{"method":{"method":"a"},"params":[{"name":"b"}]}"#,
        br#"{"result":{"method":"a","name":"b"},"x":{"params":{"name":"c"}}}"#,
        br#"{"params":{"params":{"name":"c"}}}"#,
        br#"{"params":"name","name":"x"}"#,
        br#""method""#,
        b"42",
        b"\xef\xbb\xbf{\"method\":\"a\"}",
    ];
    for body in bodies {
        let peek = peek(body);
        assert_eq!((peek.method(), peek.name(), peek.uri()), (None, None, None), "{}", body.escape_ascii());
    }
    assert!(peek(b" [{\"method\":\"a\"}]").is_batch());
}

#[test]
fn limits_hold() {
    let long = "x".repeat(METHOD_LEN_MAX + 1);
    assert_eq!(peek(format!(r#"{{"method":"{long}","id":1}}"#).as_bytes()).id(), Some("1"));
    assert_eq!(peek(format!(r#"{{"method":"{long}","id":1}}"#).as_bytes()).method(), None);
    let fits = &long[1..];
    assert_eq!(peek(format!(r#"{{"method":"{fits}"}}"#).as_bytes()).method(), Some(fits));

    let nested = |depth: usize| format!(r#"{{"a":{}{},"id":1}}"#, "[".repeat(depth), "]".repeat(depth));
    assert_eq!(peek(nested(DEPTH_MAX as usize - 1).as_bytes()).id(), Some("1"));
    assert_eq!(peek(nested(DEPTH_MAX as usize).as_bytes()).id(), None);
    assert!(peek("[{".repeat(100_000).as_bytes()).is_done());

    let far = format!(r#"{{"method":"a","pad":"{}","id":1}}"#, "x".repeat(PEEK_LEN_MAX));
    let peek = peek(far.as_bytes());
    assert_eq!((peek.method(), peek.id(), peek.is_done(), peek.is_whole()), (Some("a"), None, true, false));
}

#[test]
fn memory_is_used_again() {
    let mut looks = peek(br#"{"method":"tools/call","params":{"name":"abcdefgh"}}"#);
    let place = |looks: &Peek| looks.texts.each_ref().map(|text| text.bytes.as_ptr());
    let before = place(&looks);
    looks.clear();
    assert_eq!(seen(&looks), seen(&Peek::new()));
    looks.feed(br#"{"method":"tools/list","params":{"name":"hgfedcba"}}"#);
    assert_eq!(place(&looks), before);
}

fn random_text(rng: &mut Rng) -> String {
    let words = ["method", "id", "params", "name", "uri", "a\"b", "\\", "\n\u{1}", "é😀", "", "tools/call", "x/y"];
    words[rng.below(words.len() as u64) as usize].to_owned()
}

fn random_value(rng: &mut Rng, depth: u32) -> Value {
    match rng.below(if depth == 0 { 4 } else { 6 }) {
        0 => json!(rng.next_u64() as i64),
        1 => json!(rng.chance(0.5)),
        2 => Value::Null,
        3 => json!(random_text(rng)),
        4 => (0..rng.below(4)).map(|_| random_value(rng, depth - 1)).collect(),
        _ => Value::Object((0..rng.below(5)).map(|_| (random_text(rng), random_value(rng, depth - 1))).collect()),
    }
}

fn random_message(rng: &mut Rng) -> Value {
    let mut members = Map::new();
    for key in ["jsonrpc", "method", "id", "params", "result", "name"] {
        if rng.chance(0.7) {
            members.insert(key.to_owned(), random_value(rng, 3));
        }
    }
    Value::Object(members)
}

/// What a full parser finds in a message.
fn oracle(message: &Value) -> [Option<String>; 4] {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let id = message.get("id").filter(|id| id.is_string() || id.is_number());
    let id = id.map(Value::to_string).filter(|id| id.len() <= ID_LEN_MAX);
    let params = message.get("params");
    let member = |key: &str| text(params.and_then(|params| params.get(key)));
    [text(message.get("method")), id, member("name"), member("uri")]
}

fn found(peek: &Peek) -> [Option<String>; 4] {
    [peek.method(), peek.id(), peek.name(), peek.uri()].map(|text| text.map(str::to_owned))
}

#[test]
fn a_full_parser_finds_the_same() {
    let mut rng = Rng::new(11);
    let mut looks = Peek::new();
    for _ in 0..3000 {
        let message = random_message(&mut rng);
        let body = if rng.chance(0.5) { message.to_string() } else { format!("{message:#}") };
        looks.clear();
        let piece_len = rng.between(1, 40) as usize;
        body.as_bytes().chunks(piece_len).for_each(|piece| looks.feed(piece));
        assert_eq!(found(&looks), oracle(&message), "{body}");
        assert!(looks.is_whole() && !is_ambiguous(&looks), "{body}");

        // A prefix yields the same or nothing.
        let cut = rng.below(body.len() as u64) as usize;
        let prefix = peek(&body.as_bytes()[..cut]);
        for (part, whole) in found(&prefix).into_iter().zip(oracle(&message)) {
            assert!(part.is_none() || part == whole, "{body} cut at {cut}");
        }
    }
}

#[test]
fn mutated_bodies_never_mislead() {
    let mut rng = Rng::new(12);
    let telling = b"{}[]\",:\\u0 1-e\0\xffntf";
    let mut still_json = 0;
    for _ in 0..8_000 {
        let mut body = random_message(&mut rng).to_string().into_bytes();
        for _ in 0..rng.between(1, 3) {
            let at = rng.below(body.len() as u64) as usize;
            let byte = telling[rng.below(telling.len() as u64) as usize];
            match rng.below(3) {
                0 => body.insert(at, byte),
                1 => body[at] = byte,
                _ if body.len() > 1 => drop(body.remove(at)),
                _ => {}
            }
        }
        let whole = peek(&body);
        let mut cut = Peek::new();
        body.chunks(rng.between(1, 9) as usize).for_each(|piece| cut.feed(piece));
        assert_eq!(seen(&whole), seen(&cut), "{}", body.escape_ascii());
        if let Ok(message @ Value::Object(_)) = serde_json::from_slice::<Value>(&body) {
            still_json += 1;
            assert!(whole.is_whole(), "{}", body.escape_ascii());
            if !is_ambiguous(&whole) {
                let (found, [method, id, name, uri]) = (found(&whole), oracle(&message));
                // A mutated number may be written differently than the parser prints it.
                let same_id = found[1].is_some() == id.is_some() || found[1].as_ref().is_some_and(|id| id.len() > 15);
                assert!(same_id, "{}", body.escape_ascii());
                assert_eq!([&found[0], &found[2], &found[3]], [&method, &name, &uri], "{}", body.escape_ascii());
            }
        }
    }
    assert!(still_json > 400, "{still_json}: the mutations are too strong");
}

#[test]
fn arguments_have_a_digest_however_the_message_is_cut_and_spaced() {
    let digest = |text: &str, piece: usize| {
        let mut peek = Peek::new();
        peek.digest_arguments(7);
        text.as_bytes().chunks(piece).for_each(|piece| peek.feed(piece));
        peek.arguments_digest()
    };
    let message = |id: u32, arguments: &str| {
        format!(
            r#"{{"id":{id},"params":{{"_meta":{{"progressToken":{id}}},"name":"a","arguments":{arguments}}},"method":"tools/call"}}"#
        )
    };
    let one = message(1, r#"{"q":"a b \"\u00e9","n":[1,{"x":null}]}"#);
    let whole = digest(&one, one.len()).unwrap();
    for piece in 1..20 {
        assert_eq!(digest(&one, piece), Some(whole), "in pieces of {piece}");
    }
    let spaced = message(27, "{ \"q\" :\n\"a b \\\"\\u00e9\", \"n\":[1, {\"x\":null} ] }");
    assert_eq!(digest(&spaced, 7), Some(whole), "the id and white space do not count");
    let other = message(1, r#"{"q":"ab \"\u00e9","n":[1,{"x":null}]}"#);
    assert_ne!(digest(&other, 7), Some(whole), "white space within a text counts");
    assert_eq!(digest(r#"{"id":1,"method":"tools/call","params":{"name":"a"}}"#, 7), None);
    assert_eq!(digest(&one[..one.len() - 1], 7), None, "the message is incomplete");
    let mut peek = Peek::new();
    peek.feed(one.as_bytes());
    assert_eq!(peek.arguments_digest(), None, "it was not enabled");
    assert_eq!(peek.arguments_hash(), None, "it was not enabled");
    for piece in 1..20 {
        peek.clear();
        peek.hash_arguments();
        spaced.as_bytes().chunks(piece).for_each(|piece| peek.feed(piece));
        let (len, hash) = peek.arguments_hash().unwrap();
        let plain = r#"{"q":"a b \"\u00e9","n":[1,{"x":null}]}"#;
        assert_eq!(len, plain.len() as u64, "in pieces of {piece}");
        assert_eq!(hash, digest::digest(&digest::SHA256, plain.as_bytes()).as_ref(), "in pieces of {piece}");
    }
    let plain = r#"{"q":"a b \"\u00e9","n":[1,{"x":null}]}"#.as_bytes();
    for (piece, len_max) in
        (1..20).flat_map(|piece| [0, 1, plain.len() - 1, plain.len(), 1_000].map(|max| (piece, max)))
    {
        peek.clear();
        peek.keep_arguments(len_max);
        spaced.as_bytes().chunks(piece).for_each(|piece| peek.feed(piece));
        let kept = (len_max >= plain.len()).then_some(plain);
        assert_eq!(peek.kept_arguments(), kept, "at most {len_max} in pieces of {piece}");
        assert_eq!(peek.arguments_hash().unwrap().0, plain.len() as u64);
    }
    for len in [4_000, 4_096, 5_000, 20_000] {
        let long = format!(r#"{{"q":"{}"}}"#, "é".repeat(len / 2 - 4));
        let message = format!(r#"{{"method":"tools/call","params":{{"arguments":{long}}}}}"#);
        for piece in [100, 4_000, message.len()] {
            peek.clear();
            peek.hash_arguments();
            message.as_bytes().chunks(piece).for_each(|piece| peek.feed(piece));
            let expected = digest::digest(&digest::SHA256, long.as_bytes());
            let hash = peek.arguments_hash().map(|(len, hash)| (len as usize, hash));
            assert_eq!(hash, Some((long.len(), expected.as_ref().try_into().unwrap())), "{len} in pieces of {piece}");
        }
    }
    peek.clear();
    peek.hash_arguments();
    peek.feed(&one.as_bytes()[..one.len() - 1]);
    assert_eq!(peek.arguments_hash(), None, "the message is incomplete");
}

#[test]
fn the_trace_in_meta_is_found_in_every_cut_and_nowhere_else() {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let body = format!(
        r#"{{"traceparent":"a","params":{{"traceparent":"b","arguments":{{"_meta":{{"traceparent":"c"}}}},"_meta":{{"x":{{"traceparent":"d"}},"y":["traceparent"],"traceparent":"{trace}","z":{{"traceparent":"e"}}}},"name":"n"}},"id":1,"method":"tools/call"}}"#
    );
    for at in 0..=body.len() {
        let mut looks = Peek::new();
        looks.feed(&body.as_bytes()[..at]);
        looks.feed(&body.as_bytes()[at..]);
        assert_eq!((looks.traceparent(), looks.name()), (Some(trace), Some("n")), "cut at {at}");
    }
    let of_params = |params: &str| {
        let looks = peek(format!(r#"{{"id":1,"method":"tools/call","params":{params}}}"#).as_bytes());
        looks.traceparent().map(str::to_owned)
    };
    assert_eq!(of_params(r#"{"_meta":{"traceparent":"t"}}"#).as_deref(), Some("t"));
    for none in [
        r#"{"_meta":["traceparent","t"]}"#,
        r#"{"_meta":{"traceparent":7}}"#,
        r#"{"_meta":{"traceparent":"t","traceparent":"u"}}"#,
        r#"{"_meta":{"traceparent":"t"},"_meta":{}}"#,
        r#"{"_meta":"traceparent"}"#,
    ] {
        assert_eq!(of_params(none), None, "{none}");
    }
    assert_eq!(of_params(&format!(r#"{{"_meta":{{"traceparent":"{}"}}}}"#, "t".repeat(TRACEPARENT_LEN_MAX + 1))), None);
    // A repeated `_meta` does not make a call ambiguous.
    let doubled = peek(br#"{"id":1,"method":"tools/call","params":{"name":"n","_meta":{},"_meta":{}}}"#);
    assert_eq!((doubled.reading(MessageMember::Name), doubled.name()), (Reading::Read, Some("n")));
}
