use std::net::{IpAddr, SocketAddr};

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::base::Time;
use crate::dial::{ADDRESSES_MAX, Names, ResolveError, ResolveRequest};
use crate::engine::{MailReceiver, MailSender};

/// A requester that waits for the addresses of a name.
struct Asker {
    port: u16,
    reply: MailSender<Result<Vec<SocketAddr>, ResolveError>>,
}

/// Resolves names for the cores until all of them have ended.
pub async fn serve_resolves(requests: MailReceiver<ResolveRequest>) {
    serve(requests, lookup).await;
}

/// Resolves names with `lookup`, which may take any time.
async fn serve<F>(mut requests: MailReceiver<ResolveRequest>, lookup: impl Fn(Box<str>) -> F)
where
    F: Future<Output = Result<Vec<IpAddr>, ResolveError>> + Send + 'static,
{
    let began = Instant::now();
    let now = || Time::ZERO + began.elapsed();
    let mut names = Names::default();
    let mut lookups = JoinSet::new();
    loop {
        let next = names.next_at();
        let next_at = next.map_or(began, |at| began + at.since(Time::ZERO));
        tokio::select! {
            request = requests.recv() => match request {
                Some(ResolveRequest { host, port, reply }) => names.ask(now(), &host, Asker { port, reply }),
                None => return,
            },
            Some(looked_up) = lookups.join_next() => {
                let (host, answer): (Box<str>, _) = looked_up.expect("no lookup panics, and none is cancelled");
                names.answered(now(), &host, answer);
            }
            () = sleep_until(next_at), if next.is_some() => names.on_time(now()),
        }
        for host in names.due.questions.drain(..) {
            let answer = lookup(host.clone());
            lookups.spawn(async move { (host, answer.await) });
        }
        for (Asker { port, reply }, answer) in names.due.answers.drain(..) {
            let with_port =
                |addresses: Vec<IpAddr>| addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
            // The send fails if the requester is gone.
            let _ = reply.send(answer.map(with_port));
        }
    }
}

async fn lookup(host: Box<str>) -> Result<Vec<IpAddr>, ResolveError> {
    let found = tokio::net::lookup_host((&*host, 0)).await;
    let addresses = found.map(|found| found.map(|address| address.ip()).take(ADDRESSES_MAX).collect());
    addresses.map_err(|error| ResolveError::Failed { name: host, reason: error.to_string().into() })
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;
    use crate::dial::{Resolver, resolver};
    use crate::engine::mailbox;

    #[tokio::test]
    async fn a_core_gets_the_addresses_of_a_name_and_the_reason_when_there_are_none() {
        let (sender, requests) = resolver();
        let serving = tokio::spawn(serve_resolves(requests));
        let resolver = Resolver::Control(sender);
        let addresses = resolver.resolve("localhost", 80).await.unwrap();
        assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 80));
        // The name is cached by now, independent of the port.
        let addresses = resolver.resolve("localhost", 81).await.unwrap();
        assert!(addresses.iter().all(|address| address.port() == 81));
        let error = resolver.resolve("no name at all", 80).await.unwrap_err();
        assert!(matches!(error, ResolveError::Failed { .. }), "{error}");
        drop(resolver);
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn names_that_hang_hold_up_no_other_name() {
        let (sender, requests) = resolver();
        let hangs_or_answers = |host: Box<str>| async move {
            if host.starts_with("hangs") { pending().await } else { Ok(vec![IpAddr::from([192, 0, 2, 1])]) }
        };
        let serving = tokio::spawn(serve(requests, hangs_or_answers));
        let (reply, _answers) = mailbox(64);
        for nth in 0..40 {
            let host = format!("hangs-{}.test", nth % 10).into();
            assert!(sender.send(ResolveRequest { host, port: 80, reply: reply.clone() }).is_ok());
        }
        let resolver = Resolver::Control(sender);
        let addresses = resolver.resolve("answers.test", 80).await.unwrap();
        assert_eq!(addresses, ["192.0.2.1:80".parse().unwrap()]);
        drop(resolver);
        serving.await.unwrap();
    }
}
