//! Routes that ask the edge for its certificate inside the TLS session between edge and connector.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use adit::base::Traffic;
use adit::engine::ladder::DriverChoice;
use adit::identity::{AuthTerms, CertificateName, ClientAuthority, RouteAuth};
use adit::policy::ToolPolicy;
use adit::tls::{Authority, Roots, client_verifier};
use rustls_pki_types::UnixTime;
use serde_json::json;

use super::RESOURCE;
use crate::policy::{Got, ask, call, serve};
use crate::support::{EDGE_NAME, Tunnel};

/// What a connector asks that accepts edges of this authority.
fn asks_edge(authority: &Authority, named_by: CertificateName) -> Arc<RouteAuth> {
    let mut roots = Roots::new();
    roots.add_der(authority.cert_der().clone()).unwrap();
    let edges = ClientAuthority::new("edges", client_verifier(&roots, None).unwrap(), named_by);
    let terms = AuthTerms {
        resource: RESOURCE.into(),
        scopes: [].into(),
        is_terminated: false,
        authorization: None,
        identity_header: None,
    };
    let auth = RouteAuth::new(terms, Vec::new()).without_tokens();
    Arc::new(auth.with_edge_certificates([Arc::new(edges)].into()))
}

#[test]
fn a_connector_requires_the_certificate_of_the_edge_and_roles_depend_on_its_name() {
    let policy = format!(
        "[[role]]\nname = 'front'\nedges = ['{EDGE_NAME}']\n[[role]]\nname = 'other'\nedges = ['other.test']\n\
         [[rule]]\nname = 'front'\neffect = 'allow'\ntools = ['get_*']\nroles = ['front']\n\
         [[rule]]\nname = 'other'\neffect = 'allow'\ntools = ['put']\nroles = ['other']\n"
    );
    let policy = Arc::new(ToolPolicy::parse(&policy).unwrap());
    let stranger = Authority::new("another edge's", UnixTime::now(), 2).unwrap();
    for driver in [DriverChoice::Epoll, DriverChoice::Uring] {
        for traffic in [Traffic::Resealed, Traffic::Plain, Traffic::Passthrough] {
            let (place, got) = (format!("{driver:?} {traffic:?}"), Got::default());
            let tunnel = Tunnel::with_upstreams(driver, traffic, (1, 1), &[serve(&got)]);
            let refused = || tunnel.connector.counters().edge_identities_refused.load(Ordering::Relaxed);
            let called = |tool: &str| ask(&mut tunnel.agent(), "/mcp", "", &call(tool));
            tunnel.govern(false, &policy);
            assert_eq!(called("get_a").1["error"]["message"], "Unknown tool: get_a", "{place}: no edge is known");
            let ours = asks_edge(tunnel.authority(), CertificateName::Dns);
            let mut refusals = vec![(&ours, "edge_certificate_missing", "")];
            let wrong = asks_edge(&stranger, CertificateName::Dns);
            let nameless = asks_edge(tunnel.authority(), CertificateName::Email);
            if traffic == Traffic::Resealed {
                refusals = vec![
                    (&wrong, "edge_certificate_refused", "no authority that is accepted here has signed it"),
                    (&nameless, "edge_certificate_refused", "exactly one name of the required kind"),
                ];
            }
            for (asks, code, why) in refusals {
                tunnel.authorize(false, Some(asks));
                let before = refused();
                let (head, answer) = called("get_a");
                assert!(head.starts_with("HTTP/1.1 403 ") && !head.contains("WWW-Authenticate"), "{place}: {head}");
                assert_eq!(answer["error"]["data"]["reason"], code, "{place}: {answer}");
                assert!(answer["error"]["message"].as_str().unwrap().contains(why), "{place}: {answer}");
                assert_eq!(refused(), before + 1, "{place}");
            }
            assert!(got.lock().unwrap().is_empty(), "{place}: nothing of this has reached the server");
            if traffic == Traffic::Resealed {
                tunnel.authorize(false, Some(&ours));
                // The second call is made on the session of the first.
                for _ in 0..2 {
                    let (head, answer) = called("get_a");
                    assert_eq!(answer["result"], json!({"content": []}), "{place}: {head}{answer}");
                }
                assert_eq!(called("put").1["error"]["message"], "Unknown tool: put", "{place}");
            }
            tunnel.end();
        }
    }
}
