use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::base::Rng;

const LIMITS: MultiplexerLimits = MultiplexerLimits { calls_max: 64, sessions_max: 8, answer_len_max: 100_000 };

/// Ids and tokens as agents may write them.
const IDS: [&str; 9] =
    ["1", "\"1\"", "-7", "1.50e3", "\"a\\\"b\"", "\"\\u00e9\\n\"", "18446744073709551616", "\"\"", "0"];

fn mux() -> Multiplexer {
    Multiplexer::new(LIMITS)
}

fn asker(exchange: u64, session: StdioSession) -> Asker {
    Asker { exchange, session: Some(session) }
}

fn stateless(exchange: u64) -> Asker {
    Asker { exchange, session: None }
}

/// What a message of an agent causes.
fn hear(mux: &mut Multiplexer, from: Asker, text: &str) -> Vec<Effect> {
    let mut effects = Vec::new();
    mux.on_agent(from, text.as_bytes(), &mut effects).unwrap();
    effects
}

/// What a line of the server causes.
fn effects_of(mux: &mut Multiplexer, line: &str) -> Vec<Effect> {
    let mut effects = Vec::new();
    mux.on_server(line.as_bytes(), &mut effects);
    effects
}

/// The one line for the server among the effects.
fn line(effects: &[Effect]) -> String {
    let [Effect::ToServer(line)] = effects else { panic!("{effects:?}") };
    let text = String::from_utf8(line.clone()).unwrap();
    assert_eq!(text.find('\n'), Some(text.len() - 1), "{text:?}");
    text.trim_end().to_owned()
}

fn answer(exchange: u64, message: &str, code: Option<i64>, opens: bool) -> Effect {
    Effect::Answer { exchange, message: message.as_bytes().to_vec(), note: AnswerMeaning { code, opens } }
}

