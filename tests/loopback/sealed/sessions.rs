//! Calls over sealed sessions, and every way in which one does not come about.

use std::io::{ErrorKind, Read, Write};

use adit::base::Traffic;
use adit::control::RoleKind;
use adit::control::bodies::{CallStageName, CallsBody, LatencyBody, StatusBody, TaskNamedBy, TasksBody};

use super::site::{Agent, HOST, OPEN_HOST, SEAL_CA, Site, answer, ask, authority, call, get_json, metric, try_call};
use crate::drivers::drivers;
use crate::process::command;

/// An agent of a host for which the edge ends TLS. The edge's certificate is for another of its hosts: in these tests that
/// is the only one it has.
fn at_the_edge(site: &Site) -> Agent {
    site.agent("ca.pem", Some(OPEN_HOST))
}

#[test]
fn resealed_calls_share_a_session_and_say_how_long_each_took() {
    for driver in drivers() {
        let (site, _connector) = Site::linked(driver, Traffic::Resealed, Traffic::Resealed);
        let mut agent = at_the_edge(&site);
        for n in 0..50 {
            let answer = call(&mut agent, HOST, &format!("call {n}"));
            assert!(answer.head.starts_with("HTTP/1.1 200 "), "{answer:?}");
            assert!(answer.body.ends_with(&format!("call {n}")), "{answer:?}");
            assert!(answer.body.contains("X-Forwarded-For: 127.0.0.1\r\n"), "{answer:?}");
            assert!(!answer.body.contains("192.0.2.99"), "{answer:?}");
            let parts = ["edge;dur=", "tunnel;dur=", "connector;dur=", "upstream;dur="];
            assert!(parts.iter().all(|part| answer.head.contains(part)), "{answer:?}");
        }
        assert_eq!(site.metric("adit_sessions_sealed_total"), 1);
        // Two at a time need two, and both are kept.
        let mut other = at_the_edge(&site);
        std::thread::scope(|scope| {
            scope.spawn(|| (0..50).for_each(|_| drop(call(&mut other, HOST, "one"))));
            (0..50).for_each(|_| drop(call(&mut agent, HOST, "another")));
        });
        assert!(site.metric("adit_sessions_sealed_total") <= 2);
    }
}

#[test]
fn passthrough_ends_in_the_connector_which_knows_where_the_agent_comes_from() {
    for driver in drivers() {
        let (site, _connector) = Site::linked(driver, Traffic::Passthrough, Traffic::Passthrough);
        let mut agent = site.agent(SEAL_CA, Some(HOST));
        for n in 0..20 {
            let answer = call(&mut agent, HOST, &format!("call {n}"));
            assert!(answer.head.starts_with("HTTP/1.1 200 "), "{answer:?}");
            assert!(answer.body.ends_with(&format!("call {n}")), "{answer:?}");
            assert!(answer.body.contains("X-Forwarded-For: 127.0.0.1\r\n"), "{answer:?}");
            assert!(answer.body.contains("X-Forwarded-Proto: https\r\n"), "{answer:?}");
            assert!(!answer.body.contains("192.0.2.99"), "{answer:?}");
            assert!(answer.head.contains("Server-Timing: connector;dur="), "{answer:?}");
        }
        assert_eq!(site.metric("adit_passed_through_total"), 1);
        // Another host on the same session is not this route's.
        let answer = call(&mut agent, OPEN_HOST, "x");
        assert!(answer.head.starts_with("HTTP/1.1 421 ") && answer.body.contains("other_host"), "{answer:?}");
        let mut end = Vec::new();
        agent.read_to_end(&mut end).unwrap();

        let origin =
            b"POST /mcp HTTP/1.1\r\nHost: sealed.test\r\nOrigin: https://evil.example\r\nContent-Length: 0\r\n\r\n";
        let malformed = b"POST /mcp HTTP/1.1\r\nHost: sealed.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n";
        for (request, status) in [(&origin[..], "403"), (&malformed[..], "400")] {
            let mut agent = site.agent(SEAL_CA, Some(HOST));
            agent.write_all(request).unwrap();
            let mut answer = String::new();
            agent.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        }
    }
}

#[test]
fn a_passthrough_connection_whose_agent_takes_nothing_ends_and_is_counted() {
    for driver in drivers() {
        let site = Site::start_with(driver, Traffic::Passthrough, "write_timeout_ms = '200ms'");
        let _connector = site.connect(driver, Traffic::Passthrough);
        let mut agent = site.agent(SEAL_CA, Some(HOST));
        // It is answered with what it has sent, and more than the systems of both sides keep for it.
        ask(&mut agent, HOST, &"x".repeat(32 << 20)).unwrap();
        site.until_metric("adit_passed_through_stalled_total", 1);
        // What it has not read is lost to it.
        let error = std::io::copy(&mut agent, &mut std::io::sink()).unwrap_err();
        assert!([ErrorKind::ConnectionReset, ErrorKind::UnexpectedEof].contains(&error.kind()), "{error}");
    }
}

