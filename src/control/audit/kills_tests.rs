//! Processes that are killed at any byte and any step of what they write, or lose their power, and what `verify` says afterwards.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::task::{Context, Poll, Waker};

use super::*;
use crate::audit::{AuditCallLine, ChainFault, ChainRemark, Verified};
use crate::base::Rng;
use crate::control::audit::archive::compress;
use crate::control::audit::dir::{HEAD, PUBLIC_KEY};
use crate::control::audit::reading::AuditFile;
use crate::control::wall_time::WallTime;
use crate::engine::{MailReceiver, mailbox};

/// How many processes are killed in the ordinary run. `ADIT_TEST_LOG_KILLS` asks for more.
const KILLS: usize = 200;
/// The most processes that write one log.
const PROCESSES_MAX: u64 = 4;
/// 2026-11-30, in milliseconds since 1970.
const BEGINNING: i64 = 1_796_000_000_000;
const HOUR_MS: i64 = 3_600_000;

/// A directory whose process ends after so many steps. Each byte that is written is a step.
#[derive(Clone)]
struct KillingDisk(Rc<RefCell<State>>);

struct State {
    rng: Rng,
    /// Says when closed files are compressed.
    archive: Rng,
    time: i64,
    steps_left: u64,
    is_dead: bool,
    /// How often a step fails of which the process goes on.
    failures: f64,
    /// How much of each file is on the disk, by its number.
    synced: HashMap<u64, u64>,
    /// What files had before they were replaced, as long as it is not certain that the disk knows of it.
    replaced: HashMap<PathBuf, Option<Vec<u8>>>,
}

impl KillingDisk {
    fn new(rng: &mut Rng, time: i64, steps_left: u64) -> KillingDisk {
        let failures = if rng.chance(0.3) { 0.1 } else { 0.0 };
        let (is_dead, synced, replaced, rng) = (false, HashMap::new(), HashMap::new(), rng.fork());
        let archive = Rng::new(steps_left);
        let state = State { rng, archive, time, steps_left, is_dead, failures, synced, replaced };
        KillingDisk(Rc::new(RefCell::new(state)))
    }

    fn is_dead(&self) -> bool {
        self.0.borrow().is_dead
    }

    /// Whether the process lives on after a step.
    fn step(&self) -> io::Result<()> {
        let mut state = self.0.borrow_mut();
        if state.is_dead || state.steps_left == 0 {
            state.is_dead = true;
            return Err(io::Error::other("the process was killed"));
        }
        state.steps_left -= 1;
        let failures = state.failures;
        if state.rng.chance(failures) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// The power fails: what was not synced may be lost from any byte on.
    fn lose_power(&self, dir: &Path) {
        let mut state = self.0.borrow_mut();
        for file in AuditFile::list(dir).unwrap() {
            let file = File::options().write(true).open(&file.path).unwrap();
            let about = file.metadata().unwrap();
            // What this process has not opened was there before.
            let Some(synced) = state.synced.get(&about.ino()).copied() else { continue };
            let kept = state.rng.between(synced.min(about.len()), about.len());
            file.set_len(kept).unwrap();
        }
        for (path, content) in std::mem::take(&mut state.replaced) {
            if state.rng.chance(0.5) {
                match content {
                    Some(content) => fs::write(path, content).unwrap(),
                    None => fs::remove_file(path).unwrap(),
                }
            }
        }
    }
}

impl AuditDisk for KillingDisk {
    fn now(&self) -> WallTime {
        let mut state = self.0.borrow_mut();
        state.time += match state.rng.below(40) {
            0 => -HOUR_MS,
            1 => 25 * HOUR_MS,
            _ => state.rng.below(700).cast_signed(),
        };
        WallTime(state.time)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        self.step()?;
        let file = File::options().create(true).append(true).open(path)?;
        let about = file.metadata()?;
        self.0.borrow_mut().synced.entry(about.ino()).or_insert(about.len());
        Ok(file)
    }

    fn open_empty(&self, path: &Path) -> io::Result<File> {
        self.step()?;
        let file = File::create(path)?;
        self.0.borrow_mut().synced.insert(file.metadata()?.ino(), 0);
        Ok(file)
    }

