//! Checks whether an address can be reached: DNS, TCP and UDP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::base::shell_word;
use crate::control::micros;
use crate::dial::ADDRESSES_MAX;
use crate::process::doctor::client::ANSWER_TIMEOUT;
use crate::process::doctor::finding::Findings;

/// Resolves a host; returns no addresses if that fails.
pub(super) async fn check_dns(findings: &mut Findings, check: &'static str, host: &str, port: u16) -> Vec<SocketAddr> {
    if let Ok(address) = host.parse::<IpAddr>() {
        findings.ok(check, format!("{host} is an address, there is nothing to look up"));
        return vec![SocketAddr::new(address, port)];
    }
    let remedy = || format!("check the spelling of {host}, and this host's DNS: `getent ahosts {}`", shell_word(host));
    match timeout(ANSWER_TIMEOUT, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(found)) => {
            let mut addresses: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
            addresses.dedup();
            let shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
            if addresses.is_empty() {
                findings.fail(check, format!("{host} has no address"), remedy());
            } else {
                findings.ok(check, format!("{host} is {}", shown.join(", ")));
            }
            addresses
        }
        Ok(Err(error)) => {
            findings.fail(check, format!("{host} cannot be resolved: {error}"), remedy());
            Vec::new()
        }
        Err(_) => {
            findings.fail(check, format!("no answer about {host} within {} s", ANSWER_TIMEOUT.as_secs()), remedy());
            Vec::new()
        }
    }
}

/// Returns the first of these addresses that accepts a connection.
pub(super) async fn check_tcp(
    findings: &mut Findings,
    check: &'static str,
    addresses: &[SocketAddr],
) -> Option<SocketAddr> {
    let (mut good, mut refused) = (None, Vec::new());
    for address in addresses {
        let began = Instant::now();
        match timeout(ANSWER_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(_)) => good = good.or(Some((*address, began.elapsed()))),
            Ok(Err(error)) => refused.push((*address, error.kind(), error.to_string())),
            Err(_) => refused.push((*address, io::ErrorKind::TimedOut, "no answer".to_owned())),
        }
    }
    let failed: Vec<String> = refused.iter().map(|(address, _, why)| format!("{address}: {why}")).collect();
    match good {
        Some((address, took)) if failed.is_empty() => {
            findings.ok(check, format!("{address} accepts connections ({:.0} µs)", micros(took)));
        }
        Some((address, _)) => findings.warn(
            check,
            format!("{address} accepts connections, others do not: {}", failed.join("; ")),
            "remove the addresses that nobody listens on from DNS, or start what should listen there",
        ),
        None => findings.fail(check, failed.join("; "), remedy_of(refused.first().map(|(_, kind, _)| *kind))),
    }
    good.map(|(address, _)| address)
}

fn remedy_of(kind: Option<io::ErrorKind>) -> &'static str {
    match kind {
        Some(io::ErrorKind::ConnectionRefused) => {
            "nothing listens there, or a firewall rejects the connection: check that it runs, and the port"
        }
        Some(io::ErrorKind::TimedOut) => {
            "a firewall drops the packets: allow outbound TCP to this port, and inbound on the far side"
        }
        _ => "check the address and the route to it",
    }
}

/// Checks whether a datagram arrives. Links use TCP today, so nothing depends on the result.
pub(super) async fn check_udp(findings: &mut Findings, check: &'static str, address: SocketAddr) {
    let found = match timeout(ANSWER_TIMEOUT, send_datagram(address)).await {
        Ok(Ok(())) => "a datagram was answered",
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "a datagram arrives, nothing listens for it"
        }
        Ok(Err(_)) | Err(_) => "a datagram gets no answer",
    };
    findings.ok(check, format!("{address}: {found} (not needed: links run over TCP)"));
}

/// Sends one byte and waits. An answer, or an error that nothing listens, means that it arrived.
async fn send_datagram(address: SocketAddr) -> io::Result<()> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(address).await?;
    socket.send(&[0]).await?;
    socket.recv(&mut [0; 1]).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::doctor::Verdict;

    #[tokio::test]
    async fn names_and_ports_are_distinguished() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut findings = Findings::default();
        assert_eq!(check_dns(&mut findings, "dns", "127.0.0.1", 7).await, ["127.0.0.1:7".parse().unwrap()]);
        assert!(check_dns(&mut findings, "dns", "no name at all", 7).await.is_empty());
        assert_eq!(check_tcp(&mut findings, "tcp", &[good]).await, Some(good));
        assert_eq!(check_tcp(&mut findings, "tcp", &[gone, good]).await, Some(good));
        assert_eq!(check_tcp(&mut findings, "tcp", &[gone]).await, None);
        check_udp(&mut findings, "udp", gone).await;
        let verdicts: Vec<Verdict> = findings.all().iter().map(|finding| finding.verdict).collect();
        use Verdict::{Fail, Ok, Warn};
        assert_eq!(verdicts, [Ok, Fail, Ok, Warn, Fail, Ok]);
        let remedy = findings.all()[1].remedy.clone().unwrap();
        let looked_up = std::process::Command::new("sh").args(["-c", remedy.split('`').nth(1).unwrap()]).status();
        assert_eq!(looked_up.unwrap().code(), Some(2), "it knows no such name: {remedy}");
        assert!(findings.all()[5].found.contains("nothing listens for it"), "{findings}");
    }
}