#[test]
fn the_connector_tells_how_long_calls_took_that_only_it_can_read() {
    for driver in drivers() {
        let site = Site::start(driver, Traffic::Passthrough);
        let (_connector, admin) = site.connect(driver, Traffic::Passthrough);
        let mut agent = site.agent(SEAL_CA, Some(HOST));
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"look"}}"#;
        (0..3).for_each(|_| drop(call(&mut agent, HOST, body)));
        let found: LatencyBody = get_json(admin, "/v1/latency");
        let of_tool = found.labels.iter().find(|label| label.tool == "look");
        let times = &of_tool.unwrap_or_else(|| panic!("{found:#?}")).times;
        assert_eq!(times.outcomes["ok"], 3, "{times:#?}");
        assert!(times.phases["upstream"].p95_us > 0.0, "{times:#?}");
        // Nothing is made up about what it cannot see.
        assert!(times.phases.get("tunnel").is_none_or(|phase| phase.count == 0), "{times:#?}");
    }
}

/// Only the connector can read such calls, so that their breakers are there.
#[test]
fn an_operator_opens_the_breaker_of_a_tool_at_the_connector() {
    let (driver, site) = (drivers()[0], Site::start(drivers()[0], Traffic::Passthrough));
    adit::private::write(&site.path("admin.token"), b"a-token-for-tests-only-0123456789").unwrap();
    let settings = "breaker = 'enforce'\nadmin_token_file = 'admin.token'";
    let (_connector, admin) = site.connect_with(driver, Traffic::Passthrough, site.upstream, settings);
    let mut agent = site.agent(SEAL_CA, Some(HOST));
    let mut status = |tool: &str| {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}"}}}}"#);
        call(&mut agent, HOST, &body).head[9..12].to_owned()
    };
    let (admin, token) = (admin.to_string(), site.path("admin.token"));
    let run = |args: &[&str], token: &std::path::Path| {
        let more = ["--admin", &admin, "--admin-token-file", token.to_str().unwrap()];
        let output = command(&[&["breakers"], args, &more[..]].concat()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr))
    };
    assert_eq!([status("look"), status("other")], ["200", "200"]);
    let (code, table) = run(&["open", HOST, "look"], &token);
    assert!(code == Some(0) && table.contains("open (forced)"), "{table}");
    assert_eq!([status("look"), status("other")], ["503", "200"]);
    let shown = command(&["latency", "--admin", &admin]).output().unwrap();
    let table = String::from_utf8(shown.stdout).unwrap();
    let row = table.lines().find(|line| line.contains(" look ")).unwrap_or_else(|| panic!("{table}"));
    assert!(row.contains("open (forced)"), "{table}");
    let (code, table) = run(&["auto", HOST, "look"], &token);
    assert!(code == Some(0) && table.contains("closed"), "{table}");
    assert_eq!(status("look"), "200");
    // The token opens breakers and nothing else; another one opens nothing.
    adit::private::write(&site.path("other.token"), b"another-token-for-tests-0123456789").unwrap();
    assert_ne!(run(&["open", HOST, "look"], &site.path("other.token")).0, Some(0));
    assert_eq!(status("look"), "200");
    let output =
        command(&["tunnel", "list", "--admin", &admin, "--admin-token-file", token.to_str().unwrap()]).output();
    let output = output.unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("admin_token_file"), "{output:?}");
}

