//! Attempts to get past a policy: messages that two readers could interpret differently, split in every way.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde_json::Value;

use crate::base::{Budget, Rng, Time};
use crate::engine::{Class, Pool, StreamError};
use crate::exchange::{BodySource, Piece};
use crate::policy::{QuotaTime, ToolPolicy};
use crate::serve::governed::Governing;
use crate::serve::label::CallLabel;
use crate::serve::read_ahead::LabelError;
use crate::wire::http1::{BodyError, RequestHead};

const SECRET: &str = "delete_all";

fn policy() -> Arc<ToolPolicy> {
    let text = "[[rule]]\nname = 'some'\neffect = 'allow'\ntools = ['search', 'get_*', 'é*']\nprompts = ['p']\n\
                resources = ['file:///docs/*']\n[[rule]]\neffect = 'allow'\nmethods = ['tasks/*']\n[[rule]]\nname = 'none'\neffect = 'deny'\ntools = ['get_secret']\n";
    Arc::new(ToolPolicy::parse(text).unwrap())
}

/// A body that arrives in these pieces.
struct Cut<'a> {
    pool: &'a Pool,
    pieces: Vec<&'a [u8]>,
}

impl BodySource for Cut<'_> {
    fn next(&mut self) -> Result<Piece, BodyError> {
        loop {
            let Some(piece) = (!self.pieces.is_empty()).then(|| self.pieces.remove(0)) else { return Ok(Piece::End) };
            if piece.is_empty() {
                continue;
            }
            let (piece, rest) = piece.split_at(piece.len().min(60_000));
            if !rest.is_empty() {
                self.pieces.insert(0, rest);
            }
            let mut lease = self.pool.take(Class::for_len(piece.len())).unwrap();
            assert_eq!(lease.append_some(piece), piece.len());
            return Ok(Piece::Data(lease));
        }
    }

    async fn more(&mut self) -> Result<(), StreamError> {
        unreachable!("it never waits")
    }

    fn trailers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        std::iter::empty()
    }
}

fn head(fields: &str) -> RequestHead {
    let mut head = RequestHead::new();
    head.feed(format!("POST /mcp HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: 1\r\n\r\n").as_bytes()).unwrap();
    head
}

fn governing(policy: &Arc<ToolPolicy>) -> Governing<'_> {
    let time = QuotaTime { now: Time::ZERO, unix: Duration::ZERO };
    Governing { policy, address: None, time, core: None }
}

/// What the server receives of a body, and the error if that is not all.
fn passed(pool: &Pool, policy: &Arc<ToolPolicy>, fields: &str, pieces: &[&[u8]]) -> (Vec<u8>, Result<(), LabelError>) {
    let (head, memory) = (head(fields), Budget::new(1 << 20, 0));
    let mut label = CallLabel::default();
    label.begin(&head);
    label.govern(&governing(policy), &head);
    let mut source = Cut { pool, pieces: pieces.to_vec() };
    let mut sent = Vec::new();
    let read = {
        let mut reading = pin!(label.read_on(&head, &mut source, &memory));
        match reading.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(read) => read,
            Poll::Pending => panic!("it never waits"),
        }
    };
    if let Err(error) = read {
        return (sent, Err(error));
    }
    while let Some(piece) = label.ahead.pop() {
        sent.extend_from_slice(&piece);
    }
    loop {
        match source.next().unwrap() {
            Piece::Data(piece) => match label.read_passing(&piece) {
                Ok(()) => sent.extend_from_slice(&piece),
                Err(error) => return (sent, Err(error.into())),
            },
            _ => return (sent, Ok(())),
        }
    }
}

