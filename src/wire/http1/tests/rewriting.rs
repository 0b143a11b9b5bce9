use super::*;

fn forward(head: &[u8], edits: &RequestEdits<'_>) -> String {
    let mut out = Vec::new();
    write_request(&request(head).unwrap(), edits, &mut out);
    request(&out).unwrap();
    String::from_utf8(out).unwrap()
}

fn answer(head: &[u8], method: Method, edits: &ResponseEdits<'_>) -> String {
    let mut out = Vec::new();
    write_response(&response(head, method).unwrap(), edits, &mut out);
    response(&out, method).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn unknown_fields_stay_byte_for_byte_and_in_order() {
    let head = b"POST /mcp?x HTTP/1.1\r\nX-One:1\r\nHost: pub\r\nx-two:  2 \t\r\nX-One: 3\r\nContent-Length: 4\r\nLast: z\r\n\r\n";
    let text = forward(head, &RequestEdits { framing: Framing::Length(4), ..Default::default() });
    let expected = "POST /mcp?x HTTP/1.1\r\nX-One:1\r\nHost: pub\r\nx-two:  2 \t\r\nX-One: 3\r\nLast: z\r\nContent-Length: 4\r\n\r\n";
    assert_eq!(text, expected);
}

#[test]
fn hop_by_hop_fields_are_dropped_and_connection_names_more() {
    let head =
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: 5\r\nX-Hop: 1\r\nTE: gzip;q=0.5\r\n\
        Upgrade: h2c\r\nHTTP2-Settings: AAEAAEAA\r\nProxy-Connection: x\r\nProxy-Authorization: secret\r\nX-Stays: 1\r\n\r\n";
    let text = forward(head, &RequestEdits::default());
    assert_eq!(text, "GET / HTTP/1.1\r\nHost: a\r\nX-Stays: 1\r\n\r\n");
}

#[test]
fn only_trailers_of_te_is_forwarded() {
    let with =
        |te: &str| forward(format!("GET / HTTP/1.1\r\nHost: a\r\n{te}\r\n").as_bytes(), &RequestEdits::default());
    let request = "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n";
    for te in [
        "TE: trailers\r\nConnection: te\r\n",
        "TE: deflate;q=0.5, Trailers\r\n",
        "te: gzip\r\nte: ,trailers ,\r\n",
        request,
    ] {
        let te = te.strip_prefix("GET / HTTP/1.1\r\nHost: a\r\n").map_or(te, |te| &te[..te.len() - 2]);
        assert_eq!(with(te), request, "{te}");
    }
    for te in ["TE: gzip\r\n", "TE: trailers;q=0\r\n", "TE: xtrailers\r\n", "TE:\r\n", "Connection: te\r\n"] {
        assert_eq!(with(te), "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "{te}");
    }
    let last = RequestEdits { close: true, ..RequestEdits::default() };
    let text = forward(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n", &last);
    assert_eq!(text, "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n");
    // An HTTP/1.0 caller gets no chunks, and so no trailers.
    let text = forward(b"GET / HTTP/1.0\r\nHost: a\r\nTE: trailers\r\n\r\n", &RequestEdits::default());
    assert_eq!(text, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn a_hostile_connection_field_strips_nothing_that_is_meant_for_the_far_end() {
    let kept = "Host: a\r\nAuthorization: b\r\nMcp-Method: tools/call\r\nMcp-Session-Id: s\r\nMCP-Protocol-Version: v\r\n\
        Origin: https://o\r\nContent-Type: application/json\r\nAccept: */*\r\nLast-Event-ID: 7\r\nX-Forwarded-For: ip\r\n";
    let hostile = "Connection: host, authorization, mcp-method, mcp-session-id, mcp-protocol-version, origin\r\n\
        Connection: content-type, accept, last-event-id, content-length, x-forwarded-for\r\n";
    let head = format!("POST / HTTP/1.1\r\n{kept}Content-Length: 3\r\n{hostile}\r\n");
    let text = forward(head.as_bytes(), &RequestEdits { framing: Framing::Length(3), ..Default::default() });
    assert_eq!(text, format!("POST / HTTP/1.1\r\n{kept}Content-Length: 3\r\n\r\n"));
}

#[test]
fn host_is_replaced_and_strangers_claims_are_dropped() {
    let head =
        b"POST http://pub/x HTTP/1.1\r\nHost: pub\r\nForwarded: for=1\r\nX-Forwarded-For: 1\r\nX_Forwarded_Host: e\r\n\
        X-Real-IP: 1\r\nX-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\nX-Original-Host: e\r\nX-Host: e\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n";
    let edits = RequestEdits {
        policy: PolicyEdit::NONE,
        host: Some("127.0.0.1:3000"),
        origin: OriginEdit::Keep,
        framing: Framing::Chunked,
        drop_forwarded: true,
        drop_expect: true,
        close: true,
        timeout: None,
        edge_identity: None,
        time_left: TimeLeftEdit::Keep,
        append: &[("X-Forwarded-Proto", b"https")],
    };
    let expected = "POST /x HTTP/1.1\r\nHost: 127.0.0.1:3000\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\
        X-Forwarded-Proto: https\r\n\r\n";
    assert_eq!(forward(head, &edits), expected);
    let kept = forward(head, &RequestEdits { framing: Framing::Chunked, ..Default::default() });
    assert!(kept.contains("Host: pub\r\nForwarded: for=1\r\nX-Forwarded-For: 1\r\n") && kept.contains("Expect:"));
}

#[test]
fn the_remaining_time_replaces_the_callers_field() {
    let head = b"POST / HTTP/1.1\r\nx-request-timeout: 5\r\nHost: a\r\nGrpc-Timeout: 5S\r\nX-Request-Id: 1\r\n\r\n";
    let edits = RequestEdits { timeout: Some(std::time::Duration::from_millis(4_200)), ..Default::default() };
    let expected = "POST / HTTP/1.1\r\nHost: a\r\nX-Request-Id: 1\r\nX-Request-Timeout: 4200ms\r\n\r\n";
    assert_eq!(forward(head, &edits), expected);
    assert_eq!(forward(head, &RequestEdits::default()).as_bytes(), head);
}

/// Edge and connector use a separate field. The caller's field is forwarded.
#[test]
fn the_edges_time_field_is_not_forwarded_by_the_connector() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nX-Request-Timeout: 5\r\nadit-time-left: 9000s\r\n\r\n";
    let with = |time_left| forward(head, &RequestEdits { time_left, ..Default::default() });
    let forwarded = with(TimeLeftEdit::Replace(std::time::Duration::from_millis(4_200)));
    assert_eq!(forwarded, "POST / HTTP/1.1\r\nHost: a\r\nX-Request-Timeout: 5\r\nAdit-Time-Left: 4200ms\r\n\r\n");
    let mut at_connector = RequestHead::new();
    at_connector.feed(forwarded.as_bytes()).unwrap();
    assert_eq!(at_connector.time_left(), Some(std::time::Duration::from_millis(4_200)));
    let dropped = "POST / HTTP/1.1\r\nHost: a\r\nX-Request-Timeout: 5\r\n\r\n";
    assert_eq!(
        forward(forwarded.as_bytes(), &RequestEdits { time_left: TimeLeftEdit::Drop, ..Default::default() }),
        dropped
    );
    assert_eq!(with(TimeLeftEdit::Drop), dropped);
    assert_eq!(with(TimeLeftEdit::Keep).as_bytes(), head);
}

#[test]
fn an_added_field_cannot_bring_another() {
    let edits = RequestEdits {
        append: &[("X", b"a\r\nEvil: b"), ("Bad Name", b"c"), ("", b"d"), ("Y\r\nEvil", b"e")],
        ..Default::default()
    };
    let text = forward(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", &edits);
    assert_eq!(text, "GET / HTTP/1.1\r\nHost: a\r\nX: a  Evil: b\r\n\r\n");
}

#[test]
fn responses_keep_status_reason_and_repeated_fields() {
    let head = b"HTTP/1.0 401 Who Are You\r\nWWW-Authenticate: Bearer\r\nSet-Cookie: a\r\nWWW-Authenticate: Basic\r\n\
        Set-Cookie: b\r\nConnection: www-authenticate\r\nContent-Length: 2\r\n\r\n";
    let append = &[("Server-Timing", &b"edge;dur=1"[..])];
    let edits = ResponseEdits { framing: Framing::Length(2), append, ..Default::default() };
    let expected = "HTTP/1.1 401 Who Are You\r\nWWW-Authenticate: Bearer\r\nSet-Cookie: a\r\nWWW-Authenticate: Basic\r\n\
        Set-Cookie: b\r\nContent-Length: 2\r\nServer-Timing: edge;dur=1\r\n\r\n";
    assert_eq!(answer(head, Method::Post, &edits), expected);
    let edits = ResponseEdits { drop_challenge: true, ..edits };
    let expected = "HTTP/1.1 401 Who Are You\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 2\r\n\
        Server-Timing: edge;dur=1\r\n\r\n";
    assert_eq!(answer(head, Method::Post, &edits), expected);
}

#[test]
fn only_a_response_that_demands_another_protocol_keeps_its_name() {
    let with = |status: &str| format!("HTTP/1.1 {status}\r\nConnection: close, upgrade\r\nUpgrade: HTTP/3.0\r\n\r\n");
    let close = ResponseEdits { close: true, ..Default::default() };
    let demanded = answer(with("426 Upgrade Required").as_bytes(), Method::Get, &close);
    let expected =
        "HTTP/1.1 426 Upgrade Required\r\nUpgrade: HTTP/3.0\r\nConnection: Upgrade\r\nConnection: close\r\n\r\n";
    assert_eq!(demanded, expected);
    assert_eq!(answer(with("200 OK").as_bytes(), Method::Get, &close), "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
}

#[test]
fn an_origin_is_kept_dropped_or_replaced() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\norigin: https://app.test\r\nX: 1\r\n\r\n";
    let with = |origin| forward(head, &RequestEdits { origin, ..Default::default() });
    assert_eq!(with(OriginEdit::Keep).as_bytes(), head);
    assert_eq!(with(OriginEdit::Drop), "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n");
    let replaced = "GET / HTTP/1.1\r\nOrigin: http://b\r\nHost: a\r\nX: 1\r\n\r\n";
    assert_eq!(with(OriginEdit::Replace("http://b")), replaced);
    let none = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let edits = RequestEdits { origin: OriginEdit::Replace("http://b"), ..Default::default() };
    assert_eq!(forward(none, &edits).as_bytes(), none, "none is made up");
}

#[test]
fn a_server_that_names_itself_is_named_by_its_public_address() {
    let head = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://a:1/x/\r\nX: http://a:1/\r\n\
        Content-Location: /x\r\nContent-Location: http://a:1/y\r\nConnection: location\r\nContent-Length: 0\r\n\r\n";
    let public = PublicAddress {
        own: ["a:1", "a:1"],
        default_port: 80,
        scheme: b"https",
        authority: b"pub.test",
        challenges: false,
    };
    let with = |public| answer(head, Method::Post, &ResponseEdits { public, ..Default::default() });
    let kept = "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://a:1/x/\r\nX: http://a:1/\r\n\
        Content-Location: /x\r\nContent-Location: http://a:1/y\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(with(None), kept);
    let rewritten = "HTTP/1.1 307 Temporary Redirect\r\nX: http://a:1/\r\nContent-Location: /x\r\nContent-Length: 0\r\n\
        Location: https://pub.test/x/\r\nContent-Location: https://pub.test/y\r\n\r\n";
    assert_eq!(with(Some(public)), rewritten);
}

#[test]
fn an_open_end_becomes_chunks_or_a_close() {
    let head = b"HTTP/1.1 200\r\nContent-Type: text/event-stream\r\n\r\n";
    let toward = |version| ResponseEdits { framing: Framing::UntilClose.toward(version), ..Default::default() };
    let chunked = answer(head, Method::Post, &toward(Version::Http11));
    assert_eq!(chunked, "HTTP/1.1 200 \r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
    let closing = answer(head, Method::Post, &toward(Version::Http10));
    assert_eq!(closing, "HTTP/1.1 200 \r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n");
    assert_eq!(Framing::Chunked.toward(Version::Http10), Framing::UntilClose);
    assert_eq!(Framing::Length(3).toward(Version::Http10), Framing::Length(3));
}

#[test]
fn the_length_of_a_body_that_is_not_sent_stays() {
    let length = "Content-Length: 9\r\n";
    let none = ResponseEdits::default();
    assert!(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", Method::Head, &none).contains(length));
    assert!(answer(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", Method::Get, &none).contains(length));
    assert!(!answer(b"HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", Method::Get, &none).contains(length));
}

#[test]
fn own_answers_are_whole_responses() {
    let mut out = Vec::new();
    Answer { retry_after_s: Some(2), rpc_id: Some("1"), close: false, ..Answer::new(503, "connector_offline", "none") }
        .write(&mut out);
    let mut head = ResponseHead::new();
    let Ok(Progress::Complete { len }) = head.feed(&out, Method::Post) else { panic!("the head is complete") };
    assert_eq!((head.status(), head.get("retry-after"), head.keep_alive()), (503, Some(&b"2"[..]), true));
    assert_eq!(head.framing(), Framing::Length((out.len() - len) as u64));
    assert!(response(CONTINUE, Method::Post).unwrap().is_interim());
}

#[test]
fn a_policy_edit_changes_nothing_else() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer k\r\nAccept-Encoding: gzip, br\r\nX: 1\r\n\r\n";
    let written = |policy| forward(head, &RequestEdits { policy, ..RequestEdits::default() });
    let kept = written(PolicyEdit { identity_only: true, ..PolicyEdit::NONE });
    assert_eq!(
        kept,
        "POST / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer k\r\nX: 1\r\nAccept-Encoding: identity\r\n\r\n"
    );
    let stripped = written(PolicyEdit { drop_authorization: true, identity_only: true, ..PolicyEdit::NONE });
    assert!(!stripped.contains("Bearer"), "{stripped}");
    assert!(written(PolicyEdit::NONE).contains("Accept-Encoding: gzip, br\r\n"));
    let forged =
        b"POST / HTTP/1.1\r\nHost: a\r\nX-Caller: eve\r\nx_cAller: eve\r\nX-Caller2: kept\r\nx-caller: eve\r\n\r\n";
    let policy = PolicyEdit { identity: Some(("X-Caller", Some("signed"))), ..PolicyEdit::NONE };
    let forwarded = forward(forged, &RequestEdits { policy, ..RequestEdits::default() });
    assert_eq!(forwarded, "POST / HTTP/1.1\r\nHost: a\r\nX-Caller2: kept\r\nX-Caller: signed\r\n\r\n");
}
