use super::*;
use crate::base::Rng;
use crate::bridge::modern_call::{ModernCall, ModernMessage};
use crate::bridge::modern_to_legacy::{CallStep, ModernToLegacy};
use crate::wire::http1::RequestHead;
use serde_json::{Value, json};

fn hello() -> AgentHello {
    AgentHello {
        revision: "2025-11-25".into(),
        capabilities: br#"{"elicitation":{}}"#.to_vec(),
        client: br#"{"name":"c"}"#.to_vec(),
    }
}

fn machine(text: &str) -> LegacyToModern {
    let envelope = Envelope::read(text.as_bytes()).unwrap();
    let id = &text.as_bytes()[envelope.id.clone().unwrap()];
    LegacyToModern::new(text.as_bytes(), id, &envelope.method(text.as_bytes()).unwrap(), &hello(), Some("error"))
        .unwrap()
}

fn steps(machine: &mut LegacyToModern, text: &str) -> Vec<LegacyStep> {
    let (mut next_id, mut steps) = (100, Vec::new());
    machine.on_server(text.as_bytes(), &mut next_id, &mut steps);
    steps
}

fn parsed(text: &[u8]) -> Value {
    serde_json::from_slice(text).unwrap()
}

#[test]
fn a_request_says_what_every_request_of_the_newer_revision_says() {
    let call = machine(
        r#"{"jsonrpc":"2.0","id":"ä","method":"tools/call","params":{"name":"zürich","arguments":{"n":1.000}, "task":{}}}"#,
    );
    let request = call.request();
    let wanted = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"zürich","arguments":{"n":1.000},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"c"},"io.modelcontextprotocol/clientCapabilities":{"elicitation":{}},"io.modelcontextprotocol/logLevel":"error"}}}"#;
    assert_eq!(String::from_utf8(request.message).unwrap(), wanted);
    assert_eq!((request.method.as_str(), request.name.as_deref()), ("tools/call", Some("=?base64?esO8cmljaA==?=")));
    for (name, wanted) in [
        ("plain name", "plain name"),
        (" a", "=?base64?IGE=?="),
        ("=?base64?YQ==?=", "=?base64?PT9iYXNlNjQ/WVE9PT89?="),
        ("", "=?base64??="),
    ] {
        assert_eq!(field_value(name), wanted);
    }
    assert_eq!(machine(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).request().name, None);
    for method in ["tasks/get", "resources/subscribe", "other"] {
        let refused = LegacyToModern::new(b"{}", b"1", method, &hello(), None).unwrap_err();
        assert_eq!((refused.status, refused.code), (200, -32_601), "{method}");
    }
    let refused = LegacyToModern::new(br#"{"params":[]}"#, b"1", "tools/list", &hello(), None).unwrap_err();
    assert_eq!(refused.code, -32_602);
}

#[test]
fn answers_lose_the_members_that_only_the_newer_revision_has() {
    let list = r#"{"jsonrpc":"2.0","id":"ä","method":"tools/list"}"#;
    let answer =
        r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"complete","tools":[1.0],"ttlMs":5,"cacheScope":"public"}}"#;
    let wanted = r#"{"jsonrpc":"2.0","id":"ä","result":{"tools":[1.0]}}"#;
    assert_eq!(steps(&mut machine(list), answer), [LegacyStep::Answer(wanted.into())]);
    let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32602,"message":"m","data":[1e2]}}"#;
    assert_eq!(steps(&mut machine(list), error), [LegacyStep::Answer(error.replace(":1,", ":\"ä\",").into())]);
    let log = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#;
    assert_eq!(steps(&mut machine(list), log), [LegacyStep::ToAgent(log.into())]);
    for odd in [r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"task"}}"#, "[]"] {
        let answered = steps(&mut machine(list), odd);
        let [LegacyStep::Answer(text)] = &answered[..] else { panic!("{answered:?}") };
        assert_eq!((&parsed(text)["id"], &parsed(text)["error"]["code"]), (&"ä".into(), &(-32_603).into()), "{odd}");
    }
}

