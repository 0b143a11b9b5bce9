//! The house rules that a compiler does not know, kept by an ordinary test.
//!
//! The sources are read as text, comments and literals told apart. Each rule is itself tried on a bad sample, so that
//! it is known to be able to fail.

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/commands.rs"]
mod commands;
#[path = "tidy/docs.rs"]
mod docs;
#[path = "tidy/names.rs"]
mod names;
#[path = "tidy/outsiders.rs"]
mod outsiders;
#[path = "tidy/source.rs"]
mod source;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use source::{Source, is_name_byte};

/// Which modules each module of `src/` may import. Arrows point down only.
const FLOORS: &[(&str, &[&str])] = &[
    // Floor 0.
    ("base", &[]),
    // Floor 1: what decides.
    ("audit", &["base"]),
    ("wire", &["base"]),
    ("route", &["base", "policy", "identity"]),
    ("latency", &["base"]),
    ("policy", &["base", "wire"]),
    ("identity", &["base", "policy"]),
    ("bridge", &["base", "wire"]),
    // Floor 2: what acts.
    ("engine", &["base"]),
    ("private", &["base"]),
    ("tls", &["base", "engine", "private"]),
    ("dial", &["base", "wire", "engine"]),
    ("http2", &["base", "wire", "engine"]),
    ("quic", &["base", "wire", "engine", "tls"]),
    // Floor 3.
    ("exchange", &["base", "wire", "route", "latency", "policy", "engine", "private", "tls"]),
    ("link", &["base", "wire", "route", "latency", "policy", "engine", "private", "tls", "quic", "http2"]),
    ("serve", &["base", "audit", "wire", "route", "latency", "policy", "identity", "engine", "http2", "exchange"]),
    ("stdio", &["base", "wire", "policy", "engine", "exchange"]),
    (
        "upstream",
        &["base", "wire", "route", "latency", "policy", "bridge", "engine", "private", "tls", "dial", "http2", "stdio"],
    ),
    // Floor 4: the roles, and the control thread that speaks to them.
    (
        "connector",
        &[
            "base", "wire", "route", "latency", "policy", "identity", "bridge", "engine", "private", "tls", "dial",
            "http2", "quic", "exchange", "link", "serve", "stdio", "upstream",
        ],
    ),
    (
        "edge",
        &[
            "base", "wire", "route", "latency", "policy", "identity", "engine", "private", "tls", "quic", "exchange",
            "link", "serve", "upstream",
        ],
    ),
    (
        "control",
        &[
            "base",
            "audit",
            "wire",
            "route",
            "latency",
            "policy",
            "identity",
            "engine",
            "private",
            "tls",
            "dial",
            "exchange",
            "link",
            "serve",
            "stdio",
            "upstream",
            "connector",
            "edge",
        ],
    ),
    // Floor 5: the configuration, which is a leaf, and the process that puts it to work.
    ("config", &["base", "wire", "route", "policy", "identity", "private"]),
    (
        "process",
        &[
            "base",
            "wire",
            "route",
            "latency",
            "policy",
            "identity",
            "engine",
            "private",
            "tls",
            "dial",
            "exchange",
            "link",
            "serve",
            "stdio",
            "upstream",
            "connector",
            "edge",
            "control",
            "config",
        ],
    ),
];

/// The module of the top floor, which may import all, and the two roots.
const TOP: &[&str] = &["cli", "lib", "main"];

/// The most files of a module that may import each other in a circle.
const CIRCLE_FILES_MAX: usize = 3;

/// Modules that decide: bytes and durations in, events out.
const DECIDING: &[&str] = &["base", "audit", "wire", "route", "latency", "policy", "identity", "bridge"];

/// What acts, and has no business where things are decided.
const ACTING: &[&str] = &[
    "std::fs",
    "std::process",
    "std::thread",
    "TcpListener",
    "TcpStream",
    "UdpSocket",
    "UnixListener",
    "UnixStream",
    "libc",
    "tokio",
];

/// The one folder where `unsafe` may stand, in code that ships.
const UNSAFE_FOLDER: &str = "src/engine/sys/";

/// A breach of a rule.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    path: String,
    line: usize,
    what: String,
    remedy: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}; {}", self.path, self.line, self.what, self.remedy)
    }
}

type Rule = fn(&Source) -> Vec<Fault>;

