//! Searches with and without the index find the same lines, whatever happened to log and index.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use serde_json::Value;

use crate::base::Rng;
use crate::cli::audit::{AuditFailure, each_line, filter_of, scan};
use crate::cli::audit_args::AuditFilterArgs;
use crate::control::audit::{AuditFile, AuditIndex, AuditIndexError};

const KINDS: [&str; 7] = ["call", "call", "call", "call_end", "action", "checkpoint", "open"];
const NAMES: [&str; 5] = ["a", "b", "c", "", "näme"];

fn one<'a>(rng: &mut Rng, of: &[&'a str]) -> &'a str {
    of[rng.below(of.len() as u64) as usize]
}

/// A line as adit writes it, or an arbitrary one.
fn line(rng: &mut Rng, nth: u64) -> String {
    match rng.below(40) {
        0 => return String::new(),
        1 => return "no JSON".to_owned(),
        2 => return r#"{"kind":"call","name":"a","name":"b"}"#.to_owned(),
        3 => return r#"["call"]"#.to_owned(),
        4 if rng.chance(0.02) => return format!(r#"{{"kind":"call","name":"a","x":"{}"}}"#, "y".repeat(300_000)),
        _ => {}
    }
    let mut line = format!(r#"{{"seq":{nth},"kind":"{}""#, one(rng, &KINDS));
    match rng.below(12) {
        0 => {}
        1 => line.push_str(r#","time":"soon""#),
        _ => line.push_str(&format!(r#","time":"2026-11-{:02}T12:00:00Z""#, rng.between(1, 28))),
    }
    for member in ["peer", "caller", "client", "name", "method", "route", "tunnel", "rule", "outcome"] {
        match rng.below(8) {
            0..4 => line.push_str(&format!(r#","{member}":"{}""#, one(rng, &NAMES))),
            4 => line.push_str(&format!(r#","{member}":{}"#, rng.below(3))),
            _ => {}
        }
    }
    if rng.chance(0.7) {
        line.push_str(if rng.chance(0.5) { r#","decision":"allowed""# } else { r#","decision":"denied""# });
    }
    line + "}"
}

fn filter(rng: &mut Rng) -> AuditFilterArgs {
    fn text(rng: &mut Rng, how_often: f64) -> Option<String> {
        let wanted = rng.chance(how_often);
        wanted.then(|| one(rng, &NAMES).to_owned())
    }
    fn day(rng: &mut Rng) -> Option<String> {
        let wanted = rng.chance(0.2);
        wanted.then(|| format!("2026-11-{:02}T12:00:00Z", rng.between(1, 28)))
    }
    AuditFilterArgs {
        since: day(rng),
        until: day(rng),
        identity: text(rng, 0.3),
        tool: text(rng, 0.4),
        method: text(rng, 0.2),
        route: text(rng, 0.1),
        tunnel: text(rng, 0.1),
        decision: None,
        rule: text(rng, 0.1),
        outcome: text(rng, 0.1),
        scan: false,
    }
}

/// A log that grows and is changed.
struct Log<'a> {
    dir: &'a Path,
    rng: Rng,
    lines: u64,
}

impl Log<'_> {
    fn files(&self) -> Vec<AuditFile> {
        AuditFile::list(self.dir).unwrap()
    }

    /// Adds lines to the last file. The last line may be incomplete.
    fn grow(&mut self, count: u64) {
        let files = self.files();
        let path = files.last().filter(|last| !last.is_compressed).map(|last| last.path.clone());
        let path = path.unwrap_or_else(|| AuditFile::plain(self.dir, self.lines + 1).path);
        let mut text = String::new();
        for _ in 0..count {
            self.lines += 1;
            text.push_str(&line(&mut self.rng, self.lines));
            text.push('\n');
        }
        if self.rng.chance(0.3) {
            text.pop();
        }
        OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    fn change(&mut self) {
        let files = self.files();
        let closed = &files[..files.len().saturating_sub(1)];
        let last = files.last().cloned();
        match self.rng.below(10) {
            0 | 1 => std::fs::write(AuditFile::plain(self.dir, self.lines + 1).path, "").unwrap(),
            2 => {
                for file in closed.iter().filter(|file| !file.is_compressed) {
                    let plain = std::fs::File::open(&file.path).unwrap();
                    let to = AuditFile::compressed(self.dir, file.first).path;
                    zstd::stream::copy_encode(plain, std::fs::File::create(to).unwrap(), 1).unwrap();
                    std::fs::remove_file(&file.path).unwrap();
                }
            }
            3 => closed.iter().take(1).for_each(|file| std::fs::remove_file(&file.path).unwrap()),
            // Another program rewrites a closed file.
            4 => {
                if let Some(file) = closed.iter().find(|file| !file.is_compressed) {
                    let text = std::fs::read_to_string(&file.path).unwrap();
                    std::fs::write(&file.path, text.replace("\"a\"", "\"chosen\"").replace("\"b\"", "\"a\"")).unwrap();
                }
            }
            // A crash has cut the last file, and further lines follow.
            5 => {
                if let Some(last) = last.filter(|last| !last.is_compressed) {
                    let file = OpenOptions::new().write(true).open(&last.path).unwrap();
                    let len = file.metadata().unwrap().len();
                    file.set_len(self.rng.below(len + 1)).unwrap();
                }
            }
            6 => {
                let _ = std::fs::remove_file(AuditIndex::path(self.dir));
            }
            // Part of the disk is damaged.
            7 => self.damage(),
            _ => {}
        }
    }

    fn damage(&mut self) {
        let Ok(mut index) = OpenOptions::new().write(true).open(AuditIndex::path(self.dir)) else { return };
        // In the header, so that the damage is detected.
        let at = self.rng.below(60);
        index.seek(SeekFrom::Start(at)).unwrap();
        index.write_all(&[0xa5; 40]).unwrap();
    }
}

/// Compares the newest lines and all lines, found with and without the index.
fn assert_same(dir: &Path, args: &AuditFilterArgs, limit: usize, seed: u64) -> usize {
    let filter = filter_of(args).unwrap();
    let mut index = AuditIndex::open(dir, &mut |_, _| ()).unwrap_or_else(|error| panic!("{seed}: {error}")).unwrap();
    let found = index.newest(&filter, limit).unwrap_or_else(|error| panic!("{seed}: {error}"));
    assert!(found == scan(dir, &filter, limit).unwrap(), "seed {seed}: {args:?} {limit}");
    let mut all: Vec<Value> = Vec::new();
    index
        .each(&filter, |line| {
            all.push(line);
            Ok::<_, AuditIndexError>(())
        })
        .unwrap();
    let mut wanted: Vec<Value> = Vec::new();
    each_line(dir, |line| {
        if filter.wants(&line) {
            wanted.push(line);
        }
        Ok::<_, AuditFailure>(())
    })
    .unwrap();
    assert!(all == wanted, "seed {seed}: {args:?}");
    all.len()
}

#[test]
fn a_search_with_the_index_equals_a_scan_of_all_lines() {
    let mut found = 0;
    for seed in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let mut log = Log { dir: dir.path(), rng: Rng::new(seed), lines: 0 };
        for _ in 0..6 {
            // Occasionally the log has more than one segment.
            let count = if log.rng.chance(0.05) { 9_000 } else { log.rng.below(300) };
            log.grow(count);
            log.change();
            if log.files().is_empty() {
                continue;
            }
            for _ in 0..4 {
                let (args, limit) = (filter(&mut log.rng), log.rng.between(1, 200) as usize);
                found += assert_same(dir.path(), &args, limit, seed);
            }
        }
    }
    assert!(found > 2_000, "{found}");
}

#[test]
fn an_index_is_only_made_where_there_is_a_log() {
    let dir = tempfile::tempdir().unwrap();
    assert!(AuditIndex::open(dir.path(), &mut |_, _| ()).unwrap().is_none());
    assert!(!AuditIndex::path(dir.path()).exists());
    let mut log = Log { dir: dir.path(), rng: Rng::new(1), lines: 0 };
    log.grow(10);
    let mut index = AuditIndex::open(dir.path(), &mut |_, _| ()).unwrap().unwrap();
    let all = filter_of(&AuditFilterArgs::default()).unwrap();
    assert_eq!(index.newest(&all, 0).unwrap(), VecDeque::new());
}
