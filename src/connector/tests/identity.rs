//! The two addresses of a route: that of its upstream, and the public one that agents call.

use super::bed::{Bed, EdgeSide, Script, UPSTREAM, UPSTREAM_PORT, script, standard_tables};
use super::sealed::{agent, sealed_tables};
use crate::base::Traffic;
use crate::connector::{ConnectorTables, RouteIdentity, UpstreamOrigin};
use crate::engine::ByteStream;
use crate::route::{PublicUrl, RouteEntry, RouteTable};

const INNER: &str = "http://10.0.0.3:9000";
/// A request as the edge forwards it.
const GET: &str = "GET /mcp HTTP/1.1\r\nHost: mcp.test\r\nOrigin: https://app.test\r\nX-Forwarded-For: 192.0.2.1\r\n\
    X-Forwarded-Proto: https\r\nX-Forwarded-Host: mcp.test:8443\r\n\r\n";

fn with(tables: ConnectorTables, identity: &RouteIdentity) -> ConnectorTables {
    let routes = tables.routes.iter().map(|(host, route)| {
        let mut target = route.clone();
        target.identity = identity.clone();
        RouteEntry { host: host.to_string(), place: String::new(), target }
    });
    ConnectorTables {
        routes: RouteTable::new(routes.collect::<Vec<_>>()).unwrap(),
        ingress: None,
        sealing: tables.sealing,
    }
}

/// An upstream that answers each request with these fields, and the head of the request as its body.
fn echoing(fields: &'static str) -> Script {
    script(move |mut peer| async move {
        while let Some(head) = peer.talk.next_head().await {
            let len = head.len();
            peer.talk
                .write(format!("HTTP/1.1 307 Temporary Redirect\r\n{fields}Content-Length: {len}\r\n\r\n{head}"))
                .await;
        }
    })
}

async fn call(edge: &EdgeSide, request: &str) -> String {
    let mut call = edge.call(request).await;
    call.stream.finish();
    call.whole().await
}

#[test]
fn an_upstream_that_names_itself_is_named_as_the_agent_called_it() {
    assert_eq!(INNER, format!("http://{UPSTREAM}:{UPSTREAM_PORT}"));
    let mut bed = Bed::new(echoing(
        "Location: http://10.0.0.3:9000/mcp/?x=http://10.0.0.3:9000/\r\nContent-Location: http://10.0.0.3:9000/mcp\r\n\
         X-Other: http://10.0.0.3:9000/\r\n",
    ));
    bed.run(|edge| async move {
        let answer = call(&edge, GET).await;
        for line in [
            "Location: https://mcp.test:8443/mcp/?x=http://10.0.0.3:9000/\r\n",
            "Content-Location: https://mcp.test:8443/mcp\r\n",
            "X-Other: http://10.0.0.3:9000/\r\n",
        ] {
            assert!(answer.contains(line), "{answer}");
        }
        assert_eq!(answer.matches("ocation: ").count(), 2, "{answer}");
        let untold = call(&edge, "GET /mcp HTTP/1.1\r\nHost: mcp.test\r\n\r\n").await;
        assert!(untold.contains("\r\nLocation: http://10.0.0.3:9000/mcp/"), "nothing better is known: {untold}");
    });
    bed.assert_clean();
}

#[test]
fn other_servers_and_relative_references_are_left_alone() {
    let mut bed = Bed::new(echoing(
        "Location: http://10.0.0.3:9001/mcp/\r\nContent-Location: /mcp\r\nWWW-Authenticate: Bearer resource_metadata=\"http://10.0.0.3:9000/x\"\r\n",
    ));
    bed.run(|edge| async move {
        let answer = call(&edge, GET).await;
        assert!(
            answer.starts_with(
                "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://10.0.0.3:9001/mcp/\r\nContent-Location: /mcp\r\n\
                 WWW-Authenticate: Bearer resource_metadata=\"http://10.0.0.3:9000/x\"\r\n"
            ),
            "{answer}"
        );
    });
    bed.assert_clean();
}

#[test]
fn the_metadata_that_a_challenge_names_is_rewritten_on_request() {
    let mut bed = Bed::new(echoing(
        "WWW-Authenticate: Bearer resource_metadata=\"http://10.0.0.3:9000/.well-known/oauth-protected-resource\"\r\n",
    ));
    let identity = RouteIdentity { rewrites_oauth_metadata: true, ..RouteIdentity::default() };
    bed.role.reload(with(standard_tables(), &identity));
    bed.run(|edge| async move {
        let answer = call(&edge, GET).await;
        let wanted = "\r\nWWW-Authenticate: Bearer resource_metadata=\"https://mcp.test:8443/.well-known/oauth-protected-resource\"\r\n";
        assert!(answer.contains(wanted), "{answer}");
    });
    bed.assert_clean();
}

