use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;

use super::*;
use crate::audit::{AuditCallLine, ChainNote, CheckpointKey, Resumer};
use crate::base::Rng;

const TIME: &str = "2026-11-29T19:00:00.5Z";

fn key() -> CheckpointKey {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    CheckpointKey::of_pkcs8(document.as_ref()).unwrap()
}

/// The length of the partial line at the end of a file.
fn cut_of(file: &[u8]) -> usize {
    file.len() - file.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1)
}

/// A log: its lines, each with its line feed, and its last checkpoint.
struct Log {
    key: CheckpointKey,
    lines: Vec<Vec<u8>>,
    head: Vec<u8>,
}

/// A log of `calls` calls that was closed in an orderly way.
fn log(calls: usize) -> Log {
    let (key, mut chain, mut lines) = (key(), Chain::new(), Vec::new());
    let mut add = |chain: &mut Chain, body: &[u8]| {
        let mut out = Vec::new();
        chain.append(TIME, body, &mut out);
        lines.push(out);
    };
    add(&mut chain, &ChainNote::Open { version: "1", key: key.public() }.body());
    for nth in 0..calls {
        let name = format!("tool{nth}");
        let call = AuditCallLine {
            role: "edge",
            call: nth as u64,
            name: Some(&name),
            outcome: "ok",
            ..AuditCallLine::default()
        };
        add(&mut chain, &call.body());
    }
    add(&mut chain, &ChainNote::Close.body());
    let mut head = Vec::new();
    key.append(&mut chain, TIME, &mut head);
    lines.push(head.clone());
    Log { key, lines, head }
}

impl Log {
    fn verify<'a>(&self, lines: impl IntoIterator<Item = &'a [u8]>) -> Verified {
        let file: Vec<u8> = lines.into_iter().flatten().copied().collect();
        self.verify_bytes(&file)
    }

    fn verify_bytes(&self, file: &[u8]) -> Verified {
        let mut verifier = Verifier::new(self.key.public(), Some(&self.head));
        verifier.begin_file("a");
        let (whole, rest) = file.split_at(file.len() - cut_of(file));
        whole.split_inclusive(|byte| *byte == b'\n').for_each(|line| verifier.line(&line[..line.len() - 1]));
        if !rest.is_empty() {
            verifier.incomplete();
        }
        verifier.finish()
    }

    fn lines(&self) -> Vec<&[u8]> {
        self.lines.iter().map(Vec::as_slice).collect()
    }

    fn bytes(&self) -> Vec<u8> {
        self.lines.concat()
    }
}

fn faults(found: &Verified) -> Vec<ChainFault> {
    found.faults.iter().map(|fault| fault.what.clone()).collect()
}

#[test]
fn a_log_that_was_closed_in_order_has_no_fault() {
    let log = log(5);
    let found = log.verify(log.lines());
    assert_eq!(faults(&found), []);
    assert_eq!((found.lines, found.first, found.last, found.signed), (8, 1, 8, 8));
    assert!(found.remarks.is_empty(), "{:?}", found.remarks);
}

#[test]
fn every_line_that_is_removed_is_named() {
    let log = log(6);
    for gone in 0..log.lines.len() {
        let mut lines = log.lines();
        lines.remove(gone);
        let (found, seq) = (faults(&log.verify(lines)), gone as u64 + 1);
        let expected = match gone {
            0 => ChainFault::NoBeginning(2),
            _ if gone + 1 == log.lines.len() => ChainFault::CutOff { last: seq - 1, head: seq },
            _ => ChainFault::Missing { first: seq, last: seq },
        };
        assert_eq!(found, [expected], "without line {seq}");
    }
}

#[test]
fn every_two_lines_that_change_places_are_found() {
    let log = log(6);
    for one in 0..log.lines.len() {
        for other in one + 1..log.lines.len() {
            let mut lines = log.lines();
            lines.swap(one, other);
            assert!(!faults(&log.verify(lines)).is_empty(), "{one} and {other}");
        }
    }
}