const RULES: &[Rule] = &[
    arrows_point_down,
    no_super_leaves_its_module,
    deciding_modules_do_not_act,
    tokio_stays_on_the_control_thread,
    unsafe_has_its_place,
    unsafe_has_its_note,
    clocks_are_passed_in,
    nothing_is_left_over,
    only_the_commands_print,
    no_test_is_skipped,
    nothing_sleeps,
    docs::short_docs,
    commands::unknown_commands,
];

#[test]
fn the_house_rules_are_kept() {
    let sources = sources_of(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(sources.iter().any(|source| source.path == "src/base/time.rs"), "the sources were not found");
    let faults: Vec<String> =
        sources.iter().flat_map(|source| RULES.iter().flat_map(|rule| rule(source))).map(|f| f.to_string()).collect();
    assert!(faults.is_empty(), "{} breaches of the house rules:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn no_public_name_stands_for_two_types() {
    let sources = sources_of(Path::new(env!("CARGO_MANIFEST_DIR")));
    let faults: Vec<String> = names::repeated(&sources).iter().map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_circle_of_imports_is_large() {
    let sources = sources_of(Path::new(env!("CARGO_MANIFEST_DIR")));
    for module in FLOORS.iter().map(|(module, _)| *module).chain(["cli"]) {
        let found = circles::circles(module, CIRCLE_FILES_MAX, &sources);
        assert!(
            found.is_empty(),
            "`{module}` has circles of imports; pass in what is needed, or move it down: {found:?}"
        );
    }
}

/// The faults of `docs/NETWORKS.md` are shown by tests, and the settings that it names are there. The last column of each table
/// names the tests, and the one before it the settings.
#[test]
fn each_fault_of_networks_has_its_test_and_its_settings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = sources_of(root);
    let read = |name: &str| fs::read_to_string(root.join(name)).expect("the page is there");
    let (page, config) = (read("docs/NETWORKS.md"), read("docs/CONFIG.md"));
    let rows: Vec<Vec<&str>> = page.lines().filter(|line| line.starts_with("| ")).map(cells_of).collect();
    let is_row = |row: &&Vec<&str>| !["test", "---"].contains(row.last().unwrap_or(&""));
    let rows: Vec<&Vec<&str>> = rows.iter().filter(is_row).collect();
    assert!(rows.len() > 40, "the tables were not found: {rows:?}");
    let is_there = |name: &str| sources.iter().any(|source| source.code.contains(&format!("fn {name}(")));
    for row in rows {
        let [.., settings, tests] = row[..] else { panic!("a row without columns: {row:?}") };
        assert_ne!(quoted_in(tests).count(), 0, "{row:?} names no test");
        let missing: Vec<&str> = quoted_in(tests).filter(|name| !is_there(name)).collect();
        assert!(missing.is_empty(), "tests that do not exist: {missing:#?}");
        let missing: Vec<&str> = quoted_in(settings).filter(|name| !is_setting(name, &config)).collect();
        assert!(missing.is_empty(), "settings that do not exist: {missing:#?}");
    }
    assert!(!is_there("a_test_that_does_not_exist"));
    assert!(is_setting("edge.write_timeout_ms", &config) && !is_setting("edge.write_timeout_s", &config));
    assert!(!is_setting("route.write_timeout_ms", &config), "it is one of other tables");
}

/// The cells of a row of a table.
fn cells_of(row: &str) -> Vec<&str> {
    row.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('|').trim()).collect()
}

/// What stands between backticks.
fn quoted_in(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Whether a name is that of a setting with its table, of a setting alone, or of a field of requests.
fn is_setting(name: &str, config: &str) -> bool {
    let Some((table, key)) = name.split_once('.') else {
        let is_field = name.contains('-') || name.starts_with("X-");
        return is_field || config.contains(&format!("`{name}`"));
    };
    let mut is_in_table = false;
    config.lines().any(|line| {
        if let Some(heading) = line.strip_prefix("## ") {
            is_in_table = heading.trim_matches(['`', '[', ']']) == table;
        }
        is_in_table && line == format!("### `{key}`")
    })
}

#[test]
fn public_items_are_used_outside_the_crate() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = sources_of(root);
    let (inside, outside): (Vec<&Source>, Vec<&Source>) = sources.iter().partition(|s| s.path.starts_with("src/"));
    let text = |source: &Source| fs::read_to_string(root.join(&source.path)).expect("it was read before");
    let faults: Vec<String> = inside
        .iter()
        .flat_map(|source| outsiders::unused(source, &text(source), &outside))
        .map(|fault| fault.to_string())
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn arrows_point_down(source: &Source) -> Vec<Fault> {
    let Some(module) = source.module().filter(|module| !TOP.contains(module)) else { return Vec::new() };
    let Some((_, allowed)) = FLOORS.iter().find(|(name, _)| *name == module) else {
        let what = format!("the module `{module}` has no floor");
        return vec![fault(source, 0, what, "give it one in FLOORS of tests/tidy.rs and in docs/ARCHITECTURE.md")];
    };
    let imports = source.find_in_code("crate").flat_map(|at| roots_after(&source.code, at + "crate".len(), at));
    imports
        .filter(|(_, root)| root != module && !allowed.contains(&root.as_str()))
        .map(|(at, root)| {
            let what = format!("`{module}` imports `{root}`");
            fault(source, at, what, "a module imports only lower floors: move what is shared down, or pass it in")
        })
        .collect()
}

/// The modules of the crate's root that a path names which begins with the `crate` that ends at `end`.
fn roots_after(code: &str, end: usize, at: usize) -> Vec<(usize, String)> {
    let Some(path) = code[end..].trim_start().strip_prefix("::").map(str::trim_start) else { return Vec::new() };
    let Some(group) = path.strip_prefix('{') else { return vec![(at, leading_name(path))] };
    let (mut depth, mut item_start, mut roots) = (0_usize, 0, Vec::new());
    for (here, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                let item = group[item_start..here].trim();
                roots.extend((!item.is_empty()).then(|| (at, leading_name(item))));
                item_start = here + 1;
            }
            _ => {}
        }
        if c == '}' && item_start == here + 1 {
            break;
        }
    }
    roots
}

