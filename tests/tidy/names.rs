//! A public type has a name of its own, so that a reader who meets it knows which one is meant.

use std::collections::BTreeMap;

use crate::source::{Source, is_name_byte};
use crate::{Fault, fault};

/// What comes before the name of a type.
const TYPES: &[&str] = &["pub struct ", "pub enum ", "pub trait ", "pub type ", "pub union "];

/// Names that stand for one idea in several places: each role has its counters and its reports of links, and the demo
/// server is there twice, for a build with it and for one without.
const SHARED: &[&str] = &["Counters", "DemoServer", "LinkReport"];

/// The public types of `src/` whose name another one has too, each but the first.
pub(crate) fn repeated(sources: &[Source]) -> Vec<Fault> {
    let mut first: BTreeMap<&str, String> = BTreeMap::new();
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| source.path.starts_with("src/") && !source.is_for_tests) {
        for (at, name) in types(source).into_iter().filter(|(_, name)| !SHARED.contains(name)) {
            match first.get(name) {
                Some(other) => {
                    let what = format!("the public type `{name}` is in {other} too");
                    faults.push(fault(source, at, what, "give it a name that says which one it is"));
                }
                None => drop(first.insert(name, source.path.clone())),
            }
        }
    }
    faults
}

/// The public types that a file declares.
fn types(source: &Source) -> Vec<(usize, &str)> {
    let starts = TYPES.iter().flat_map(|start| source.code.match_indices(start));
    let mut found: Vec<(usize, &str)> = starts
        .map(|(at, start)| {
            let name = &source.code[at + start.len()..];
            (at, &name[..name.bytes().take_while(|byte| is_name_byte(*byte)).count()])
        })
        .collect();
    // A macro's `$name` is none.
    found.retain(|(_, name)| !name.is_empty());
    found.sort_unstable();
    found
}

#[test]
fn a_public_type_whose_name_stands_twice_is_seen() {
    let sources = [
        Source::new("src/link/mod.rs", "pub struct Ended {}\npub(super) enum Local {}\npub struct Counters {}"),
        Source::new("src/serve/mod.rs", "// pub struct Ended\npub enum Ended {}\npub struct Counters {}"),
        Source::new("src/wire/mod.rs", "pub enum Local {}\npub struct EndedEarly;\nstruct Ended;"),
        Source::new("tests/x.rs", "pub struct Ended;"),
    ];
    let faults: Vec<String> = repeated(&sources).iter().map(ToString::to_string).collect();
    let text = "src/serve/mod.rs:2: the public type `Ended` is in src/link/mod.rs too; give it a name that says which one it is";
    assert_eq!(faults, [text]);
}