#[test]
fn the_metadata_itself_is_rewritten_on_request_and_only_there() {
    let body = r#"{"resource":"http://10.0.0.3:9000/mcp","authorization_servers":["https://login.test"]}"#;
    let public = body.replace("http://10.0.0.3:9000", "https://mcp.test:8443");
    let long = format!("{{\"resource\":\"http://10.0.0.3:9000/mcp\",\"x\":\"{}\"}}", "x".repeat(64 * 1024));
    let upstream = {
        let long = long.clone();
        script(move |mut peer| {
            let long = long.clone();
            async move {
                while let Some(head) = peer.talk.next_head().await {
                    let kind = if head.contains("/text") { "text/plain" } else { "application/json; charset=utf-8" };
                    let body = if head.contains("/long") { &long } else { body };
                    let start = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n");
                    let half = body.len() / 2;
                    peer.talk
                        .write(match head.contains("/chunked") {
                            true => format!(
                                "{start}Transfer-Encoding: chunked\r\n\r\n{half:x}\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
                                &body[..half],
                                body.len() - half,
                                &body[half..]
                            ),
                            false => format!("{start}Content-Length: {}\r\n\r\n{body}", body.len()),
                        })
                        .await;
                }
            }
        })
    };
    let mut bed = Bed::new(upstream);
    for (path, is_on, wanted) in [
        ("/.well-known/oauth-protected-resource", true, public.as_str()),
        ("/.well-known/oauth-protected-resource/chunked", true, &public),
        ("/.well-known/oauth-protected-resource", false, body),
        ("/.well-known/oauth-protected-resource/text", true, body),
        ("/.well-known/oauth-protected-resource/long", true, &long),
        ("/mcp", true, body),
    ] {
        let identity = RouteIdentity { rewrites_oauth_metadata: is_on, ..RouteIdentity::default() };
        bed.role.reload(with(standard_tables(), &identity));
        let (path, wanted) = (path.to_owned(), wanted.to_owned());
        bed.run(|edge| async move {
            let answer = call(&edge, &GET.replace("/mcp HTTP", &format!("{path} HTTP"))).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert_eq!(body, wanted, "{path}");
            assert!(head.contains(&format!("\r\nContent-Length: {}", wanted.len())), "{path}: {head}");
        });
    }
    bed.assert_clean();
}

#[test]
fn the_upstream_gets_the_host_and_the_origin_that_are_set() {
    for (origin, wanted) in [
        (UpstreamOrigin::Keep, Some("Origin: https://app.test\r\n")),
        (UpstreamOrigin::Drop, None),
        (UpstreamOrigin::Rewrite, Some("Origin: http://localhost:80\r\n")),
    ] {
        let mut bed = Bed::new(echoing("Location: http://localhost:80/mcp/\r\n"));
        let identity = RouteIdentity {
            upstream_host: Some("localhost:80".into()),
            upstream_origin: origin,
            ..RouteIdentity::default()
        };
        bed.role.reload(with(standard_tables(), &identity));
        bed.run(move |edge| async move {
            let answer = call(&edge, GET).await;
            assert!(
                answer.contains("\r\nHost: localhost:80\r\n") && !answer.contains("Host: mcp.test\r\n"),
                "{answer}"
            );
            assert_eq!(answer.matches("Origin: ").count(), usize::from(wanted.is_some()), "{answer}");
            assert!(wanted.is_none_or(|wanted| answer.contains(wanted)), "{answer}");
            assert!(answer.contains("\r\nLocation: https://mcp.test:8443/mcp/\r\n"), "{answer}");
        });
        bed.assert_clean();
    }
}

#[test]
fn a_public_url_replaces_the_address_that_the_agent_called() {
    let mut bed = Bed::new(echoing("Location: http://10.0.0.3:9000/mcp/\r\n"));
    let identity = RouteIdentity { public: PublicUrl::of("https://public.test"), ..RouteIdentity::default() };
    bed.role.reload(with(standard_tables(), &identity));
    bed.run(|edge| async move {
        let answer = call(&edge, &GET.replace("Proto: https", "Proto: http")).await;
        let forwarded =
            "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: public.test\r\n\r\n";
        assert!(answer.ends_with(forwarded) && answer.matches("X-Forwarded-").count() == 3, "{answer}");
        assert!(answer.contains("\r\nLocation: https://public.test/mcp/\r\n"), "{answer}");
    });
    bed.assert_clean();
}

#[test]
fn for_agents_whose_tls_ends_here_their_own_host_is_the_public_address() {
    for (public, wanted) in [(None, "mcp.test:8443"), (Some("https://public.test"), "public.test")] {
        let mut bed = Bed::new(echoing("Location: http://10.0.0.3:9000/mcp/\r\n"));
        let (tables, config) = sealed_tables(Traffic::Passthrough);
        let identity = RouteIdentity { public: public.and_then(PublicUrl::of), ..RouteIdentity::default() };
        bed.role.reload(with(tables, &identity));
        bed.run(move |edge| async move {
            let mut agent = agent(&edge, &config).await;
            agent.write("GET /mcp HTTP/1.1\r\nHost: mcp.test:8443\r\nX-Forwarded-Host: evil.test\r\n\r\n").await;
            let answer = agent.head().await;
            assert!(answer.contains(&format!("\r\nLocation: https://{wanted}/mcp/\r\n")), "{answer}");
            let request = agent.head().await;
            assert!(request.contains(&format!("\r\nX-Forwarded-Host: {wanted}\r\n")), "{request}");
            assert!(!request.contains("evil.test"), "{request}");
            agent.stream.finish();
        });
        bed.assert_clean();
    }
}