#[test]
fn input_that_is_required_is_asked_of_the_agent_and_the_call_sent_again() {
    let mut call = machine(r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"a"}}"#);
    let asked = r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","requestState":"s\u0031","inputRequests":{"k1":{"method":"elicitation/create","params":{"message":"m","n":1.0}},"k2":{"method":"elicitation/create","params":{"mode":"url","url":"https://a"}}}}}"#;
    let first = r#"{"jsonrpc":"2.0","id":101,"method":"elicitation/create","params":{"message":"m","n":1.0}}"#;
    let second = r#"{"jsonrpc":"2.0","id":102,"method":"elicitation/create","params":{"mode":"url","url":"https://a","elicitationId":"adit-bridge-102"}}"#;
    let wanted = [LegacyStep::Question(101, first.into()), LegacyStep::Question(102, second.into())];
    assert_eq!(steps(&mut call, asked), wanted);
    let mut out = Vec::new();
    let accept = br#"{"jsonrpc":"2.0","id":102,"result":{"action":"accept"}}"#;
    assert!(call.on_agent(102, accept, &mut out) && out.is_empty());
    assert!(!call.on_agent(102, accept, &mut out), "it is answered");
    assert!(!call.on_agent(7, accept, &mut out), "it was not asked");
    assert!(call.on_agent(101, br#"{"jsonrpc":"2.0","id":101,"result":{"action":"decline"}}"#, &mut out));
    assert_eq!(out, [LegacyStep::Again(Duration::ZERO)]);
    let again = parsed(&call.request().message);
    assert_eq!((&again["id"], &again["params"]["requestState"]), (&2.into(), &"s1".into()));
    assert_eq!(again["params"]["inputResponses"], json!({"k1": {"action": "decline"}, "k2": {"action": "accept"}}));
    let come_back = r#"{"jsonrpc":"2.0","id":2,"result":{"resultType":"input_required","requestState":"t"}}"#;
    assert_eq!(steps(&mut call, come_back), [LegacyStep::Again(COME_BACK_PAUSE)]);
    let again = parsed(&call.request().message);
    assert_eq!((&again["params"]["requestState"], again["params"].get("inputResponses")), (&"t".into(), None));
    assert!(matches!(&steps(&mut call, asked)[..], [LegacyStep::Question(..), LegacyStep::Question(..)]));
    let mut out = Vec::new();
    assert!(call.on_agent(101, br#"{"jsonrpc":"2.0","id":101,"error":{"code":-1,"message":"no"}}"#, &mut out));
    assert_eq!(out, [LegacyStep::Answer(br#"{"jsonrpc":"2.0","id":5,"error":{"code":-1,"message":"no"}}"#.to_vec())]);
}

#[test]
fn a_server_that_asks_for_ever_is_given_up() {
    let mut call = machine(r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"a"}}"#);
    let come_back = r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","requestState":"t"}}"#;
    let ended = (0..2 * ROUNDS_MAX).find_map(|_| match &steps(&mut call, come_back)[..] {
        [LegacyStep::Answer(text)] => Some(parsed(text)["error"]["code"].clone()),
        _ => None,
    });
    assert_eq!(ended, Some((-32_603).into()));
    let many: Vec<String> = (0..40).map(|nth| format!(r#""k{nth}":{{"method":"roots/list"}}"#)).collect();
    let many =
        format!(r#"{{"id":1,"result":{{"resultType":"input_required","inputRequests":{{{}}}}}}}"#, many.join(","));
    let mut call = machine(r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"a"}}"#);
    assert!(matches!(steps(&mut call, &many).last(), Some(LegacyStep::Answer(_))));
}

#[test]
fn notifications_of_a_listening_stream_lose_its_id() {
    let key = "io.modelcontextprotocol/subscriptionId";
    let updated = format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":"a","_meta":{{"{key}":1}}}}}}"#
    );
    let wanted = r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"a"}}"#;
    assert_eq!(notification_for_session(updated.as_bytes()).as_deref(), Some(wanted.as_bytes()));
    let plain = br#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;
    assert_eq!(notification_for_session(plain).as_deref(), Some(&plain[..]));
    let ack = br#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{}}"#;
    assert_eq!(notification_for_session(ack), None);
    assert_eq!(notification_for_session(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#), None);
    let listen = parsed(&listen_request(3, &hello(), &["toolsListChanged"], &["a\"".into()]));
    let filter = json!({"toolsListChanged": true, "resourceSubscriptions": ["a\""]});
    assert_eq!((&listen["method"], &listen["params"]["notifications"]), (&"subscriptions/listen".into(), &filter));
}

/// Translated to the other era and back, a call is what it was, and so is its answer.
#[test]
fn a_call_that_is_translated_there_and_back_is_unchanged() {
    let mut rng = Rng::new(0x00b1_d6e7);
    for round in 0..1_000 {
        let value = match rng.below(4) {
            0 => "12345678901234567890.1250".to_owned(),
            1 => format!("[{}, {{\"a\\u0062\": -0.0}}]", rng.next_u64()),
            2 => "\"\\ud83d\\ude00 \\/ é\"".to_owned(),
            _ => "{ \"resultType\" : null }".to_owned(),
        };
        let id = if rng.below(2) == 0 { "\"x\\u0079\"".to_owned() } else { rng.next_u64().to_string() };
        let text =
            format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"a","own": {value}}}}}"#);
        let mut there = machine(&text);
        let ModernRequest { message, method, name } = there.request();
        let mut head = RequestHead::new();
        let fields = format!("Mcp-Method: {method}\r\nMcp-Name: {}\r\n", name.unwrap());
        head.feed(format!("POST / HTTP/1.1\r\nHost: a\r\nMCP-Protocol-Version: 2026-07-28\r\n{fields}\r\n").as_bytes())
            .unwrap();
        let Ok(ModernMessage::Call(call)) = ModernCall::read(&head, &message) else { panic!("{round}: {text}") };
        assert_eq!(String::from_utf8(call.for_session(id.as_bytes())).unwrap(), text, "{round}");
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"own":{value}}}}}"#);
        let (mut back, mut out) = (ModernToLegacy::new(&call, id.as_bytes()), Vec::new());
        back.on_server(answer.as_bytes(), &mut out);
        let [CallStep::Answer(200, modern)] = &out[..] else { panic!("{out:?}") };
        let wanted = [LegacyStep::Answer(answer.into_bytes())];
        assert_eq!(steps(&mut there, std::str::from_utf8(modern).unwrap()), wanted, "{round}");
    }
}
