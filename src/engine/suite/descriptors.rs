//! The behaviour when the process may open no more files. It runs in a process of its own, because the limit applies to
//! the whole process.

use std::env;
use std::fs::File;
use std::iter;
use std::process::Command;

use super::{EpollNetwork, FAR, NEAR, Network, UringNetwork, World};
use crate::engine::driver::Token;

/// Set in the process that has few descriptors.
const LIMITED: &str = "ADIT_TEST_FEW_DESCRIPTORS";

#[test]
fn without_descriptors_accepting_pauses() {
    if env::var_os(LIMITED).is_some() {
        accept_without_descriptors::<EpollNetwork>();
        accept_without_descriptors::<UringNetwork>();
        return;
    }
    let name = format!("{}::without_descriptors_accepting_pauses", module_path!());
    let name = name.split_once("::").expect("the crate's name").1;
    let output = Command::new("sh")
        .args(["-c", "ulimit -n 200 && exec \"$@\"", "sh"])
        .arg(env::current_exe().expect("the test program"))
        .args(["--exact", name])
        .env(LIMITED, "1")
        .output()
        .expect("a shell");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && report.contains("1 passed"), "{report}");
}

fn accept_without_descriptors<N: Network>() {
    const CONNECTIONS: usize = 10;
    let Some(mut world) = World::<N>::new(1) else { return };
    let address = world.network.address();
    let (listener, address) = world.nodes[FAR].listen(&address);
    let sockets: Vec<Token> = (0..CONNECTIONS).map(|_| world.nodes[NEAR].connect(&address)).collect();
    world.until("all are connected", |world| {
        sockets.iter().all(|socket| world.nodes[NEAR].log(*socket).connected.is_some())
    });
    let mut opened: Vec<File> = iter::from_fn(|| File::open("/dev/null").ok()).collect();
    for left in (1..=CONNECTIONS).rev() {
        world.nodes[FAR].driver.accept(listener, true);
        world.until("accepting fails", |world| world.nodes[FAR].log(listener).accept_failed.is_some());
        let error = world.nodes[FAR].log(listener).accept_failed.take().expect("checked above");
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        assert_eq!(world.nodes[FAR].accepted.len(), CONNECTIONS - left);
        // While paused, it does not try again by itself.
        world.a_while();
        assert!(world.nodes[FAR].log(listener).accept_failed.is_none());
        opened.pop();
    }
    world.nodes[FAR].driver.accept(listener, true);
    world.until("the last one is accepted", |world| world.nodes[FAR].accepted.len() == CONNECTIONS);
    drop(opened);
    world.finish();
}