fn leading_name(path: &str) -> String {
    let name: String = path.chars().take_while(|c| u8::try_from(*c).is_ok_and(is_name_byte)).collect();
    if name.is_empty() { path.chars().take(1).collect() } else { name }
}

fn no_super_leaves_its_module(source: &Source) -> Vec<Fault> {
    let Some(module) = source.module().filter(|module| !TOP.contains(module)) else { return Vec::new() };
    let mut faults = Vec::new();
    let mut last = None;
    for at in source.find_in_code("super") {
        let follows = |last: usize| source.code[last + "super".len()..at].trim() == "::";
        let (start, length) = match last {
            Some((start, length, before)) if follows(before) => (start, length + 1),
            _ => (at, 1),
        };
        last = Some((start, length, at));
        if length == source.depth() + source.inline_modules_at(start) {
            let what = format!("`super` climbs out of `{module}`");
            faults.push(fault(source, start, what, "write the path from `crate::`, so that the arrow can be seen"));
        }
    }
    faults
}

fn deciding_modules_do_not_act(source: &Source) -> Vec<Fault> {
    let Some(module) = source.module().filter(|module| DECIDING.contains(module)) else { return Vec::new() };
    let remedy = "what decides never acts: take bytes, durations and `now` in, give events out";
    each(source, ACTING, |phrase| format!("`{module}` uses `{phrase}`"), remedy)
}

fn tokio_stays_on_the_control_thread(source: &Source) -> Vec<Fault> {
    match source.module() {
        None | Some("control" | "process" | "cli" | "main") => Vec::new(),
        // The traits of tokio are what the `h2` crate reads and writes by.
        Some("http2") if source.path == "src/http2/io.rs" => Vec::new(),
        Some(_) => each(source, &["tokio"], quoted, "tokio runs on the control thread alone; send it a message"),
    }
}

fn unsafe_has_its_place(source: &Source) -> Vec<Fault> {
    let counts_allocations = source.path == "tests/alloc/counting.rs";
    if source.path.starts_with(UNSAFE_FOLDER) || counts_allocations {
        return Vec::new();
    }
    each(source, &["unsafe"], quoted, "it may stand only in src/engine/sys/; wrap it there in a safe function")
}