/// Whether a server could interpret the bytes as something that is denied: one that keeps the last of two keys, one
/// that keeps the first, one that ignores case, one that reads only the first value, and one that detects UTF-16.
fn may_reach(body: &[u8]) -> bool {
    let mut values: Vec<Value> = Vec::new();
    let texts =
        [String::from_utf8_lossy(body).into_owned(), utf16(body, u16::from_le_bytes), utf16(body, u16::from_be_bytes)];
    for text in texts {
        let text = text.trim_start_matches('\u{feff}');
        values.extend(serde_json::Deserializer::from_str(text).into_iter::<Value>().map_while(Result::ok).take(1));
        // For the first of two keys, hide the later ones: a repeated name is checked in both ways.
        if let Some(first) = text.find(SECRET) {
            let is_whole = serde_json::from_str::<Value>(text).is_ok();
            let as_name = text[..first].trim_end_matches('"').trim_end().ends_with(':');
            let key = text[..first].trim_end_matches(['"', ':', ' ']).rsplit('"').next().unwrap_or_default();
            if is_whole && as_name && key.eq_ignore_ascii_case("name") && !text[..first].contains("arguments") {
                return text.contains("tools/call");
            }
        }
    }
    values.iter().any(|value| match value {
        Value::Array(messages) => messages.iter().any(is_denied),
        message => is_denied(message),
    })
}

fn utf16(body: &[u8], of: fn([u8; 2]) -> u16) -> String {
    let units: Vec<u16> = body.chunks_exact(2).map(|pair| of([pair[0], pair[1]])).collect();
    String::from_utf16_lossy(&units)
}

fn is_denied(message: &Value) -> bool {
    let name = message["params"]["name"].as_str().unwrap_or_default().trim_matches('\0').to_ascii_lowercase();
    let uri = message["params"]["uri"].as_str().unwrap_or_default();
    match message["method"].as_str() {
        Some("tools/call") => name == SECRET || name == "get_secret",
        Some("resources/read") => uri.contains("/key") && !uri.starts_with("file:///docs/key"),
        _ => false,
    }
}

fn call(name: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}","arguments":{{}}}}}}"#)
}

