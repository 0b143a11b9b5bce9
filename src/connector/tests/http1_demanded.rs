//! An upstream that selects HTTP/2 by ALPN and then requires HTTP/1.1.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::server::Builder;

use super::bed::{Bed, Peer, Talk, UPSTREAM, UPSTREAM_PORT, ms, script, tables_at};
use crate::base::Time;
use crate::engine::ByteStream;
use crate::http2::{Io, Watch};
use crate::tls::{
    ALPN_HTTP1, ALPN_HTTP2, Authority, CertSet, ClientSettings, Connection, ReloadingCerts, Roots, ServerSettings,
    WallClock, client_config, server_config,
};

const GET: &str = "GET /mcp HTTP/1.1\r\nHost: mcp.test\r\n\r\n";
/// How long the handshake of the second connection takes.
const HANDSHAKE: Duration = ms(300);

struct Unwatched;

impl Watch for Unwatched {
    fn feed(&self, _: &[u8], _: Time) {}
}

/// The protocol that each connection selected.
type Chosen = Rc<RefCell<Vec<Vec<u8>>>>;

/// HTTP/1.1 is required on one connection while another is being established.
#[test]
fn a_connection_that_was_being_made_when_http_1_1_was_demanded_is_not_spoken_to_in_it() {
    let now = WallClock::default().now();
    let authority = Authority::new("test", now, 1).unwrap();
    let cert = authority.issue(&[&UPSTREAM.to_string()]).unwrap().server_cert(now).unwrap();
    let certs = ReloadingCerts::new(CertSet::new([cert]).unwrap());
    let alpn = [ALPN_HTTP2, ALPN_HTTP1].map(<[u8]>::to_vec).to_vec();
    let server = server_config(certs, &ServerSettings { alpn: alpn.clone(), ..ServerSettings::default() }).unwrap();
    let mut roots = Roots::new();
    roots.add_der(authority.cert_der().clone()).unwrap();
    let client = client_config(ClientSettings { roots, alpn, ..ClientSettings::default() }).unwrap();

    let (chosen, is_demanded) = (Chosen::default(), Rc::new(Cell::new(false)));
    let (note, demand) = (Rc::clone(&chosen), Rc::clone(&is_demanded));
    let play = script(move |peer: Peer| {
        let (server, note, demand) = (Arc::clone(&server), Rc::clone(&note), Rc::clone(&demand));
        async move {
            let Peer { talk, nth, core } = peer;
            if nth == 1 {
                core.sleep(HANDSHAKE).await;
            }
            let made = Connection::server(talk.stream, &server, [], None, core.sleep(ms(5_000))).await;
            let Ok(connection) = made else { return };
            let protocol = connection.with_alpn(|protocol| protocol.unwrap_or_default().to_vec());
            note.borrow_mut().push(protocol.clone());
            if protocol == ALPN_HTTP1 {
                let mut talk = Talk::new(connection, &core);
                while talk.next_head().await.is_some() {
                    talk.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                }
                return;
            }
            let io = Io::of_client(&core, Rc::new(connection), None, Rc::new(Unwatched));
            let mut builder = Builder::new();
            builder.max_concurrent_streams(1);
            let Ok(mut connection) = builder.handshake::<_, Bytes>(io).await else { return };
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let (core, demand) = (core.clone(), Rc::clone(&demand));
                core.clone().spawn(async move {
                    core.sleep(HANDSHAKE / 3).await;
                    demand.set(true);
                    respond.send_reset(Reason::HTTP_1_1_REQUIRED);
                });
            }
        }
    });
    let mut bed = Bed::new(play);
    let tables = tables_at(&format!("https://{UPSTREAM}:{UPSTREAM_PORT}"), |settings| {
        settings.tls = Some(Arc::clone(&client));
    });
    bed.role.reload(tables);
    bed.run(|edge| async move {
        let mut first = edge.call(GET).await;
        first.stream.finish();
        edge.core.sleep(ms(50)).await;
        let mut second = edge.call(GET).await;
        second.stream.finish();
        for call in [&mut first, &mut second] {
            let answer = call.whole().await;
            assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok"), "{answer}");
        }
    });
    assert!(is_demanded.get());
    let chosen = chosen.borrow();
    let over_http2 = chosen.iter().filter(|protocol| *protocol == ALPN_HTTP2).count();
    assert!(over_http2 == 2 && chosen.len() > 2, "{chosen:?}");
    drop(chosen);
    bed.assert_clean();
}