fn unsafe_has_its_note(source: &Source) -> Vec<Fault> {
    let (code, comments): (Vec<&str>, Vec<&str>) = (source.code.lines().collect(), source.comments.lines().collect());
    source
        .find_in_code("unsafe")
        .filter(|at| !has_safety_note(&code, &comments, source.line_of(*at) - 1))
        .map(|at| {
            let remedy = "say in a `// SAFETY:` above it (`# Safety` for a function) why it is sound";
            fault(source, at, "`unsafe` without its note".to_owned(), remedy)
        })
        .collect()
}

/// Whether a note stands on the line, or above it within the same statement and the comment before that.
fn has_safety_note(code: &[&str], comments: &[&str], line: usize) -> bool {
    let is_note = |at: usize| comments[at].contains("SAFETY:") || comments[at].contains("# Safety");
    let same_statement = |at: usize| {
        let (code, comment) = (code[at].trim(), comments[at].trim());
        let attribute = code.starts_with("#[");
        attribute || if code.is_empty() { !comment.is_empty() } else { !code.ends_with([';', '{', '}', ',']) }
    };
    is_note(line) || (0..line).rev().take_while(|at| same_statement(*at)).any(is_note)
}

fn clocks_are_passed_in(source: &Source) -> Vec<Fault> {
    let clocks: &[&str] = match source.module() {
        None | Some("engine" | "control" | "process") => return Vec::new(),
        // Certificates are valid by the calendar.
        Some("tls") if source.path == "src/tls/certs.rs" => &["Instant::now"],
        Some(_) => &["Instant::now", "SystemTime::now"],
    };
    each(source, clocks, quoted, "take a `Time` or a `Clock` in, so that a test and the simulation can hold it still")
}

fn nothing_is_left_over(source: &Source) -> Vec<Fault> {
    let macros = ["todo!", "unimplemented!", "dbg!", "allow(dead_code)", "expect(dead_code)"];
    let mut faults = each(source, &macros, quoted, "finish it or take it out");
    for word in ["TODO", "FIXME", "XXX"] {
        let found = source.find_in_comments(word);
        faults.extend(found.map(|at| fault(source, at, quoted(word), "do it now, or open an issue")));
    }
    faults
}

fn only_the_commands_print(source: &Source) -> Vec<Fault> {
    match source.module() {
        None | Some("cli" | "main") => Vec::new(),
        Some(_) => {
            let found = ["print!", "println!", "eprint!", "eprintln!"]
                .iter()
                .flat_map(|name| source.find_in_code(name).map(move |at| (at, name)))
                .filter(|(at, _)| !source.is_for_tests_at(*at));
            let remedy = "only src/cli prints: return a value, or log by `tracing`";
            found.map(|(at, name)| fault(source, at, quoted(name), remedy)).collect()
        }
    }
}

fn no_test_is_skipped(source: &Source) -> Vec<Fault> {
    let skips = source.find_in_code("ignore").filter(|at| source.code[..*at].trim_end().ends_with("#["));
    let remedy = "a test that may be skipped proves nothing: make it run, or take it out";
    skips.map(|at| fault(source, at, "`#[ignore]`".to_owned(), remedy)).collect()
}

fn nothing_sleeps(source: &Source) -> Vec<Fault> {
    if !source.path.starts_with("tests/") && source.module().is_none() {
        return Vec::new();
    }
    let remedy = "wait for what you wait for: an event, a channel, the virtual clock";
    let mut faults = each(source, &["thread::sleep"], quoted, remedy);
    // The server of the conformance suite takes its time between two messages, as the suite asks of it.
    if source.path.starts_with("tests/") && source.path != "tests/loopback/conformance/fixture.rs" {
        faults.extend(each(source, &["time::sleep"], quoted, remedy));
    }
    faults
}

fn each(source: &Source, phrases: &[&str], what: impl Fn(&str) -> String, remedy: &'static str) -> Vec<Fault> {
    let found = phrases.iter().flat_map(|phrase| source.find_in_code(phrase).map(move |at| (at, phrase)));
    found.map(|(at, phrase)| fault(source, at, what(phrase), remedy)).collect()
}

fn quoted(phrase: &str) -> String {
    format!("`{phrase}`")
}

fn fault(source: &Source, at: usize, what: String, remedy: &'static str) -> Fault {
    Fault { path: source.path.clone(), line: source.line_of(at), what, remedy }
}

