//! Bodies of any length, asked for by their path, and both ends of the connections that carry them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use adit::base::{Clock, Time};
use adit::engine::driver::{Address, SocketOptions};
use adit::engine::{ByteStream, Class, Core, Socket, StreamError};
use futures_lite::future;

use crate::roles::UPSTREAM_AT;

/// The upstream: takes any body, and answers with as many bytes as it is asked for: `/LENGTH`, or `/LENGTH/MILLISECONDS` to
/// wait before it answers. Of a body for `/deaf` it takes nothing, and for `/hints` it sends an interim response every 30 s
/// and never a final one. `GET /events` is an event stream with one event; `GET /events/MILLISECONDS` has half of another one
/// behind it, and after that time the other half, and the half of a third. `POST /sum/LENGTH/SUM` is answered only if the body has
/// that sum. `POST /slow/LENGTH/MILLISECONDS` answers after that time, and `POST /sse/LENGTH/MILLISECONDS/COUNT/METHOD` with an
/// event stream of so many notifications, that time apart, and a result behind them; both notice when they are given up. The events
/// of `resumable` notifications have ids.
/// `POST /busy/LENGTH/MILLISECONDS/WORKERS` works on so many calls at one time, each for so long whatever becomes of its caller, and
/// lets further ones wait.
/// `POST /answer/LENGTH/ANSWER` answers at once with as many bytes as `ANSWER` says.
/// `POST /status/LENGTH/STATUS` answers with that status, and `POST /drop/LENGTH` closes the connection instead.
pub(crate) fn serve(core: &Core) {
    let listener = core.listen(&Address::Tcp(UPSTREAM_AT)).expect("a free address");
    let (core, workers) = (core.clone(), Workers::default());
    core.clone().spawn(async move {
        loop {
            let Ok((detached, _)) = listener.accept().await else { continue };
            let Ok(socket) = core.adopt(detached, SocketOptions::default()).await else { continue };
            let workers = Rc::clone(&workers);
            core.spawn(async move {
                // Whatever goes wrong, its agent sees.
                let _ = answer_all(&socket, &workers).await;
            });
        }
    });
}

/// What is sent of a call that was cut, to the address of the call. It is accepted at once.
const CANCELLED: &[u8] = b"notifications/cancelled";

/// When each worker of an upstream is free.
type Workers = Rc<RefCell<Vec<Time>>>;