    fn write(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        let left = self.0.borrow().steps_left;
        let is_whole = self.step().is_ok() && bytes.len() as u64 <= left;
        let mut state = self.0.borrow_mut();
        let len = match is_whole {
            true => bytes.len(),
            // It was killed within these bytes.
            false if bytes.len() as u64 > left => usize::try_from(left).unwrap(),
            false => state.rng.below(bytes.len() as u64 + 1) as usize,
        };
        state.is_dead |= bytes.len() as u64 > left;
        state.steps_left = left.saturating_sub(len as u64);
        SystemDisk.write(file, &bytes[..len])?;
        if is_whole { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn set_len(&self, file: &File, len: u64) -> io::Result<()> {
        self.step()?;
        let mut state = self.0.borrow_mut();
        let synced = state.synced.entry(file.metadata()?.ino()).or_default();
        *synced = len.min(*synced);
        drop(state);
        file.set_len(len)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.step()?;
        let about = file.metadata()?;
        self.0.borrow_mut().synced.insert(about.ino(), about.len());
        Ok(())
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        self.sync(file)
    }

    fn sync_names(&self, _: &Path) -> io::Result<()> {
        self.step()?;
        self.0.borrow_mut().replaced.clear();
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        self.0.borrow_mut().replaced.entry(to.to_path_buf()).or_insert_with(|| fs::read(to).ok());
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        // Its number may be that of another file from now on.
        self.0.borrow_mut().synced.remove(&fs::metadata(path)?.ino());
        fs::remove_file(path)
    }
}

/// The text of a file, decompressed if necessary.
fn text_of(file: &AuditFile) -> String {
    let bytes = fs::read(&file.path).unwrap();
    let plain = if file.is_compressed { zstd::decode_all(&bytes[..]).unwrap() } else { bytes };
    String::from_utf8(plain).unwrap()
}

/// What became of the calls of one log, by their numbers.
#[derive(Default)]
struct Calls {
    next: u64,
    /// Their answers have left.
    answered: BTreeSet<u64>,
    /// Their lines could not be written, and a line that says so was.
    lost: BTreeSet<u64>,
    /// How many lines could not be written.
    failed: usize,
    /// How many restarts have found an incomplete line and recorded it.
    cut: usize,
    /// How many have found one and were killed before it was certain that they have recorded it.
    perhaps_cut: usize,
}

fn settings(home: &Path, key_file: &Path, rng: &mut Rng) -> AuditWriterSettings {
    AuditWriterSettings {
        dir: home.join("log"),
        key_file: key_file.to_path_buf(),
        is_required: true,
        is_synced: true,
        arguments_len_max: 0,
        file_len_max: [1_500, 4_000, 1 << 20][rng.below(3) as usize],
        compress: false,
        keep_age: Duration::from_secs(3_600),
        keep_len_max: 1 << 30,
    }
}

fn is_written(mut receiver: MailReceiver<()>) -> bool {
    let received = pin!(receiver.recv()).poll(&mut Context::from_waker(Waker::noop()));
    match received {
        Poll::Ready(received) => received.is_some(),
        Poll::Pending => panic!("a call waits for a line that is neither written nor lost"),
    }
}

/// Whether the log ends within a line, which the next process then records.
fn ends_within_a_line(dir: &Path) -> bool {
    let files = AuditFile::list(dir).unwrap_or_default();
    let texts: Vec<String> = files.iter().map(text_of).collect();
    // A file without a whole line is removed, with what it has of one.
    let is_begun = |text: &&String| text.contains('\n');
    match texts.iter().rfind(is_begun) {
        Some(text) => !text.ends_with('\n'),
        None => texts.first().is_some_and(|text| !text.is_empty()),
    }
}

/// One process that writes the log until it ends or is killed. Returns whether it was killed.
fn write_log(settings: &AuditWriterSettings, disk: &KillingDisk, rng: &mut Rng, calls: &mut Calls) -> bool {
    let is_cut = ends_within_a_line(&settings.dir);
    let dir = match AuditDir::open(disk.clone(), &settings.dir, &settings.key_file, "1.2.3") {
        Ok(dir) => dir,
        // The disk was full: the process has ended, too.
        Err(AuditError::Io { .. }) => {
            calls.perhaps_cut += usize::from(is_cut);
            return true;
        }
        Err(error) => panic!("{error}"),
    };
    calls.cut += usize::from(is_cut);
    let (log, _entries) = AuditLog::new(true);
    let (tidies, _tidied) = sync_channel(1);
    let mut now = Instant::now();
    let mut writing = Writing::new(dir, log.clone(), tidies, settings, now);
    let (mut failed, mut waiting) = (BTreeSet::new(), Vec::new());
    let batches = rng.between(1, 6);
    for nth in 0..=batches {
        now += Duration::from_millis(rng.below(600));
        let mut receivers = Vec::new();
        let mut taken = Vec::new();
        for _ in 0..rng.below(5) {
            let (sender, receiver) = mailbox(1);
            let body =
                AuditCallLine { role: "edge", call: calls.next, outcome: "ok", ..AuditCallLine::default() }.body();
            taken.push(AuditEntry::Line { body, written: Some(sender) });
            receivers.push((calls.next, receiver));
            calls.next += 1;
        }
        if nth == batches {
            taken.push(AuditEntry::Close);
        }
        let is_closed = writing.write(&mut taken, &mut waiting, now);
        for (call, receiver) in receivers {
            let is_written = is_written(receiver);
            calls.failed += usize::from(!is_written);
            let of = if is_written { &mut calls.answered } else { &mut failed };
            of.insert(call);
        }
        if log.lost() == writing.lost_noted {
            // What there was of these is off the disk again, and a line says how many they are.
            calls.lost.append(&mut failed);
        }
        if !disk.is_dead() && !is_closed {
            writing.look_after_files(now);
            if settings.compress && disk.0.borrow_mut().archive.chance(0.5) {
                compress_closed(settings, disk);
            }
        }
        if disk.is_dead() {
            return true;
        }
    }
    false
}

/// Compresses the closed files, as the thread for them does. After an error it tries again later.
fn compress_closed(settings: &AuditWriterSettings, disk: &KillingDisk) {
    let mut closed = AuditFile::list(&settings.dir).unwrap();
    closed.pop();
    for file in closed.iter().filter(|file| !file.is_compressed) {
        let _ = compress(disk, &settings.dir, file);
    }
}

fn verified(settings: &AuditWriterSettings) -> Verified {
    crate::control::audit::verify(&settings.dir, None, &mut |_, _| {}).unwrap()
}

/// The calls in the log, in their order.
fn recorded(settings: &AuditWriterSettings) -> Vec<u64> {
    let texts = AuditFile::list(&settings.dir).unwrap().into_iter().map(|file| text_of(&file));
    let calls = |text: String| -> Vec<u64> {
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let numbers = whole.filter_map(|line| line.split("\"kind\":\"call\"").nth(1)?.split("\"call\":\"").nth(1));
        numbers.map(|rest| u64::from_str_radix(rest.split('"').next().unwrap(), 16).unwrap()).collect()
    };
    texts.flat_map(calls).collect()
}

/// Writes one log by several processes, all but the last of which are killed, and checks it. Returns how many were. All logs have one
/// key, because each new one is synced to the disk.
fn kill(seed: u64, key_file: &Path) -> usize {
    let mut rng = Rng::new(seed);
    let home = tempfile::tempdir().unwrap();
    let settings = AuditWriterSettings { compress: seed % 2 == 1, ..settings(home.path(), key_file, &mut rng) };
    let (mut calls, mut kills, mut time) = (Calls::default(), 0, BEGINNING);
    for _ in 0..rng.between(1, PROCESSES_MAX) {
        // A process of six batches writes some 8,000 bytes.
        let steps = if rng.chance(0.3) { rng.below(1_500) } else { rng.below(9_000) };
        let disk = KillingDisk::new(&mut rng, time, steps);
        let is_killed = write_log(&settings, &disk, &mut rng, &mut calls);
        time = disk.0.borrow().time;
        kills += usize::from(is_killed);
        if is_killed && rng.chance(0.3) {
            disk.lose_power(&settings.dir);
        }
        check(&settings, &calls, seed);
    }
    let disk = KillingDisk::new(&mut rng, time, u64::MAX);
    disk.0.borrow_mut().failures = 0.0;
    assert!(!write_log(&settings, &disk, &mut rng, &mut calls), "seed {seed}");
    check(&settings, &calls, seed);
    let found = verified(&settings);
    assert_eq!(found.signed, found.last, "seed {seed}");
    let cut = found.remarks.iter().filter(|remark| matches!(remark.what, ChainRemark::Cut(_))).count();
    assert!((calls.cut..=calls.cut + calls.perhaps_cut).contains(&cut), "seed {seed}: {:?}", found.remarks);
    let lost = found.remarks.iter().map(|remark| match remark.what {
        ChainRemark::Lost { lines, .. } => lines,
        _ => 0,
    });
    // One that was killed while it recorded this cannot be certain that it has.
    let told = usize::try_from(lost.sum::<u64>()).unwrap();
    assert!((calls.lost.len()..=calls.failed).contains(&told), "seed {seed}: {:?}", found.remarks);
    rob(&settings, &found, &mut rng, seed);
    kills
}

/// Nothing that was answered is missing, nothing is there twice or in another order, and the log has no faults.
fn check(settings: &AuditWriterSettings, calls: &Calls, seed: u64) {
    if AuditFile::list(&settings.dir).unwrap_or_default().is_empty() {
        assert!(calls.answered.is_empty(), "seed {seed}");
        return;
    }
    let recorded = recorded(settings);
    assert!(recorded.is_sorted_by(|one, other| one < other), "seed {seed}: {recorded:?}");
    let recorded: BTreeSet<u64> = recorded.into_iter().collect();
    let missing: Vec<&u64> = calls.answered.difference(&recorded).collect();
    assert!(missing.is_empty(), "seed {seed}: calls {missing:?} were answered, and are not in the log");
    let there: Vec<&u64> = calls.lost.intersection(&recorded).collect();
    assert!(there.is_empty(), "seed {seed}: calls {there:?} were counted as lost, and are in the log");
    if !settings.dir.join(PUBLIC_KEY).exists() {
        assert!(recorded.is_empty(), "seed {seed}");
        return;
    }
    let found = verified(settings);
    let faults: Vec<ChainFault> = found.faults.into_iter().map(|fault| fault.what).collect();
    // The first process was killed before its first line was whole, or before it had saved its first checkpoint.
    let expected = match settings.dir.join(HEAD).exists() {
        _ if found.lines == 0 => vec![ChainFault::Empty],
        false => vec![ChainFault::NoHead],
        true => vec![],
    };
    assert!(expected.is_empty() || recorded.is_empty(), "seed {seed}");
    assert_eq!(faults, expected, "seed {seed}");
}

/// Removes lines of a log that is sound, and expects `verify` to name exactly these.
fn rob(settings: &AuditWriterSettings, sound: &Verified, rng: &mut Rng, seed: u64) {
    let mut files = AuditFile::list(&settings.dir).unwrap();
    files.retain(|file| fs::metadata(&file.path).unwrap().len() > 0);
    let nth = rng.below(files.len() as u64) as usize;
    let text = text_of(&files[nth]);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let from = rng.below(lines.len() as u64) as usize;
    let to = rng.between(from as u64 + 1, lines.len() as u64) as usize;
    let robbed = [&lines[..from], &lines[to..]].concat().concat();
    let is_compressed = files[nth].is_compressed;
    let robbed = if is_compressed { zstd::encode_all(robbed.as_bytes(), 1).unwrap() } else { robbed.into_bytes() };
    fs::write(&files[nth].path, robbed).unwrap();
    let (first, last) = (files[nth].first + from as u64, files[nth].first + to as u64 - 1);
    let what = match (first, last) {
        (1, last) if last == sound.last => ChainFault::Empty,
        (1, last) => ChainFault::NoBeginning(last + 1),
        (first, last) if last == sound.last => ChainFault::CutOff { last: first - 1, head: last },
        (first, last) => ChainFault::Missing { first, last },
    };
    let faults: Vec<ChainFault> = verified(settings).faults.into_iter().map(|fault| fault.what).collect();
    assert_eq!(faults, [what], "seed {seed}: lines {first} to {last} of {} were removed", sound.last);
}

#[test]
fn a_process_that_is_killed_at_any_byte_leaves_a_sound_log_with_all_that_it_answered() {
    let kills = std::env::var("ADIT_TEST_LOG_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let keys = tempfile::tempdir().unwrap();
    let key_file = keys.path().join("audit.key");
    // This one left a file without lines behind one that ended within a line.
    kill(2_916, &key_file);
    let (mut killed, mut seed) = (0, 0);
    while killed < kills {
        killed += kill(seed, &key_file);
        seed += 1;
    }
}
