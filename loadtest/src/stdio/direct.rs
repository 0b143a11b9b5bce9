//! Calls over the pipes of a child process, as a client on the same machine makes them.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::server;
use super::table::Measured;
use crate::compare::cpus::CpuList;
use crate::compare::launch::LAUNCH;
use crate::latencies::Latencies;

/// The length of the argument of a call, in bytes.
const PAYLOAD_LEN: usize = 960;

/// A server and the ends of its pipes; ended on drop.
pub(super) struct Direct {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    line: String,
    next: u64,
}

impl Direct {
    /// Starts the server on these CPUs.
    ///
    /// # Errors
    ///
    /// If it cannot be started, or does not answer.
    pub(super) fn start(this: &Path, cpus: Option<&CpuList>) -> io::Result<Direct> {
        let mut command = Command::new(this);
        command.arg(LAUNCH).arg("--parent").arg(std::process::id().to_string());
        if let Some(cpus) = cpus {
            command.arg("--cpus").arg(cpus.to_string());
        }
        command.arg("--").arg(this).arg(server::COMMAND);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (Some(input), Some(output)) = (input, output) else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let mut direct = Direct { child, input, output: BufReader::new(output), line: String::new(), next: 0 };
        let params =
            r#"{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"adit-loadtest","version":"1"}}"#;
        writeln!(direct.input, r#"{{"jsonrpc":"2.0","id":"i","method":"initialize","params":{params}}}"#)?;
        direct.receive()?;
        writeln!(direct.input, r#"{{"jsonrpc":"2.0","method":"notifications/initialized"}}"#)?;
        Ok(direct)
    }

    /// Makes calls with so many in flight.
    ///
    /// # Errors
    ///
    /// If the server ends.
    pub(super) fn measure(&mut self, in_flight: usize, warm_up: Duration, duration: Duration) -> io::Result<Measured> {
        let text = "x".repeat(PAYLOAD_LEN);
        let (begin, mut latencies, mut sent) = (Instant::now() + warm_up, Latencies::new(), VecDeque::new());
        for _ in 0..in_flight {
            sent.push_back(self.send(&text)?);
        }
        let end = begin + duration;
        while let Some(at) = sent.pop_front() {
            // The server answers in order.
            self.receive()?;
            let now = Instant::now();
            if at >= begin && now <= end {
                latencies.record(now - at);
            }
            if now < end {
                sent.push_back(self.send(&text)?);
            }
        }
        Ok(Measured::new(&latencies, duration))
    }

    fn send(&mut self, text: &str) -> io::Result<Instant> {
        self.next += 1;
        let (id, at) = (self.next, Instant::now());
        let call = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"tools/call\",\"params\":{{\"name\":\"echo\",\"arguments\":{{\"text\":\"{text}\"}}}}}}\n"
        );
        self.input.write_all(call.as_bytes())?;
        Ok(at)
    }

    fn receive(&mut self) -> io::Result<()> {
        self.line.clear();
        match self.output.read_line(&mut self.line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