async fn answer_all(socket: &Socket, workers: &Workers) -> Result<(), StreamError> {
    let mut received = Vec::new();
    loop {
        let head = read_head(socket, &mut received).await?;
        let mut words = head.split([' ', '/']).filter(|word| !word.is_empty());
        let upload = words.next() == Some("POST");
        if head.starts_with("POST /deaf ") {
            std::future::pending::<()>().await;
        }
        if head.starts_with("GET /events") {
            let pause = head.split(['/', ' ']).nth(3).and_then(|pause| pause.parse().ok());
            send_events(socket, pause.map(Duration::from_millis)).await?;
            // The connector ends it.
            socket.recv().await?;
            return Ok(());
        }
        if head.starts_with("POST /sum/") {
            let numbers: Vec<u64> = words.skip(1).map_while(|word| word.parse().ok()).collect();
            let body = read(socket, &mut received, numbers[0] as usize, Duration::ZERO).await?;
            if sum(&body) != numbers[1] {
                return Ok(());
            }
            send(socket, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await?;
            continue;
        }
        if head.starts_with("POST /slow/") || head.starts_with("POST /sse/") {
            let is_stream = words.next() == Some("sse");
            let mut number = || words.next().and_then(|word| word.parse::<u64>().ok()).expect("a number");
            let (_, pause) = (number(), Duration::from_millis(number()));
            let len = head.split_once("Content-Length: ").and_then(|(_, rest)| rest.split("\r\n").next()?.parse().ok());
            let message = read(socket, &mut received, len.expect("a length"), Duration::ZERO).await?;
            if message.windows(CANCELLED.len()).any(|at| at == CANCELLED) {
                send(socket, b"HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await?;
                return Ok(());
            }
            if is_stream {
                let count = number();
                let method = words.next().expect("a method");
                send_notifications(socket, pause, count, method).await?;
            } else {
                work(socket, pause).await?;
                send(socket, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await?;
            }
            continue;
        }
        if head.starts_with("POST /busy/") {
            let numbers: Vec<u64> = words.skip(1).map_while(|word| word.parse().ok()).collect();
            read(socket, &mut received, numbers[0] as usize, Duration::ZERO).await?;
            let until =
                work_in_turn(workers, numbers[2] as usize, Duration::from_millis(numbers[1]), socket.core().now());
            socket.core().sleep_until(until).await;
            send(socket, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await?;
            continue;
        }
        if head.starts_with("POST /answer/") {
            let numbers: Vec<usize> = words.skip(1).map_while(|word| word.parse().ok()).collect();
            read(socket, &mut received, numbers[0], Duration::ZERO).await?;
            send(socket, format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", numbers[1]).as_bytes()).await?;
            send(socket, &body(numbers[1])).await?;
            continue;
        }
        if head.starts_with("POST /status/") || head.starts_with("POST /drop/") {
            let numbers: Vec<u64> = words.skip(1).map_while(|word| word.parse().ok()).collect();
            read(socket, &mut received, numbers[0] as usize, Duration::ZERO).await?;
            let Some(status) = numbers.get(1) else { return Ok(()) };
            send(socket, format!("HTTP/1.1 {status} Status\r\nContent-Length: 2\r\n\r\n{{}}").as_bytes()).await?;
            continue;
        }
        while head.starts_with("POST /hints ") {
            socket.core().sleep(Duration::from_secs(30)).await;
            send(socket, b"HTTP/1.1 103 Early Hints\r\n\r\n").await?;
        }
        let len: usize = words.next().and_then(|len| len.parse().ok()).expect("the path says how long");
        let after_ms = words.next().and_then(|after| after.parse().ok()).unwrap_or(0);
        let (of_request, of_answer) = if upload { (len, 2) } else { (0, len) };
        read(socket, &mut received, of_request, Duration::ZERO).await?;
        socket.core().sleep(Duration::from_millis(after_ms)).await;
        send(socket, format!("HTTP/1.1 200 OK\r\nContent-Length: {of_answer}\r\n\r\n").as_bytes()).await?;
        send(socket, &body(of_answer)).await?;
    }
}

/// The event of each event stream.
pub(crate) const EVENT: &str = "id: 1\ndata: {}\n\n";

async fn send_events(socket: &Socket, pause: Option<Duration>) -> Result<(), StreamError> {
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    send(socket, format!("{head}{}", chunk(EVENT)).as_bytes()).await?;
    let Some(pause) = pause else { return Ok(()) };
    send(socket, chunk("id: 2\n").as_bytes()).await?;
    socket.core().sleep(pause).await;
    send(socket, chunk("data: {}\n\nid: 3\n").as_bytes()).await
}

/// When the first worker that is free has done so much work.
fn work_in_turn(workers: &Workers, count: usize, work: Duration, now: Time) -> Time {
    let mut free_at = workers.borrow_mut();
    free_at.resize(count, now);
    let free = free_at.iter_mut().min().expect("it has workers");
    *free = (*free).max(now) + work;
    *free
}

/// Passes so much time, unless the connection ends meanwhile.
pub(crate) async fn work(socket: &Socket, time: Duration) -> Result<(), StreamError> {
    let worked = async {
        socket.core().sleep(time).await;
        Ok(())
    };
    let given_up = async {
        while socket.recv().await?.is_some() {}
        Err(StreamError::Truncated)
    };
    future::or(worked, given_up).await
}

async fn send_notifications(socket: &Socket, pause: Duration, count: u64, method: &str) -> Result<(), StreamError> {
    let chunk = |text: String| format!("{:x}\r\n{text}\r\n", text.len());
    send(socket, b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
    for _ in 0..count {
        work(socket, pause).await?;
        let id = if method == "resumable" { "id: 1\n" } else { "" };
        let event = format!("{id}data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/{method}\"}}\n\n");
        send(socket, chunk(event).as_bytes()).await?;
    }
    work(socket, pause).await?;
    let result = "data: {\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}\n\n".to_owned();
    send(socket, format!("{}0\r\n\r\n", chunk(result)).as_bytes()).await
}

/// Tells a body from any other (FNV-1a).
pub(crate) fn sum(body: &[u8]) -> u64 {
    body.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// The bytes of every body of this length. They repeat, so that most of them are copied: made one by one, in a build for tests, they
/// would take longer than all that the simulation does with them.
pub(crate) fn body(len: usize) -> Vec<u8> {
    const PERIOD: usize = 7 * 256;
    let period: Vec<u8> = (0..len.min(PERIOD)).map(|at| (at * 31 / 7) as u8).collect();
    let mut body = Vec::with_capacity(len + PERIOD);
    while body.len() < len {
        body.extend_from_slice(&period);
    }
    body.truncate(len);
    body
}

pub(crate) async fn read_head(socket: &impl ByteStream, received: &mut Vec<u8>) -> Result<String, StreamError> {
    loop {
        if let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = received.split_off(end + 4);
            return Ok(String::from_utf8(std::mem::replace(received, rest)).expect("a head is text"));
        }
        let lease = socket.recv().await?.ok_or(StreamError::Truncated)?;
        received.extend_from_slice(&lease);
    }
}

pub(crate) async fn read(
    socket: &Socket,
    received: &mut Vec<u8>,
    len: usize,
    pause: Duration,
) -> Result<Vec<u8>, StreamError> {
    while received.len() < len {
        let lease = socket.recv().await?.ok_or(StreamError::Truncated)?;
        received.extend_from_slice(&lease);
        drop(lease);
        if !pause.is_zero() {
            socket.core().sleep(pause).await;
        }
    }
    let rest = received.split_off(len);
    Ok(std::mem::replace(received, rest))
}

pub(crate) async fn send(socket: &Socket, bytes: &[u8]) -> Result<(), StreamError> {
    for piece in bytes.chunks(Class::Small.bytes()) {
        socket.ready().await?;
        let mut lease = socket.core().pool().lease(Class::Small).await;
        lease.append(piece);
        socket.send(lease)?;
    }
    Ok(())
}