#[test]
fn every_line_that_is_repeated_is_found() {
    let log = log(4);
    for one in 0..log.lines.len() {
        for at in 0..=log.lines.len() {
            let mut lines = log.lines();
            lines.insert(at, lines[one]);
            assert!(!faults(&log.verify(lines)).is_empty(), "{one} at {at}");
        }
    }
}

#[test]
fn every_byte_that_is_changed_is_found() {
    let log = log(3);
    let bytes = log.bytes();
    let mut rng = Rng::new(3);
    for at in 0..bytes.len() {
        for other in [bytes[at] ^ 1, bytes[at] ^ 0x20, b'\n', rng.below(256) as u8] {
            if other == bytes[at] {
                continue;
            }
            let mut changed = bytes.clone();
            changed[at] = other;
            let found = faults(&log.verify_bytes(&changed));
            assert!(!found.is_empty(), "byte {at}: {} for {}", other.escape_ascii(), bytes[at].escape_ascii());
        }
    }
}

#[test]
fn every_byte_that_is_removed_or_added_is_found() {
    let log = log(3);
    let bytes = log.bytes();
    for at in 0..bytes.len() {
        let mut less = bytes.clone();
        less.remove(at);
        let mut more = bytes.clone();
        more.insert(at, b'0');
        for changed in [less, more] {
            assert!(!faults(&log.verify_bytes(&changed)).is_empty(), "byte {at}");
        }
    }
}

#[test]
fn every_length_to_which_a_closed_log_is_cut_is_found() {
    let log = log(3);
    let bytes = log.bytes();
    for len in 0..bytes.len() {
        let found = faults(&log.verify_bytes(&bytes[..len]));
        assert!(matches!(found[..], [ChainFault::CutOff { .. } | ChainFault::Empty]), "{len} bytes: {found:?}");
    }
}

#[test]
fn a_line_that_was_made_up_with_its_whole_chain_lacks_a_signature() {
    let log = log(4);
    let (mut chain, mut forged) = (Chain::new(), Vec::new());
    for line in &log.lines {
        let line = ChainedLine::parse(&line[..line.len() - 1]).unwrap();
        let body = line.body.to_vec();
        let body = String::from_utf8(body).unwrap().replace("tool2", "other");
        chain.append(line.time, body.as_bytes(), &mut forged);
    }
    let found = faults(&log.verify_bytes(&forged));
    assert!(found.contains(&ChainFault::BadSignature(7)), "{found:?}");
}

#[test]
fn a_log_whose_checkpoints_were_all_taken_out_is_found() {
    let calls = CHECKPOINT_LINES as usize + CHECKPOINT_SLACK as usize;
    let log = log(calls);
    let found = faults(&log.verify(log.lines()));
    assert_eq!(found, [ChainFault::Unsigned(CHECKPOINT_LINES + CHECKPOINT_SLACK)]);
}

#[test]
fn the_end_is_checked_by_the_checkpoint_that_was_kept_and_by_no_other() {
    let mut log = log(2);
    let other = self::log(2);
    log.head = other.head;
    assert_eq!(faults(&log.verify(log.lines())), [ChainFault::NoHead], "of another key");
    log.head = Vec::new();
    assert_eq!(faults(&log.verify(log.lines())), [ChainFault::NoHead]);
}

#[test]
fn files_removed_by_age_are_no_fault_as_far_as_the_log_says_so() {
    let (key, mut chain) = (key(), Chain::new());
    let mut lines = Vec::new();
    for _ in 0..5 {
        lines.clear();
        chain.append(TIME, &ChainNote::Close.body(), &mut lines);
    }
    chain.append(TIME, &ChainNote::Removed { first: 1, last: 4 }.body(), &mut lines);
    let mut head = Vec::new();
    key.append(&mut chain, TIME, &mut head);
    lines.extend_from_slice(&head);
    let log = Log { key, lines: vec![lines.clone()], head };
    let found = log.verify_bytes(&lines);
    assert_eq!(faults(&found), []);
    assert_eq!(found.remarks.iter().map(|remark| &remark.what).collect::<Vec<_>>(), [&ChainRemark::Removed(4)]);
    let rest = lines.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    assert_eq!(faults(&log.verify_bytes(&lines[rest..])), [ChainFault::NoBeginning(6)]);
}

