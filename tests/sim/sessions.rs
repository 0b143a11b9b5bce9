//! Several connectors behind one edge, each in front of an MCP server that keeps sessions of its own, on virtual time: which
//! connector a call goes to, and what becomes of it when a connector freezes, dies or comes back.

mod bed;

use std::time::Duration;

use bed::{Bed, Client, Place, SERVERS};

const SECOND: Duration = Duration::from_secs(1);
/// A host for each of two tunnels.
const HOSTS: [&str; 2] = ["one.test", "two.test"];

#[test]
fn a_kept_connection_is_served_whichever_core_has_the_link_of_its_next_request() {
    let mut crossed = 0;
    for seed in 0..8 {
        // A tunnel for each connector.
        let mut bed = Bed::start(seed, Place { cores: 2, links: 1 }, &HOSTS);
        let clients: Vec<_> = (0..4)
            .map(|_| {
                bed.client(|mut client: Client| async move {
                    let begun = [client.initialize(HOSTS[0]).await, client.initialize(HOSTS[1]).await];
                    let session = |nth: usize| begun[nth].session.as_deref();
                    let mut answers = begun.to_vec();
                    for nth in 0..20 {
                        answers.push(client.call("POST", HOSTS[nth % 2], session(nth % 2)).await);
                    }
                    for (nth, host) in HOSTS.into_iter().enumerate() {
                        answers.push(client.call("DELETE", host, session(nth)).await);
                    }
                    answers
                })
            })
            .collect();
        bed.pass(10 * SECOND);
        for client in clients {
            let answers = client.take().expect("the client has ended");
            for (nth, answer) in answers.iter().enumerate() {
                assert_eq!((answer.status, &*answer.server), (200, SERVERS[nth % 2]), "seed {seed}, request {nth}");
            }
            assert!(answers.iter().all(|answer| answer.connection == 0), "seed {seed}: the connection was kept");
        }
        assert_eq!(bed.servers.each_ref().map(|server| (server.begun(), server.sessions())), [(4, 0); 2]);
        crossed += u64::from(bed.handed_over() > 20);
    }
    assert!(crossed > 0, "in some layout the two links are on different cores");
}

#[test]
fn a_connection_goes_to_another_core_with_more_than_one_buffer_of_its_request() {
    for seed in 0..8 {
        let mut bed = Bed::start(seed, Place { cores: 2, links: 1 }, &HOSTS);
        let uploads = HOSTS.map(|host| {
            bed.client(move |mut client: Client| async move {
                // The head and what comes with its end are more than a buffer holds.
                client.upload(host, 300_000).await
            })
        });
        bed.pass(10 * SECOND);
        for upload in uploads {
            let answer = upload.take().expect("the upload has ended");
            assert_eq!(answer.status, 200, "seed {seed}: {}", answer.body);
        }
    }
}