/// Bodies that try to get past the policy.
fn attacks() -> Vec<(String, Vec<u8>)> {
    let good = call("search");
    let bad = call(SECRET);
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |fields: &str, body: Vec<u8>| all.push((fields.to_owned(), body));
    // Each key twice, in both orders, plain, escaped, and in another case.
    for name in ["name", "n\\u0061me", "Name", "NAME", "nam\\u0065"] {
        for other in ["name", "\\u006eame", "Name"] {
            for (first, second) in [("search", SECRET), (SECRET, "search")] {
                add(
                    "",
                    format!(r#"{{"id":1,"method":"tools/call","params":{{"{name}":"{first}","{other}":"{second}"}}}}"#)
                        .into(),
                );
                add(
                    "",
                    format!(r#"{{"id":1,"params":{{"{name}":"{first}","{other}":"{second}"}},"method":"tools/call"}}"#)
                        .into(),
                );
            }
        }
    }
    for (method, other) in
        [("method", "method"), ("method", "Method"), ("m\\u0065thod", "method"), ("METHOD", "method")]
    {
        for (first, second) in [("ping", "tools/call"), ("tools/call", "ping"), ("tools/list", "tools/call")] {
            add(
                "",
                format!(r#"{{"id":1,"{method}":"{first}","params":{{"name":"{SECRET}"}},"{other}":"{second}"}}"#)
                    .into(),
            );
            let pad = "x".repeat(70_000);
            add(
                "",
                format!(
                    r#"{{"id":1,"{method}":"{first}","p":"{pad}","params":{{"name":"{SECRET}"}},"{other}":"{second}"}}"#
                )
                .into(),
            );
        }
    }
    for (params, other) in [("params", "params"), ("params", "Params"), ("par\\u0061ms", "params")] {
        for (first, second) in [("search", SECRET), (SECRET, "search")] {
            add("", format!(r#"{{"id":1,"method":"tools/call","{params}":{{"name":"{first}"}},"{other}":{{"name":"{second}"}}}}"#).into());
            add("", format!(r#"{{"id":1,"{params}":{{"name":"{first}"}},"method":"tools/call","{other}":[],"{other}":{{"name":"{second}"}}}}"#).into());
        }
    }
    // The name in other spellings, which all mean the same.
    for name in ["\\u0064elete_all", "delete\\u005fall", "delete_al\\u006c", "delete_\\u0061\\u006C\\u006c"] {
        add("", call(name).into());
    }
    for name in [
        "delete_all\\u0000",
        "search\\u0000",
        "get_\\ud800",
        "get_\\udc00x",
        "get_\\n",
        "get_secret",
        "\\u0067et_secret",
    ] {
        add("", call(name).into());
    }
    // Batches.
    for body in [format!("[{good},{bad}]"), format!("[{bad}]"), format!(" \r\n\t[{bad}]"), format!("[[{bad}]]")] {
        add("", body.clone().into());
        add("MCP-Protocol-Version: 2025-03-26\r\n", body.into());
    }
    // More than one message, and text that is not JSON.
    for body in [
        format!("{good}{bad}"),
        format!("{good}\n{bad}"),
        format!("{good},{bad}"),
        format!("\u{feff}{bad}"),
        format!("\u{feff}{good}"),
        format!("\0{bad}"),
        format!("/* */{bad}"),
        format!("{{}}{bad}"),
        format!("\"\"{bad}"),
        format!("null{bad}"),
        format!(r#"{{"result":{{}},{}"#, &bad[1..]),
        format!(r#"{},"result":{{}}}}"#, &bad[..bad.len() - 1]),
        format!(r#"{},"error":{{}}}}"#, &bad[..bad.len() - 1]),
    ] {
        add("", body.into());
    }
    // Other encodings.
    for text in [&bad, &good] {
        let le: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let be: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for body in [le, be] {
            for fields in [
                "",
                "Content-Type: application/json; charset=utf-16\r\n",
                "Content-Type: application/x-www-form-urlencoded\r\n",
            ] {
                add(fields, body.clone());
                let marked = [&[0xff, 0xfe][..], &body].concat();
                add(fields, marked);
            }
        }
    }
    for fields in [
        "Content-Encoding: gzip\r\n",
        "Content-Encoding: identity, gzip\r\n",
        "Content-Encoding: identity\r\nContent-Encoding: br\r\n",
        "Content-Type: application/json; charset=utf-7\r\n",
        "Content-Type: application/json;charset=\"UTF-32\"\r\n",
        "Content-Type: application/json\r\nContent-Type: text/plain; charset=utf-7\r\n",
    ] {
        add(fields, good.clone().into());
    }
    for body in [&bad, &format!(" {bad}"), &format!("\u{feff}{bad}")] {
        for kind in ["application/x-www-form-urlencoded", "text/plain", "application/octet-stream", "x"] {
            add(&format!("Content-Type: {kind}\r\n"), body.clone().into());
        }
    }
    // Bytes that are not UTF-8, in a name and in an argument.
    let mut torn = good.clone().into_bytes();
    torn.insert(torn.len() - 20, 0xff);
    add("", torn);
    // The head says one thing, the body another.
    for version in ["", "MCP-Protocol-Version: 2025-11-25\r\n", "MCP-Protocol-Version: 2026-07-28\r\n"] {
        for (method, name) in
            [("tools/call", "search"), ("tools/list", ""), ("ping", ""), ("tools/call", "=?base64?c2VhcmNo?=")]
        {
            add(&format!("{version}Mcp-Method: {method}\r\nMcp-Name: {name}\r\n"), bad.clone().into());
            add(&format!("{version}Mcp-Name: {name}\r\n"), bad.clone().into());
        }
        add(&format!("{version}Mcp-Method: tools/call\r\nMcp-Name: {SECRET}\r\n"), good.clone().into());
        add(&format!("{version}Mcp-Method: tools/call\r\nMcp-Method: ping\r\n"), bad.clone().into());
    }
    // Ids, depths and lengths.
    for id in ["null", "[1]", "{}", "true", &"9".repeat(100), &format!("\"{}\"", "i".repeat(100))] {
        add("", bad.replacen("\"id\":1", &format!("\"id\":{id}"), 1).into());
        add("", format!(r#"{{"method":"tools/call","params":{{"name":"{SECRET}"}},"id":{id}}}"#).into());
    }
    for depth in [127, 200, 5_000] {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        add("", format!(r#"{{"x":{nested},"id":1,"method":"tools/call","params":{{"name":"{SECRET}"}}}}"#).into());
    }
    add(
        "",
        format!(r#"{{"x":"{}","id":1,"method":"tools/call","params":{{"name":"{SECRET}"}}}}"#, "y".repeat(100_000))
            .into(),
    );
    add("", call(&"get_".repeat(100)).into());
    for name in ["7", "null", "[\"search\"]", "{\"name\":\"search\"}", "true"] {
        add("", format!(r#"{{"id":1,"method":"tools/call","params":{{"name":{name}}}}}"#).into());
    }
    // Resources in other spellings.
    for uri in [
        "file:///key",
        "file:///docs/../key",
        "file:///docs/%2e%2e/key",
        "file:///docs/..%2Fkey",
        "file:///docs\\\\..\\\\key",
        "FILE:///key",
        "file:///docs/%252e%252e/key",
        "file:///docs/./../key",
    ] {
        for method in ["resources/read", "resources\\/read"] {
            add("", format!(r#"{{"id":1,"method":"{method}","params":{{"uri":"{uri}"}}}}"#).into());
            add("", format!(r#"{{"id":1,"params":{{"uri":"{uri}"}},"method":"{method}"}}"#).into());
        }
    }
    // Completions of what is denied.
    for reference in [
        r#"{"type":"ref/prompt","name":"q"}"#,
        r#"{"type":"ref/resource","uri":"db:///{x}"}"#,
        r#"{"name":"p","uri":"db://x"}"#,
    ] {
        add("", format!(r#"{{"id":1,"method":"completion/complete","params":{{"ref":{reference},"argument":{{"name":"p","value":""}}}}}}"#).into());
        add("", format!(r#"{{"id":1,"params":{{"ref":{reference}}},"method":"completion/complete"}}"#).into());
    }
    for method in ["Tools/call", "tools/call ", "vendor/run", "tools/Call"] {
        add("", format!(r#"{{"id":1,"method":"{method}","params":{{"name":"{SECRET}"}}}}"#).into());
    }
    all
}

#[test]
fn nothing_that_is_denied_is_reached_however_it_is_written_or_cut() {
    let (pool, policy) = (Pool::new(64 << 20), policy());
    let attacks = attacks();
    assert!(attacks.len() >= 200, "{}", attacks.len());
    for (fields, body) in &attacks {
        let described = || format!("{fields:?} {}", body[..body.len().min(300)].escape_ascii());
        let (sent, whole) = passed(&pool, &policy, fields, &[body]);
        assert!(whole.is_err(), "{} was passed on", described());
        assert!(!may_reach(&sent), "{}: {}", described(), sent.escape_ascii());
        let step = if body.len() > 2_000 { 9_973 } else { 1 };
        for at in (0..body.len()).step_by(step) {
            let (sent, cut) = passed(&pool, &policy, fields, &[&body[..at], &body[at..]]);
            assert!(cut.is_err() && !may_reach(&sent), "{} cut at {at}: {}", described(), sent.escape_ascii());
        }
        let bytes: Vec<&[u8]> = body.chunks(if body.len() > 2_000 { 1_000 } else { 1 }).collect();
        let (sent, cut) = passed(&pool, &policy, fields, &bytes);
        assert!(cut.is_err() && !may_reach(&sent), "{} in bytes", described());
    }
    assert_eq!(pool.usage().leased_bytes, 0);
}

#[test]
fn allowed_messages_pass_unchanged_byte_by_byte() {
    let (pool, policy) = (Pool::new(64 << 20), policy());
    let long = format!(
        r#"{{"id":1,"method":"tools/call","params":{{"name":"search","arguments":{{"q":"{}"}}}}}}"#,
        "é".repeat(90_000)
    );
    let cases = [
        ("", call("search")),
        ("", call("get_x")),
        ("", call("\\u00e9a")),
        ("", call("éa")),
        ("", long),
        ("", r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned()),
        ("", r#"{"id":1,"method":"tools/list"}"#.to_owned()),
        ("", r#"{"id":"a","result":{"name":"delete_all"}}"#.to_owned()),
        ("", r#"{"id":1,"method":"prompts/get","params":{"name":"p"}}"#.to_owned()),
        ("", r#"{"id":1,"method":"resources/read","params":{"uri":"file:///docs/a%20b"}}"#.to_owned()),
        ("", r#"{"id":1,"method":"completion/complete","params":{"argument":{"name":"x"},"ref":{"type":"ref/prompt","name":"p"}}}"#.to_owned()),
        ("", r#"{"client_name":"x","redirect_uris":["a"]}"#.to_owned()),
        ("", String::new()),
        ("Content-Type: application/x-www-form-urlencoded\r\n", "grant_type=refresh_token&x=%7B".to_owned()),
        ("Content-Type: application/json; charset=utf-8\r\nContent-Encoding: identity\r\n", call("search")),
        ("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: search\r\n", call("search")),
        ("Mcp-Method: tools/call\r\nMcp-Name: =?base64?c2VhcmNo?=\r\n", call("search")),
        ("Mcp-Method: tasks/get\r\nMcp-Name: t-1\r\n", r#"{"id":1,"params":{"taskId":"t-1"},"method":"tasks/get"}"#.to_owned()),
    ];
    for (fields, body) in &cases {
        let body = body.as_bytes();
        for pieces in [vec![body], body.chunks(if body.len() > 2_000 { 999 } else { 1 }).collect()] {
            let (sent, read) = passed(&pool, &policy, fields, &pieces);
            assert_eq!(read, Ok(()), "{}", body[..body.len().min(200)].escape_ascii());
            assert!(sent == body);
        }
    }
}

/// Random messages: whatever a server takes for a tool call was decided as that call.
#[test]
fn random_messages_reach_nothing_that_is_denied() {
    const PARTS: [&str; 16] = [
        r#""method":"tools/call""#,
        r#""method":"ping""#,
        r#""Method":"tools/call""#,
        r#""me\u0074hod":"tools/call""#,
        r#""params":{"name":"search"}"#,
        r#""params":{"name":"delete_all"}"#,
        r#""params":{"n\u0061me":"delete_all"}"#,
        r#""params":{"arguments":{"name":"delete_all"},"name":"search"}"#,
        r#""params":{"name":"search","name":"delete_all"}"#,
        r#""params":[{"name":"delete_all"}]"#,
        r#""id":1"#,
        r#""id":"x""#,
        r#""result":{}"#,
        r#""x":{"params":{"name":"delete_all"}}"#,
        r#""params":{"ref":{"name":"delete_all"},"name":"search"}"#,
        r#""params":{"_meta":{"name":"delete_all"},"name":"get_secret"}"#,
    ];
    let (pool, policy, mut rng) = (Pool::new(64 << 20), policy(), Rng::new(2_026));
    let (mut whole, mut refused) = (0, 0);
    for _ in 0..20_000 {
        let parts: Vec<&str> = (0..rng.between(1, 5)).map(|_| PARTS[rng.below(16) as usize]).collect();
        let body = format!("{{{}}}", parts.join(",")).into_bytes();
        let at = rng.below(body.len() as u64) as usize;
        let (sent, read) = passed(&pool, &policy, "", &[&body[..at], &body[at..]]);
        *(if read.is_ok() { &mut whole } else { &mut refused }) += 1;
        let value = serde_json::from_slice::<Value>(&sent);
        assert!(!value.is_ok_and(|value| is_denied(&value)), "{}", sent.escape_ascii());
    }
    assert!(whole > 1_000 && refused > 5_000, "{whole} {refused}");
}

#[test]
fn a_decision_is_known_once_made_also_without_a_message() {
    let (pool, policy) = (Pool::new(64 << 20), policy());
    let call = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{SECRET}"}}}}"#);
    let allowed = call.replace(SECRET, "search");
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    for (fields, body, is_allowed, rule) in [
        ("", allowed.as_str(), true, Some("some")),
        ("", call.as_str(), false, None),
        ("", r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, true, None),
        (form, "grant_type=refresh_token", true, None),
    ] {
        let head = head(fields);
        let mut label = CallLabel::default();
        label.begin(&head);
        assert_eq!(label.policy_decision(), None, "there is no policy");
        label.govern(&governing(&policy), &head);
        assert_eq!(label.policy_decision(), Some((policy.digest(), None)), "nothing was read");
        let read = label.read_received(&head, &mut Cut { pool: &pool, pieces: vec![body.as_bytes()] });
        assert_eq!(read.is_ok(), is_allowed, "{body}");
        let (digest, decision) = label.policy_decision().unwrap();
        let decision = decision.unwrap();
        assert_eq!((digest, decision.is_allowed()), (policy.digest(), is_allowed), "{body}");
        assert_eq!(decision.rule().map(|rule| &*rule.name), rule, "{body}");
    }
}

/// A rule on arguments needs all of them, however they are split.
#[test]
fn arguments_are_looked_at_before_any_of_them_is_passed_on() {
    let text = "[[rule]]\nname = 'refunds'\neffect = 'allow'\ntools = ['refund']\n\
                arguments = { required = ['amount'], properties = { amount = { maximum = 500 } } }\n\
                [[rule]]\nname = 'rest'\neffect = 'allow'\ntools = ['search']\n";
    let policy = Arc::new(ToolPolicy::parse(text).unwrap());
    let pool = Pool::new(64 << 20);
    let call = |tool: &str, arguments: &str| {
        let (first, last) = (format!("{{\"method\":\"tools/call\",\"params\":{{\"name\":\"{tool}\""), "}}");
        [format!("{first},\"arguments\":{arguments}{last}"), format!("{first},\"arguments\" :\n{arguments} {last}\n ")]
    };
    let long = format!("{{\"amount\": 1, \"note\": \"{}\"}}", "x".repeat(30_000));
    let too_long = format!("{{\"note\": \"{}\", \"amount\": 1}}", "x".repeat(80_000));
    let cases = [
        ("refund", r#"{"amount": 500}"#, "ok"),
        ("refund", &long, "ok"),
        ("refund", r#"{"amount": 501}"#, "denied"),
        ("refund", r#"{"amount": 1e400}"#, "denied"),
        ("refund", "{}", "denied"),
        ("refund", r#"{"amount": 1, "amount": 501}"#, "uncertain"),
        ("refund", r#"{"amount": 1, "Amount": 501}"#, "uncertain"),
        ("refund", r#"{"amount": 1}, "arguments": {"amount": 501}"#, "uncertain"),
        ("refund", r#"{"amount": 1}, "Arguments": {"amount": 501}"#, "uncertain"),
        ("refund", &too_long, "long"),
        ("search", r#"{"amount": 501, "amount": 502}"#, "ok"),
        ("search", &too_long, "ok"),
    ];
    let mut rng = Rng::new(3);
    for (tool, arguments, want) in cases {
        for body in call(tool, arguments) {
            let bytes = body.as_bytes();
            let cut = rng.between(1, bytes.len() as u64 - 1) as usize;
            let ways: [Vec<&[u8]>; 3] =
                [vec![bytes], vec![&bytes[..cut], &bytes[cut..]], bytes.chunks(1_000).collect()];
            for pieces in ways {
                let (sent, read) = passed(&pool, &policy, "", &pieces);
                let got = match &read {
                    Ok(()) => "ok",
                    Err(LabelError::Denied(_)) => "denied",
                    Err(LabelError::Body(BodyError::UncertainArguments)) => "uncertain",
                    Err(LabelError::Refused(_)) => "long",
                    Err(other) => panic!("{other:?}"),
                };
                assert_eq!(got, want, "{tool} {}", &arguments[..arguments.len().min(80)]);
                assert_eq!(sent, if got == "ok" { bytes } else { b"" });
            }
        }
    }
    let cut_off = r#"{"method":"tools/call","params":{"name":"refund","arguments":{"amount":1}"#;
    let read = passed(&pool, &policy, "", &[cut_off.as_bytes()]).1;
    assert_eq!(read, Err(LabelError::Body(BodyError::MalformedMessage)), "the rest is not known");
}
