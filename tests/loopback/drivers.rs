//! What this machine can do.

/// The drivers that work on this machine.
pub(crate) fn drivers() -> Vec<&'static str> {
    let out = crate::process::command(&["up", "--once", "--json"]).output().expect("the program runs");
    let stdout: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
    if stdout["driver"] == "uring" { vec!["uring", "epoll"] } else { vec!["epoll"] }
}
