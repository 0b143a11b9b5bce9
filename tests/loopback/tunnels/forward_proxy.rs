//! A forward proxy that reaches every host on this machine, whatever its name: HTTP CONNECT and SOCKS5, with a login.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// `me:hunter2`, as Basic authentication has it.
const BASIC: &str = "bWU6aHVudGVyMg==";
const USER: &[u8] = b"me";
const PASSWORD: &[u8] = b"hunter2";

/// A proxy that runs.
pub(crate) struct ForwardProxy {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl ForwardProxy {
    pub(crate) fn start() -> ForwardProxy {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let note = Arc::clone(&asked);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let note = Arc::clone(&note);
                // Whoever goes away under way is of no interest here.
                thread::spawn(move || drop(serve(client, &note)));
            }
        });
        ForwardProxy { address, asked }
    }

    /// The hosts and ports for which it was asked by those who gave the right login.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(mut client: TcpStream, note: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut first = [0];
    client.peek(&mut first)?;
    let target = if first == [5] { socks5(&mut client)? } else { http(&mut client)? };
    let Some((target, granted)) = target else { return Ok(()) };
    let port: u16 = target.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_default();
    note.lock().unwrap().push(target);
    let mut host = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    client.write_all(&granted)?;
    let (mut from_client, mut to_host) = (client.try_clone()?, host.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from_client, &mut to_host);
        let _ = to_host.shutdown(Shutdown::Write);
    });
    let _ = io::copy(&mut host, &mut client);
    client.shutdown(Shutdown::Write)
}

/// The host and port of a CONNECT request, and the answer; none when the login is wrong.
fn http(client: &mut TcpStream) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(byte(client)?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    if !head.contains(&format!("Proxy-Authorization: Basic {BASIC}\r\n")) {
        client
            .write_all(b"HTTP/1.1 407 Login\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n")?;
        return Ok(None);
    }
    Ok(Some((target.to_owned(), b"HTTP/1.1 200 Connection established\r\n\r\n".to_vec())))
}

/// The same by SOCKS5 (RFC 1928, RFC 1929), for names alone.
fn socks5(client: &mut TcpStream) -> io::Result<Option<(String, Vec<u8>)>> {
    byte(client)?;
    let methods = counted(client)?;
    if !methods.contains(&2) {
        client.write_all(&[5, 0xff])?;
        return Ok(None);
    }
    client.write_all(&[5, 2])?;
    byte(client)?;
    let good = counted(client)? == USER;
    if counted(client)? != PASSWORD || !good {
        client.write_all(&[1, 1])?;
        return Ok(None);
    }
    client.write_all(&[1, 0])?;
    let mut request = [0; 4];
    client.read_exact(&mut request)?;
    assert_eq!(request, [5, 1, 0, 3], "CONNECT to a name");
    let host = String::from_utf8(counted(client)?).unwrap();
    let port = u16::from_be_bytes([byte(client)?, byte(client)?]);
    Ok(Some((format!("{host}:{port}"), vec![5, 0, 0, 1, 127, 0, 0, 1, 0, 0])))
}

fn byte(client: &mut TcpStream) -> io::Result<u8> {
    let mut one = [0];
    client.read_exact(&mut one).map(|()| one[0])
}

fn counted(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::from(byte(client)?)];
    client.read_exact(&mut bytes).map(|()| bytes)
}