/// The disk after a process was killed: the first `len` bytes that it wrote, and the last checkpoint among them. The
/// next process continues the log and closes it in an orderly way.
fn killed_at(log: &Log, heads: &[(usize, Vec<u8>)], bytes: &[u8], len: usize) -> (Vec<u8>, Vec<u8>) {
    let head = heads.iter().rev().find(|(at, _)| *at <= len).map(|(_, head)| head.as_slice());
    let (whole, rest) = bytes[..len].split_at(len - cut_of(&bytes[..len]));
    let mut resumer = Resumer::new(head, None);
    whole.split_inclusive(|byte| *byte == b'\n').for_each(|line| resumer.line(&line[..line.len() - 1]));
    let resumed = resumer.finish(rest).expect("there are whole lines");
    let (mut chain, mut file) = (resumed.chain, whole.to_vec());
    chain.append(TIME, &ChainNote::Open { version: "1", key: log.key.public() }.body(), &mut file);
    resumed.notes.iter().for_each(|note| chain.append(TIME, &note.body(), &mut file));
    let mut head = Vec::new();
    log.key.append(&mut chain, TIME, &mut head);
    file.extend_from_slice(&head);
    (file, head)
}

#[test]
fn a_process_that_is_killed_at_any_byte_loses_the_line_that_it_wrote_and_no_other() {
    // With several checkpoints, as in a real log.
    let (key, mut chain, mut bytes, mut heads) = (key(), Chain::new(), Vec::new(), Vec::new());
    chain.append(TIME, &ChainNote::Open { version: "1", key: key.public() }.body(), &mut bytes);
    for nth in 0..24 {
        if nth % 4 == 0 {
            let start = bytes.len();
            key.append(&mut chain, TIME, &mut bytes);
            heads.push((bytes.len(), bytes[start..].to_vec()));
        }
        let call = AuditCallLine { role: "edge", call: nth, outcome: "ok", ..AuditCallLine::default() };
        chain.append(TIME, &call.body(), &mut bytes);
    }
    let mut log = Log { key, lines: Vec::new(), head: Vec::new() };
    for len in heads[0].0..=bytes.len() {
        let (file, head) = killed_at(&log, &heads, &bytes, len);
        log.head = head;
        let found = log.verify_bytes(&file);
        assert_eq!(faults(&found), [], "killed after {len} bytes");
        let whole = bytes[..len].iter().filter(|byte| **byte == b'\n').count() as u64;
        let cut = u64::from(cut_of(&bytes[..len]) > 0);
        assert_eq!(found.lines, whole + 2 + cut, "killed after {len} bytes");
        let cuts = found.remarks.iter().filter(|remark| matches!(remark.what, ChainRemark::Cut(_))).count() as u64;
        assert_eq!(cuts, cut, "killed after {len} bytes");
    }
}

#[test]
fn changes_to_a_closed_log_are_noted_by_the_next_process() {
    let mut log = log(6);
    let heads = [(0, log.head.clone())];
    let whole = log.bytes();
    let lines = log.lines();
    let shorter = lines[..lines.len() - 1].concat();
    let removed = [&lines[..3], &lines[4..]].concat().concat();
    let swapped = [&lines[..2], &[lines[3], lines[2]], &lines[4..]].concat().concat();
    let cases = [shorter, removed, swapped];
    for bytes in cases {
        let (file, head) = killed_at(&log, &heads, &bytes, bytes.len());
        log.head = head;
        let found = faults(&log.verify_bytes(&file));
        assert!(found.iter().any(|fault| matches!(fault, ChainFault::WasAltered { head: 9, .. })), "{found:?}");
    }
    let (file, head) = killed_at(&log, &heads, &whole, whole.len());
    log.head = head;
    assert_eq!(faults(&log.verify_bytes(&file)), []);
}