/// All Rust sources that are ours.
fn sources_of(root: &Path) -> Vec<Source> {
    let mut found = BTreeSet::new();
    for folder in ["src", "tests", "benches", "loadtest"] {
        collect(&root.join(folder), &mut found);
    }
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let short = path.strip_prefix(root).expect("it was found below the root").display().to_string();
        Source::new(&short.replace('\\', "/"), &text)
    };
    let mut sources: Vec<Source> = found.iter().map(read).collect();
    let for_tests: Vec<String> = sources.iter().flat_map(Source::test_modules).collect();
    for source in &mut sources {
        let below = |module: &String| source.path.strip_prefix(module).is_some_and(|rest| rest.starts_with(['/', '.']));
        source.is_for_tests = for_tests.iter().any(below);
    }
    sources
}

fn collect(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("a folder that can be opened can be read").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.insert(path);
        }
    }
}

/// Each rule, tried on what it must see and what it must let be.
mod samples {
    use super::*;

    fn lines(rule: Rule, path: &str, text: &str) -> Vec<usize> {
        rule(&Source::new(path, text)).iter().map(|fault| fault.line).collect()
    }

    #[track_caller]
    fn good(rule: Rule, path: &str, text: &str) {
        assert_eq!(lines(rule, path, text), [] as [usize; 0]);
    }

    #[track_caller]
    fn bad(rule: Rule, path: &str, text: &str) {
        assert_eq!(lines(rule, path, text), [2]);
    }

    #[test]
    fn an_arrow_up_is_seen() {
        let rule = arrows_point_down;
        bad(rule, "src/wire/http1.rs", "use crate::base::Time;\nuse crate::engine::Lease;");
        bad(rule, "src/wire/http1.rs", "\nfn f() { crate::latency::Phase::Edge; }");
        bad(rule, "src/edge/mod.rs", "\npub(crate) use crate::connector::X;");
        bad(rule, "src/tls/mod.rs", "\nuse crate::{base::Time, engine::{Lease, link}, wire as w};");
        bad(rule, "src/link/mod.rs", "\nuse crate :: upstream;");
        bad(rule, "src/base/mod.rs", "\nuse crate::*;");
        assert_eq!(lines(rule, "src/misc/mod.rs", ""), [1]);
        good(
            rule,
            "src/tls/mod.rs",
            "use crate::{base::{Time, wire}, engine::Lease};\nuse crate::tls::X; pub(crate) fn f() {}",
        );
        good(rule, "src/wire/http1.rs", "// use crate::engine::Lease;\nconst X: &str = \"crate::engine::Lease\";");
        bad(rule, "src/config/load.rs", "use crate::route::Hostname;\nuse crate::control::DataDir;");
        bad(rule, "src/process/edge.rs", "use crate::control::Control;\nuse crate::cli::Announcer;");
        good(rule, "src/cli/up.rs", "use crate::edge::Edge;");
    }

    #[test]
    fn a_super_that_climbs_out_is_seen() {
        let rule = no_super_leaves_its_module;
        bad(rule, "src/wire/mod.rs", "\nuse super::engine;");
        bad(rule, "src/wire/http1.rs", "use super::Chunk;\nuse super::super::engine;");
        bad(rule, "src/wire/http1.rs", "mod tests {\n use super::super::super::engine; }");
        good(rule, "src/wire/http1.rs", "use super::mux;\nmod tests { use super::*; use super::super::mux; }");
    }

    #[test]
    fn a_deciding_module_that_acts_is_found() {
        bad(deciding_modules_do_not_act, "src/route/table.rs", "\nuse std::fs::File;");
        bad(deciding_modules_do_not_act, "src/base/time.rs", "\nstd::thread::spawn(f);");
        bad(deciding_modules_do_not_act, "src/wire/mux.rs", "\nuse std::net::{IpAddr, TcpStream};");
        good(deciding_modules_do_not_act, "src/route/host.rs", "use std::net::Ipv4Addr; std::thread_local!();");
        bad(tokio_stays_on_the_control_thread, "src/edge/mod.rs", "\nuse tokio::net::TcpStream;");
        good(tokio_stays_on_the_control_thread, "src/control/mod.rs", "use tokio::net::TcpStream;");
    }