/// A multiplexer whose server was initialized, with this many sessions.
fn opened(sessions: usize) -> (Multiplexer, Vec<StdioSession>) {
    let mut mux = mux();
    hear(&mut mux, stateless(900), r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{}}"#);
    effects_of(&mut mux, r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-11-25"}}"#);
    let keys = (0..sessions).map(|_| mux.open_session().unwrap()).collect();
    (mux, keys)
}

#[test]
fn only_ids_and_tokens_change() {
    let (mut mux, sessions) = opened(1);
    let text = "{ \"params\" : {\"_meta\":{\"x\":[1.0,null],\"progressToken\" : \"t\\\\\"}, \"id\":9,\n\"progressToken\":3},\r\n\"id\"\t:\"a\" ,\
                \"method\":\"tools\\/call\"}";
    let sent = line(&hear(&mut mux, asker(1, sessions[0]), text));
    let wanted = "{ \"params\" : {\"_meta\":{\"x\":[1.0,null],\"progressToken\" : 2}, \"id\":9, \"progressToken\":3},  \"id\"\t:2 ,\
                  \"method\":\"tools\\/call\"}";
    assert_eq!(sent, wanted);
    let report = r#"{"method":"notifications/progress","params":{"progress":1e0,"progressToken":2 }}"#;
    let message = br#"{"method":"notifications/progress","params":{"progress":1e0,"progressToken":"t\\" }}"#.to_vec();
    assert_eq!(effects_of(&mut mux, report), [Effect::Before { exchange: 1, message }]);
    let answers = effects_of(&mut mux, r#"{"id": "2","result":{"id":2},"error_":1}"#);
    assert_eq!(answers, [answer(1, r#"{"id": "a","result":{"id":2},"error_":1}"#, None, false)]);
    assert_eq!((effects_of(&mut mux, r#"{"id":2,"result":{}}"#), mux.counts().late), (Vec::new(), 1));
}

#[test]
fn a_message_that_servers_read_differently_is_refused() {
    let cases = [
        ("", EnvelopeError::NotJson),
        ("[{}]", EnvelopeError::Batch),
        ("{\"id\":1,\"method\":\"a\"} {}", EnvelopeError::NotJson),
        ("{\"id\":1,\"method\":\"a\nb\"}", EnvelopeError::NotJson),
        ("{\"id\":1,\"method\":\"a\",\"params\":[01]}", EnvelopeError::NotJson),
        ("{\"id\":1,\"id\":2,\"method\":\"a\"}", EnvelopeError::Ambiguous),
        ("{\"id\":1,\"ID\":2,\"method\":\"a\"}", EnvelopeError::Ambiguous),
        ("{\"id\":1,\"\\u0069d\":2,\"method\":\"a\"}", EnvelopeError::Ambiguous),
        ("{\"id\":1,\"method\":\"a\",\"params\":{\"_meta\":{\"progresstoken\":1}}}", EnvelopeError::Ambiguous),
        ("{\"method\":\"notifications/cancelled\",\"params\":{\"requestID\":1}}", EnvelopeError::Ambiguous),
        ("{\"id\":1}", EnvelopeError::NotRpc),
        ("{\"id\":{},\"method\":\"a\"}", EnvelopeError::NotRpc),
        ("{\"id\":null,\"method\":\"a\"}", EnvelopeError::NotRpc),
        ("{\"id\":1,\"method\":\"a\",\"result\":1}", EnvelopeError::NotRpc),
        ("{\"id\":1,\"result\":1,\"error\":{}}", EnvelopeError::NotRpc),
    ];
    for (text, why) in cases {
        let heard = mux().on_agent(stateless(1), text.as_bytes(), &mut Vec::new());
        assert_eq!(heard, Err(AgentFault::Message(why)), "{text}");
    }
    let deep = format!("{{\"id\":1,\"method\":\"a\",\"params\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(Envelope::read(deep.as_bytes()), Err(EnvelopeError::NotJson));
}

#[test]
fn every_json_object_is_read_as_serde_reads_it() {
    let parts = [
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        "\"id\"",
        "\"method\"",
        "\"a\"",
        "1",
        "-0.5e+1",
        "true",
        "nul",
        " ",
        "\\",
        "\"\\u00\"",
        "01",
    ];
    let mut rng = Rng::new(3);
    let mut good = 0;
    for _ in 0..200_000 {
        let text: String = (0..rng.below(9)).map(|_| parts[rng.below(parts.len() as u64) as usize]).collect();
        let text = format!("{{\"method\":\"a\",\"x\":{text}}}");
        let ours = Envelope::read(text.as_bytes());
        match serde_json::from_str::<Value>(&text) {
            Ok(_) => good += u32::from(ours.is_ok()),
            // A number that is too large for serde's is a number.
            Err(error) => assert!(ours.is_err() || error.to_string().contains("out of range"), "{text}"),
        }
    }
    assert!(good > 1_000, "{good}");
}

#[test]
fn the_server_is_initialized_once_and_every_agent_gets_its_result() {
    let mut mux = mux();
    let first = hear(&mut mux, stateless(1), r#"{"id":"x","method":"initialize","params":{"a":1}}"#);
    assert_eq!(line(&first), r#"{"id":1,"method":"initialize","params":{"a":1}}"#);
    assert_eq!(hear(&mut mux, stateless(2), r#"{"id":7,"method":"initialize"}"#), []);
    let mut effects = Vec::new();
    mux.on_left(1, true, &mut effects);
    assert_eq!(effects, [], "others wait for it");
    let effects = effects_of(&mut mux, r#"{"id":1,"result":{"v": 1}}"#);
    let wanted = [
        Effect::ToServer(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n".to_vec()),
        answer(2, r#"{"jsonrpc":"2.0","id":7,"result":{"v": 1}}"#, None, true),
    ];
    assert_eq!(effects, wanted);
    let later = hear(&mut mux, stateless(3), r#"{"id":8,"method":"initialize"}"#);
    assert_eq!(later, [answer(3, r#"{"jsonrpc":"2.0","id":8,"result":{"v": 1}}"#, None, true)]);
    assert_eq!(hear(&mut mux, asker(4, 1), r#"{"method":"notifications/initialized"}"#), []);
}

#[test]
fn an_initialize_that_fails_is_tried_again_by_the_next_agent() {
    let mut mux = mux();
    hear(&mut mux, stateless(1), r#"{"id":1,"method":"initialize"}"#);
    hear(&mut mux, stateless(2), r#"{"id":2,"method":"initialize"}"#);
    let effects = effects_of(&mut mux, r#"{"id":1,"error":{"code":-32602,"message":"no"}}"#);
    let second = r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32602,"message":"no"}}"#;
    let first = r#"{"id":1,"error":{"code":-32602,"message":"no"}}"#;
    assert_eq!(effects, [answer(2, second, Some(-32_602), true), answer(1, first, Some(-32_602), true)]);
    assert_eq!(
        line(&hear(&mut mux, stateless(3), r#"{"id":9,"method":"initialize"}"#)),
        r#"{"id":2,"method":"initialize"}"#
    );
}

#[test]
fn an_agent_cancels_its_own_requests_alone() {
    let (mut mux, sessions) = opened(2);
    hear(&mut mux, asker(1, sessions[0]), r#"{"id":5,"method":"tools/call"}"#);
    hear(&mut mux, asker(2, sessions[1]), r#"{"id":5,"method":"tools/call"}"#);
    let cancel = |id: &str| format!(r#"{{"method":"notifications\/cancelled","params":{{"requestId":{id}}}}}"#);
    // The numbers of the server mean nothing to agents, nor the ids of others.
    assert_eq!(hear(&mut mux, asker(3, sessions[0]), &cancel("3")), []);
    assert_eq!(hear(&mut mux, asker(3, sessions[1]), &cancel("\"5\"")), []);
    assert_eq!(hear(&mut mux, stateless(3), &cancel("5")), []);
    let effects = hear(&mut mux, asker(3, sessions[1]), &cancel("5"));
    let wanted = b"{\"method\":\"notifications\\/cancelled\",\"params\":{\"requestId\":3}}\n".to_vec();
    let cancelled = r#"{"jsonrpc":"2.0","id":5,"error":{"code":-32800,"message":"Request cancelled"}}"#;
    assert_eq!(effects, [Effect::ToServer(wanted), answer(2, cancelled, Some(-32_800), false)]);
    assert_eq!(hear(&mut mux, asker(3, sessions[1]), &cancel("5")), []);
    assert_eq!(effects_of(&mut mux, r#"{"id":3,"result":{}}"#), []);
    assert_eq!(effects_of(&mut mux, r#"{"id":2,"result":{}}"#), [answer(1, r#"{"id":5,"result":{}}"#, None, false)]);
    assert_eq!(mux.calls_open(), 0);
}

#[test]
fn an_answer_that_is_too_long_becomes_an_error_for_its_caller() {
    let (mut mux, sessions) = opened(1);
    let error = r#"{"jsonrpc":"2.0","id":5,"error":{"code":-32603,"message":"the answer of the server is longer than the limit of the connector"}}"#;
    hear(&mut mux, asker(1, sessions[0]), r#"{"id":5,"method":"tools/call"}"#);
    let long = format!(r#"{{"id":2,"result":"{}"}}"#, "x".repeat(100_000));
    assert_eq!(effects_of(&mut mux, &long), [answer(1, error, Some(-32_603), false)]);
    hear(&mut mux, asker(2, sessions[0]), r#"{"id":5,"method":"tools/call"}"#);
    let mut effects = Vec::new();
    mux.on_long_line(br#"{"result":{"te"#, br#","id":9}"#, &mut effects);
    mux.on_long_line(br#"{"result":{"te"#, br#","id":"#, &mut effects);
    assert_eq!(effects, []);
    mux.on_long_line(br#"{"result":{"te"#, br#"xxx"},"id":3}"#, &mut effects);
    assert_eq!(effects, [answer(2, error, Some(-32_603), false)]);
    assert_eq!((mux.counts().too_long, mux.calls_open()), (2, 0));
}

#[test]
fn strays_are_counted_by_kind() {
    let (mut mux, sessions) = opened(1);
    hear(&mut mux, asker(1, sessions[0]), r#"{"id":5,"method":"tools/call"}"#);
    let lines = [
        r#"{"id":2,"result":{}}"#,
        r#"{"id":2,"result":{}}"#,
        r#"{"id":77,"result":{}}"#,
        r#"{"id":"x","result":{}}"#,
        r#"{"method":"notifications/progress","params":{"progressToken":2}}"#,
        r#"{"method":"notifications/progress","params":{"progressToken":"y"}}"#,
        r#"{"id":3}"#,
        r#"[{"id":3,"result":1}]"#,
        r#"{"method":"notifications/progress","params":{}}"#,
    ];
    lines.iter().for_each(|line| drop(effects_of(&mut mux, line)));
    let invalid = b"{\"id\":2,\"result\":\"\xff\"}";
    mux.on_server(invalid, &mut Vec::new());
    let wanted = MuxCounts { malformed: 4, late: 2, unknown: 3, too_long: 0, unowned: 0 };
    assert_eq!(mux.counts(), wanted);
}

#[test]
fn leaving_cancels_only_where_the_revision_says_so() {
    let (mut mux, sessions) = opened(1);
    hear(&mut mux, asker(1, sessions[0]), r#"{"id":5,"method":"tools/call"}"#);
    hear(&mut mux, stateless(2), r#"{"id":6,"method":"tools/call"}"#);
    let mut effects = Vec::new();
    mux.on_left(1, false, &mut effects);
    assert_eq!(effects, []);
    mux.on_left(2, true, &mut effects);
    assert!(line(&effects).contains("\"requestId\":3"), "{effects:?}");
    for id in [2, 3] {
        assert_eq!(effects_of(&mut mux, &format!("{{\"id\":{id},\"result\":1}}")), []);
    }
    assert_eq!(mux.calls_open(), 0);
}

#[test]
fn server_messages_without_a_request_go_only_where_the_target_is_certain() {
    let (mut mux, sessions) = opened(2);
    let (log, ask) =
        (r#"{"method":"notifications/message","params":{}}"#, r#"{"id":"q","method":"sampling/createMessage"}"#);
    assert_eq!(effects_of(&mut mux, log), []);
    assert!(line(&effects_of(&mut mux, ask)).contains("\"id\":\"q\",\"error\""));
    hear(&mut mux, asker(1, sessions[0]), r#"{"id":1,"method":"tools/call"}"#);
    let to_first = |text: &str| Effect::Before { exchange: 1, message: text.into() };
    assert_eq!(effects_of(&mut mux, log), [to_first(log)]);
    assert_eq!(effects_of(&mut mux, ask), [to_first(ask)]);
    // Only the session that was asked can answer, and once.
    let reply = r#"{"id":"q","result":{"x":1}}"#;
    for from in [asker(9, sessions[1]), stateless(9)] {
        assert_eq!(mux.on_agent(from, reply.as_bytes(), &mut Vec::new()), Err(AgentFault::NotAsked));
    }
    assert_eq!(line(&hear(&mut mux, asker(9, sessions[0]), reply)), reply);
    assert_eq!(mux.on_agent(asker(9, sessions[0]), reply.as_bytes(), &mut Vec::new()), Err(AgentFault::NotAsked));
    // A call whose agent left may still be the cause.
    mux.on_left(1, false, &mut Vec::new());
    hear(&mut mux, asker(2, sessions[1]), r#"{"id":1,"method":"tools/call"}"#);
    assert_eq!(effects_of(&mut mux, log), []);
    assert!(line(&effects_of(&mut mux, ask)).contains("\"error\""));
    effects_of(&mut mux, r#"{"id":2,"result":1}"#);
    assert_eq!(effects_of(&mut mux, log), [Effect::Before { exchange: 2, message: log.into() }]);
    let changed = r#"{"method":"notifications/tools/list_changed"}"#;
    assert_eq!(effects_of(&mut mux, changed), [Effect::ToAll(changed.into())]);
    assert_eq!(
        line(&effects_of(&mut mux, r#"{"id":[1],"method":"ping"}"#.replace("[1]", "8").as_str())),
        r#"{"jsonrpc":"2.0","id":8,"result":{}}"#
    );
}

#[test]
fn server_requests_are_refused_when_their_session_ends() {
    let (mut mux, sessions) = opened(1);
    let ask = r#"{"id":4,"method":"elicitation/create"}"#;
    assert_eq!(effects_of(&mut mux, ask), [Effect::ToSession { session: sessions[0], message: ask.into() }]);
    let mut effects = Vec::new();
    mux.close_session(sessions[0], &mut effects);
    assert!(line(&effects).contains("\"id\":4,\"error\""));
}

#[test]
fn a_listener_receives_its_messages_under_its_own_id() {
    let mut mux = mux();
    hear(&mut mux, stateless(1), r#"{"id":"L","method":"subscriptions/listen"}"#);
    hear(&mut mux, stateless(2), r#"{"id":"M","method":"subscriptions/listen"}"#);
    let text = |id: &str| {
        format!(
            r#"{{"method":"notifications/tools/list_changed","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}}}"#
        )
    };
    let message = text("\"M\"").into_bytes();
    assert_eq!(effects_of(&mut mux, &text("2")), [Effect::Before { exchange: 2, message }]);
}

#[test]
fn limits_are_kept() {
    let (mut mux, sessions) = opened(8);
    assert_eq!(mux.open_session(), None);
    let call = r#"{"id":1,"method":"tools/call"}"#;
    (0..64).for_each(|exchange| drop(hear(&mut mux, asker(exchange, sessions[0]), call)));
    assert_eq!(mux.on_agent(stateless(99), call.as_bytes(), &mut Vec::new()), Err(AgentFault::Busy));
    // Requests that are cancelled and never answered leave room again.
    for round in 0..1_000 {
        mux.on_left(round, true, &mut Vec::new());
        hear(&mut mux, asker(round + 64, sessions[0]), call);
    }
    assert!(mux.calls_open() == 64 && mux.calls.len() <= 64 + 256, "{}", mux.calls.len());
    let ask = |id: u64| format!(r#"{{"id":{id},"method":"roots/list"}}"#);
    let refused = (0..400).filter(|id| matches!(effects_of(&mut mux, &ask(*id))[..], [Effect::ToServer(_)])).count();
    assert_eq!(refused, 400 - 256);
}

/// A request as the server of the property has seen it.
struct Pending {
    number: Value,
    tag: u64,
    token: Option<Value>,
}

/// An exchange that waits for its answer.
struct Waiting {
    id: &'static str,
    token: Option<&'static str>,
    tag: u64,
}

#[test]
fn nothing_reaches_the_wrong_caller_in_any_order() {
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let (mut mux, sessions) = opened(3);
        let (mut server, mut waiting) = (Vec::<Pending>::new(), BTreeMap::<u64, Waiting>::new());
        let mut answered = 0;
        for exchange in 1..400 {
            let pick = |rng: &mut Rng| IDS[rng.below(IDS.len() as u64) as usize];
            let mut effects = Vec::new();
            match rng.below(10) {
                0..=3 => {
                    let session = sessions.get(rng.below(4) as usize).copied();
                    let (id, token) = (pick(&mut rng), (rng.below(2) == 0).then(|| pick(&mut rng)));
                    let meta =
                        token.map(|token| format!(r#""_meta":{{"progressToken":{token}}},"#)).unwrap_or_default();
                    let text = format!(
                        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{{meta}"tag":{exchange}}}}}"#
                    );
                    if mux.on_agent(Asker { exchange, session }, text.as_bytes(), &mut effects).is_ok() {
                        waiting.insert(exchange, Waiting { id, token, tag: exchange });
                    }
                }
                4..=6 if !server.is_empty() => {
                    let Pending { number, tag, .. } = server.remove(rng.below(server.len() as u64) as usize);
                    let text = json!({"jsonrpc": "2.0", "id": number, "result": {"tag": tag}}).to_string();
                    mux.on_server(text.as_bytes(), &mut effects);
                }
                7 if !server.is_empty() => {
                    let Pending { tag, token, .. } = &server[rng.below(server.len() as u64) as usize];
                    if let Some(token) = token {
                        let params = json!({"progressToken": token, "tag": tag});
                        let text = json!({"method": "notifications/progress", "params": params}).to_string();
                        mux.on_server(text.as_bytes(), &mut effects);
                    }
                }
                8 => {
                    let left = waiting.keys().nth(rng.below(waiting.len() as u64 + 1) as usize).copied();
                    if let Some(exchange) = left {
                        waiting.remove(&exchange);
                        mux.on_left(exchange, rng.below(2) == 0, &mut effects);
                    }
                }
                _ => {
                    let session = sessions.get(rng.below(3) as usize).copied();
                    let text = format!(
                        r#"{{"method":"notifications/cancelled","params":{{"requestId":{}}}}}"#,
                        pick(&mut rng)
                    );
                    mux.on_agent(Asker { exchange, session }, text.as_bytes(), &mut effects).unwrap();
                }
            }
            for effect in effects {
                match effect {
                    Effect::ToServer(line) => {
                        let message: Value = serde_json::from_slice(&line).unwrap();
                        if message["method"] == "tools/call" {
                            let (tag, token) =
                                (message["params"]["tag"].as_u64().unwrap(), &message["params"]["_meta"]);
                            let token = token.get("progressToken").cloned();
                            server.push(Pending { number: message["id"].clone(), tag, token });
                        }
                    }
                    Effect::Answer { exchange, message, .. } => {
                        let Waiting { id, tag, .. } = waiting.remove(&exchange).expect("it waits");
                        let text = String::from_utf8(message).unwrap();
                        assert!(text.contains(&format!("\"id\":{id},")), "seed {seed}: {id} {text}");
                        let is_cancelled = text.contains("-32800");
                        assert!(is_cancelled || text.contains(&format!("{{\"tag\":{tag}}}")), "seed {seed}: {text}");
                        answered += u32::from(!is_cancelled);
                    }
                    Effect::Before { exchange, message, .. } => {
                        let Waiting { token, tag, .. } = &waiting[&exchange];
                        let text = String::from_utf8(message).unwrap();
                        assert!(text.contains(&format!("\"progressToken\":{}", token.unwrap())), "seed {seed}: {text}");
                        assert!(text.contains(&format!("\"tag\":{tag}")), "seed {seed}: {text}");
                    }
                    other => panic!("seed {seed}: {other:?}"),
                }
            }
        }
        assert!(answered > 20, "seed {seed}: {answered}");
    }
}

/// A server of one session or identity, and what it has not answered: the number and the tag of each request.
struct OwnServer {
    mux: Multiplexer,
    session: StdioSession,
    pending: Vec<(Value, String)>,
}

impl OwnServer {
    fn start() -> OwnServer {
        let (mux, sessions) = opened(1);
        OwnServer { mux, session: sessions[0], pending: Vec::new() }
    }
}

#[test]
fn a_server_of_each_session_that_ends_at_any_moment_answers_nobody_else() {
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let mut servers: Vec<OwnServer> = (0..4).map(|_| OwnServer::start()).collect();
        // By server and exchange: the tag that was sent, and the id.
        let mut waiting = BTreeMap::<(usize, u64), (String, &str)>::new();
        let (mut answered, mut lost) = (0, 0);
        for exchange in 1..400 {
            let own = rng.below(4) as usize;
            let server = &mut servers[own];
            let mut effects = Vec::new();
            match rng.below(12) {
                0..=5 => {
                    let (id, tag) = (IDS[rng.below(IDS.len() as u64) as usize], format!("{own}-{exchange}"));
                    let text = format!(r#"{{"id":{id},"method":"tools/call","params":{{"tag":"{tag}"}}}}"#);
                    server.mux.on_agent(asker(exchange, server.session), text.as_bytes(), &mut effects).unwrap();
                    waiting.insert((own, exchange), (tag, id));
                }
                6 => {
                    // It ends: whoever waits for it gets no answer, and its successor knows nothing.
                    *server = OwnServer::start();
                    let before = waiting.len();
                    waiting.retain(|(of, _), _| *of != own);
                    lost += before - waiting.len();
                }
                _ if !server.pending.is_empty() => {
                    let at = rng.below(server.pending.len() as u64) as usize;
                    // Sometimes it answers twice.
                    let (number, tag) = match rng.below(8) {
                        0 => server.pending[at].clone(),
                        _ => server.pending.remove(at),
                    };
                    let text = json!({"jsonrpc": "2.0", "id": number, "result": {"tag": tag}}).to_string();
                    server.mux.on_server(text.as_bytes(), &mut effects);
                }
                _ => {}
            }
            for effect in effects {
                match effect {
                    Effect::ToServer(line) => {
                        let message: Value = serde_json::from_slice(&line).unwrap();
                        let tag = message["params"]["tag"].as_str().unwrap().to_owned();
                        servers[own].pending.push((message["id"].clone(), tag));
                    }
                    Effect::Answer { exchange, message, .. } => {
                        let (tag, id) = waiting.remove(&(own, exchange)).expect("it waits for this server");
                        let text = String::from_utf8(message).unwrap();
                        assert!(text.contains(&format!("\"id\":{id},")) && text.contains(&tag), "seed {seed}: {text}");
                        answered += 1;
                    }
                    other => panic!("seed {seed}: {other:?}"),
                }
            }
        }
        assert!(answered > 20 && lost > 5, "seed {seed}: {answered} {lost}");
    }
}
