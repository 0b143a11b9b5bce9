//! Agents that stop reading: their call ends when there is nothing more to wait for, and they keep nobody else's memory.

use super::{Way, get};

#[test]
fn a_call_whose_agent_does_not_read_ends_with_its_link() {
    const LEN: usize = 32 << 20;
    let mut way = Way::tunnel();
    let (mut agent, _, mut at) = way.exchange(&get("/mcp"));
    at.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n"));
    assert_eq!(agent.head().status(), 200);
    // As much as is sent on its way without being read at the end of it.
    at.send(vec![7; 1 << 20]);
    let edge = agent.other_end();
    way.processes().connector = None;
    edge.until_gone();
    assert!(agent.until_closed().len() < LEN);
}