    #[test]
    fn unsafe_out_of_place_is_seen() {
        bad(unsafe_has_its_place, "src/engine/pool.rs", "\nunsafe { f() }");
        bad(unsafe_has_its_place, "benches/x.rs", "\nunsafe impl Send for X {}");
        good(unsafe_has_its_place, "src/engine/sys/uring.rs", "unsafe { f() }");
        good(unsafe_has_its_place, "tests/alloc/counting.rs", "unsafe { f() }");
        good(unsafe_has_its_place, "src/base/x.rs", "// unsafe\n#![forbid(unsafe_code)]");
    }

    #[test]
    fn unsafe_without_its_note_is_seen() {
        let (rule, path) = (unsafe_has_its_note, "src/engine/sys/x.rs");
        bad(rule, path, "fn f() {\n    unsafe { g() }\n}");
        bad(rule, path, "// it is fine\nunsafe impl Send for X {}");
        assert_eq!(lines(rule, path, "// SAFETY: a\nunsafe { a() };\nunsafe { b() };"), [3]);
        assert_eq!(lines(rule, path, "// SAFETY: a\n\nunsafe { a() };"), [3]);
        assert_eq!(lines(rule, path, "\"SAFETY: a\";\nunsafe { a() };"), [2]);
        good(rule, path, "// SAFETY: it is\n// sound\n#[inline]\nlet x =\n    unsafe { f() };");
        good(rule, path, "/// # Safety\n///\n/// The caller knows.\npub unsafe fn f() {}");
        good(rule, path, "unsafe { f() } // SAFETY: sound");
    }

    #[test]
    fn a_clock_that_is_read_is_seen() {
        bad(clocks_are_passed_in, "src/link/dial.rs", "\nlet now = std::time::Instant::now();");
        bad(clocks_are_passed_in, "src/tls/certs.rs", "SystemTime::now();\nInstant::now();");
        bad(clocks_are_passed_in, "src/tls/mod.rs", "\nSystemTime::now();");
        good(clocks_are_passed_in, "src/engine/core.rs", "Instant::now()");
        good(clocks_are_passed_in, "src/link/dial.rs", "clock.now()");
    }

    #[test]
    fn leftovers_are_found() {
        for text in ["todo!()", "dbg!(x)", "unimplemented!()", "// TODO: later", "#[allow(dead_code)]"] {
            bad(nothing_is_left_over, "tests/x.rs", &format!("\n{text}"));
        }
        good(nothing_is_left_over, "src/base/x.rs", "\"TODO dbg!\"; let xxx = mastodon!();");
        bad(only_the_commands_print, "src/edge/mod.rs", "\nprintln!()");
        bad(only_the_commands_print, "src/engine/core.rs", "\neprintln!()");
        bad(only_the_commands_print, "src/process/edge.rs", "\nprintln!()");
        good(only_the_commands_print, "src/cli/up.rs", "println!()");
        good(only_the_commands_print, "tests/sim.rs", "println!()");
        good(only_the_commands_print, "src/edge/mod.rs", "#[cfg(test)]\nmod tests { fn f() { println!() } }");
    }

    #[test]
    fn a_test_that_is_skipped_or_sleeps_is_seen() {
        bad(no_test_is_skipped, "tests/x.rs", "#[test]\n#[ignore]");
        bad(no_test_is_skipped, "src/base/x.rs", "#[test]\n#[ignore = \"slow\"]");
        good(no_test_is_skipped, "src/base/x.rs", "let ignore = 1;");
        bad(nothing_sleeps, "tests/x.rs", "\nstd::thread::sleep(d);");
        bad(nothing_sleeps, "src/link/dial.rs", "\nuse std::thread::sleep;");
        bad(nothing_sleeps, "tests/loopback/x.rs", "\ntokio::time::sleep(d).await;");
        good(nothing_sleeps, "tests/loopback/conformance/fixture.rs", "tokio::time::sleep(d).await;");
        good(nothing_sleeps, "src/process/x.rs", "tokio::time::sleep(d).await;");
        good(nothing_sleeps, "loadtest/src/main.rs", "std::thread::sleep(d);");
    }

    #[test]
    fn a_fault_names_its_place_its_rule_and_its_remedy() {
        let faults = unsafe_has_its_place(&Source::new("src/edge/mod.rs", "\n\nunsafe {}"));
        let text =
            "src/edge/mod.rs:3: `unsafe`; it may stand only in src/engine/sys/; wrap it there in a safe function";
        assert_eq!(faults[0].to_string(), text);
    }
}
