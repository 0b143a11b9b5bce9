//! The benchmark harness for tunnel overhead, of any tunnel.

fn main() {}
