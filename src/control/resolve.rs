use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::engine::MailReceiver;
use crate::upstream::{ADDRESSES_MAX, ResolveError, ResolveRequest};

/// How long the system's resolver may take for one name.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Names that are asked for at one time: each takes a thread of the system's resolver.
pub const RESOLVES_MAX: usize = 16;

/// Resolves names for the cores until all of them have ended.
pub async fn serve_resolves(mut requests: MailReceiver<ResolveRequest>) {
    let places = Arc::new(Semaphore::new(RESOLVES_MAX));
    while let Some(request) = requests.recv().await {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        tokio::spawn(async move {
            let answer = lookup(&request.host, request.port).await;
            drop(place);
            // Who asked may have given up.
            let _ = request.reply.send(answer);
        });
    }
}

async fn lookup(host: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
    let failed = |reason: String| ResolveError::Failed { name: host.into(), reason: reason.into() };
    let found = timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host, port))).await;
    match found {
        Ok(Ok(addresses)) => Ok(addresses.take(ADDRESSES_MAX).collect()),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("no answer within {} s", RESOLVE_TIMEOUT.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::{Resolver, resolver};

    #[tokio::test]
    async fn a_core_gets_the_addresses_of_a_name_and_the_reason_when_there_are_none() {
        let (sender, requests) = resolver();
        let serving = tokio::spawn(serve_resolves(requests));
        let resolver = Resolver::Control(sender);
        let addresses = resolver.resolve("localhost", 80).await.unwrap();
        assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 80));
        let error = resolver.resolve("no name at all", 80).await.unwrap_err();
        assert!(matches!(error, ResolveError::Failed { .. }), "{error}");
        drop(resolver);
        serving.await.unwrap();
    }
}