/// Only the connector can read such calls, so that their limit and their tasks are there.
#[test]
fn the_connector_limits_calls_that_only_it_can_read_and_adds_them_up_by_task() {
    const SETTINGS: &str = "tasks_max = 8\ntask_header = 'X-Task-Id'\nprice_per_million_tokens = '3'\nconcurrency_limit = 'enforce'\n\
                            [[tool]]\nhost = 'sealed.test'\ntool = 'look'\nprice_per_call = '0.5'";
    for driver in drivers() {
        let site = Site::start(driver, Traffic::Passthrough);
        let (_connector, admin) = site.connect_with(driver, Traffic::Passthrough, site.upstream, SETTINGS);
        let mut agent = site.agent(SEAL_CA, Some(HOST));
        let body =
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"look","arguments":{"at":"the door"}}}"#;
        for _ in 0..3 {
            let head = format!(
                "POST /mcp HTTP/1.1\r\nHost: {HOST}\r\nX-Task-Id: spring-cleaning\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            agent.write_all((head + body).as_bytes()).unwrap();
            let answer = answer(&mut agent).unwrap();
            assert!(answer.head.starts_with("HTTP/1.1 200 "), "{answer:?}");
        }
        let TasksBody { counted, tasks, .. } = get_json(admin, "/v1/tasks");
        let [task] = &tasks[..] else { panic!("{tasks:#?}") };
        assert_eq!((counted, &*task.id, task.named_by), (true, "spring-cleaning", TaskNamedBy::Header));
        assert_eq!((task.summary.calls, task.summary.repeated, task.tools), (3, 2, 1), "{task:#?}");
        assert!(task.summary.cost >= 1.5 && task.summary.answer_bytes > 0, "{task:#?}");
        assert_eq!(metric(admin, "adit_task_calls_total"), 3);
        let StatusBody { limits, .. } = get_json(admin, "/v1/status");
        let [limit] = &limits[..] else { panic!("{limits:#?}") };
        assert_eq!((limit.role, &*limit.of.route, limit.of.admitted), (RoleKind::Connector, HOST, 3), "{limit:#?}");
        for (verb, line) in [("tasks", "spring-cleaning"), ("limits", "enforce")] {
            let shown = command(&[verb, "--admin", &admin.to_string()]).output().unwrap();
            let table = String::from_utf8(shown.stdout).unwrap();
            assert!(table.lines().any(|row| row.contains(line)), "{table}");
        }
        // The edge cannot read them.
        let StatusBody { limits, .. } = get_json(site.admin, "/v1/status");
        assert!(limits.is_empty(), "{limits:#?}");
    }
}

#[test]
fn a_passthrough_connection_that_no_connector_takes_is_listed() {
    for driver in drivers() {
        let site = Site::start(driver, Traffic::Passthrough);
        let mut agent = site.agent(SEAL_CA, Some(HOST));
        assert!(ask(&mut agent, HOST, "x").is_err());
        let found: CallsBody = get_json(site.admin, "/v1/calls");
        let [call] = &found.calls[..] else { panic!("{found:#?}") };
        let seen = [&call.host, &call.method, &call.from].map(|text| text.as_deref().unwrap_or_default());
        assert_eq!(seen, [HOST, "passthrough", "127.0.0.1"], "{call:#?}");
        assert_eq!((call.stopped_at, call.status), (CallStageName::Link, None), "{call:#?}");
        let code = call.answered.as_ref().map(|answered| answered.code.as_str());
        assert!(call.id.is_some() && code == Some("connector_offline"), "{call:#?}");
    }
}

#[test]
fn without_its_name_a_passthrough_host_is_not_served_at_the_edge() {
    for driver in drivers() {
        let (site, _connector) = Site::linked(driver, Traffic::Passthrough, Traffic::Passthrough);
        for name in [None, Some(OPEN_HOST)] {
            let mut agent = site.agent("ca.pem", name);
            let answer = call(&mut agent, HOST, "x");
            assert!(answer.head.starts_with("HTTP/1.1 421 ") && answer.body.contains("passthrough"), "{answer:?}");
        }
        // What the edge serves itself goes on beside it, and tells that its connector is away.
        let answer = call(&mut at_the_edge(&site), OPEN_HOST, "x");
        assert!(answer.head.starts_with("HTTP/1.1 503 "), "{answer:?}");
        assert_eq!(site.metric("adit_passed_through_total"), 0);
    }
}

#[test]
fn a_first_message_in_single_bytes_finds_its_way() {
    for driver in drivers() {
        let (site, _connector) = Site::linked(driver, Traffic::Passthrough, Traffic::Passthrough);
        let mut agent = site.agent(SEAL_CA, Some(HOST));
        agent.sock.set_nodelay(true).unwrap();
        let mut hello = Vec::new();
        agent.conn.write_tls(&mut hello).unwrap();
        hello.iter().for_each(|byte| agent.sock.write_all(&[*byte]).unwrap());
        let answer = call(&mut agent, HOST, "slowly");
        assert!(answer.body.ends_with("slowly"), "{answer:?}");
    }
}

