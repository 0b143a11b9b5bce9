//! Tests in namespaces of their own: networks and mounts that are nobody else's.
//!
//! They bring their own harness, as the standard one knows no test that finds out only when it runs that it cannot run here: such a
//! test is reported as ignored, by its name and with the reason. Each runs in a process of its own, inside its namespaces, and all at
//! the same time: they share nothing, and wait for far longer than they compute.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod disk_full;
#[path = "../loopback/free_address.rs"]
mod free_address;
mod lossy_link;
mod lossy_path;
#[path = "../loopback/http2/node.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod node;
mod packet_filter;
#[path = "../loopback/process.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod process;
mod silent_host;
mod silent_port;
mod silent_upstream;
#[path = "../loopback/tunnels/site.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod site;
mod space;
#[path = "../loopback/support.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod support;
mod walk;

use std::process::ExitCode;
use std::thread;

use space::Ended;

/// A test: it panics when it fails, and says why when this machine cannot run it.
type Test = fn() -> Result<(), String>;

const TESTS: [(&str, Test); 11] = [
    ("disk_full::a_change_is_refused_and_nothing_is_lost", disk_full::a_change_is_refused_and_nothing_is_lost),
    (
        "disk_full::calls_are_refused_while_their_log_has_no_room",
        disk_full::calls_are_refused_while_their_log_has_no_room,
    ),
    (
        "lossy_link::a_link_on_which_large_packets_are_lost_is_given_up",
        lossy_link::a_link_on_which_large_packets_are_lost_is_given_up,
    ),
    (
        "silent_upstream::an_upstream_of_http_1_that_answers_nothing_is_given_up",
        silent_upstream::an_upstream_of_http_1_that_answers_nothing_is_given_up,
    ),
    (
        "lossy_path::the_doctor_tells_a_path_that_loses_large_packets",
        lossy_path::the_doctor_tells_a_path_that_loses_large_packets,
    ),
    (
        "lossy_path::the_doctor_does_not_blame_the_size_where_nothing_comes_through",
        lossy_path::the_doctor_does_not_blame_the_size_where_nothing_comes_through,
    ),
    ("silent_host::a_host_that_answers_nothing_is_given_up", silent_host::a_host_that_answers_nothing_is_given_up),
    (
        "silent_upstream::an_upstream_of_http_2_that_answers_nothing_is_given_up",
        silent_upstream::an_upstream_of_http_2_that_answers_nothing_is_given_up,
    ),
    (
        "silent_upstream::the_silent_event_streams_of_upstreams_that_vanish_end_in_time",
        silent_upstream::the_silent_event_streams_of_upstreams_that_vanish_end_in_time,
    ),
    (
        "silent_port::connectors_whose_packets_vanish_at_the_edges_port_come_in_at_the_port_of_https",
        silent_port::connectors_whose_packets_vanish_at_the_edges_port_come_in_at_the_port_of_https,
    ),
    (
        "walk::a_new_user_reaches_a_server_behind_a_firewall_that_lets_nothing_in",
        walk::a_new_user_reaches_a_server_behind_a_firewall_that_lets_nothing_in,
    ),
];
/// Arguments of the standard harness that take a value of their own.
const WITH_VALUE: [&str; 5] = ["--color", "--format", "--logfile", "--skip", "--test-threads"];

fn main() -> ExitCode {
    if let Some(name) = space::inside() {
        let (_, test) = TESTS.iter().find(|(known, _)| *known == name).expect("it was started from outside");
        return space::report(test());
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let wanted = wanted(&args);
    if args.iter().any(|arg| arg == "--list") {
        wanted.iter().for_each(|name| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", wanted.len());
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    let running: Vec<_> = wanted.iter().map(|&name| (name, thread::spawn(move || space::run(name)))).collect();
    for (name, run) in running {
        match run.join().expect("a test that panics does so in its own process") {
            Ended::Well => {
                passed += 1;
                println!("test {name} ... ok");
            }
            Ended::Badly(output) => {
                failed += 1;
                println!("test {name} ... FAILED\n\n{output}");
            }
            Ended::NotRun(why) => {
                ignored += 1;
                println!("test {name} ... ignored, {why}");
            }
        }
    }
    let verdict = if failed == 0 { "ok" } else { "FAILED" };
    let left_out = TESTS.len() - wanted.len();
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; {left_out} filtered out\n"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The tests that the arguments ask for: those whose name holds one of the words, or is it with `--exact`; all without words.
fn wanted(args: &[String]) -> Vec<&'static str> {
    let is_exact = args.iter().any(|arg| arg == "--exact");
    let is_value = |at: usize| at > 0 && WITH_VALUE.contains(&args[at - 1].as_str());
    let is_word = |(at, arg): &(usize, &String)| !arg.starts_with('-') && !is_value(*at);
    let words: Vec<&String> = args.iter().enumerate().filter(is_word).map(|(_, arg)| arg).collect();
    let fits = |name: &str, word: &str| if is_exact { name == word } else { name.contains(word) };
    let is_wanted = |name: &&str| words.is_empty() || words.iter().any(|word| fits(name, word));
    TESTS.iter().map(|(name, _)| *name).filter(is_wanted).collect()
}