#[test]
fn sides_with_different_traffic_settings_carry_nothing() {
    use Traffic::{Passthrough, Plain, Resealed};
    let driver = drivers()[0];
    for (at_edge, at_connector) in [(Plain, Resealed), (Plain, Passthrough), (Resealed, Plain), (Resealed, Passthrough)]
    {
        let (site, _connector) = Site::linked(driver, at_edge, at_connector);
        let answer = call(&mut at_the_edge(&site), HOST, "x");
        assert!(answer.head.starts_with("HTTP/1.1 502 "), "{at_edge} {at_connector}: {answer:?}");
        assert!(answer.body.contains("seal_refused"), "{at_edge} {at_connector}: {answer:?}");
    }
    for at_connector in [Plain, Resealed] {
        let (site, _connector) = Site::linked(driver, Passthrough, at_connector);
        let error = try_call(&mut site.agent(SEAL_CA, Some(HOST)), HOST, "x").unwrap_err();
        assert!(error.to_string().contains("InternalError"), "{at_connector}: {error}");
    }
}

#[test]
fn only_a_registered_authority_is_believed_and_another_takes_its_place_without_a_restart() {
    for driver in drivers() {
        let (site, _connector) = Site::linked(driver, Traffic::Resealed, Traffic::Resealed);
        let mut agent = at_the_edge(&site);
        assert!(call(&mut agent, HOST, "x").head.starts_with("HTTP/1.1 200 "));
        authority(&site.path(""), "other");
        site.register(driver, Traffic::Resealed, "other.pem");
        let answer = call(&mut agent, HOST, "x");
        assert!(answer.head.starts_with("HTTP/1.1 502 ") && answer.body.contains("seal_refused"), "{answer:?}");
        assert_eq!(site.metric("adit_seals_failed_total"), 1);
        // Both at once, as during a rotation.
        let both = [SEAL_CA, "other.pem"].map(|file| std::fs::read_to_string(site.path(file)).unwrap()).concat();
        std::fs::write(site.path("both.pem"), both).unwrap();
        site.register(driver, Traffic::Resealed, "both.pem");
        assert!(call(&mut agent, HOST, "x").head.starts_with("HTTP/1.1 200 "));
    }
}

#[test]
fn an_agent_that_does_not_trust_the_connector_and_one_without_a_connector_get_errors() {
    for driver in drivers() {
        let (site, connector) = Site::linked(driver, Traffic::Passthrough, Traffic::Passthrough);
        let error = try_call(&mut site.agent("ca.pem", Some(HOST)), HOST, "x").unwrap_err();
        assert!(error.to_string().contains("UnknownIssuer"), "{error}");
        assert_eq!(connector.ended_by("TERM"), Some(0));
        let error = try_call(&mut site.agent(SEAL_CA, Some(HOST)), HOST, "x").unwrap_err();
        assert!(error.to_string().contains("InternalError"), "{error}");
    }
}

#[test]
fn sessions_end_with_the_connector_and_the_next_one_makes_new_ones() {
    for driver in drivers() {
        for traffic in [Traffic::Resealed, Traffic::Passthrough] {
            let (site, connector) = Site::linked(driver, traffic, traffic);
            let mut agent = match traffic {
                Traffic::Passthrough => site.agent(SEAL_CA, Some(HOST)),
                _ => at_the_edge(&site),
            };
            call(&mut agent, HOST, "x");
            // Idle sessions hold nothing up: the connector ends although the agent keeps its connection.
            connector.signal("TERM");
            assert_eq!(connector.ended(), Some(0), "{driver} {traffic}");
            let _next = site.connect(driver, traffic).0;
            if traffic == Traffic::Passthrough {
                let mut rest = Vec::new();
                match agent.read_to_end(&mut rest) {
                    Ok(_) => assert!(rest.is_empty()),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
                }
                agent = site.agent(SEAL_CA, Some(HOST));
            }
            assert!(call(&mut agent, HOST, "again").body.ends_with("again"));
        }
    }
}

#[test]
fn answers_of_adit_itself_say_how_long_they_took() {
    for driver in drivers() {
        let (site, _connector) = Site::linked(driver, Traffic::Passthrough, Traffic::Passthrough);
        let timing = |agent: &mut Agent, host: &str, status: &str| {
            let answer = try_call(agent, host, "x").unwrap();
            assert!(answer.head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer:?}");
            let timing = answer.head.lines().find_map(|line| line.strip_prefix("Server-Timing: ")).unwrap_or_default();
            let names = timing.split(", ").map(|part| part.split_once(";dur=").unwrap_or((part, "")).0);
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        // No connector, a host of nobody, and a host that is none.
        assert_eq!(timing(&mut at_the_edge(&site), OPEN_HOST, "503"), ["edge"]);
        assert_eq!(timing(&mut at_the_edge(&site), "nobody.test", "421"), ["edge"]);
        assert_eq!(timing(&mut at_the_edge(&site), "a b", "400"), ["edge"]);
        let mut agent = site.agent(SEAL_CA, Some(HOST));
        assert_eq!(timing(&mut agent, "nobody.test", "421"), ["connector"]);
    }
}
