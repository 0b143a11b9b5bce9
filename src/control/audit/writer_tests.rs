use std::fs;
use std::path::Path;

use futures_lite::future::block_on;

use super::*;
use crate::audit::{AuditCallLine, ChainFault, Verified};
use crate::control::audit::reading::AuditFile;

const VERSION: &str = "1.2.3";

fn settings(dir: &Path) -> AuditWriterSettings {
    AuditWriterSettings {
        dir: dir.join("log"),
        key_file: dir.join("audit.key"),
        is_required: true,
        is_synced: true,
        arguments_len_max: 0,
        file_len_max: 1 << 20,
        compress: true,
        keep_age: Duration::from_secs(3_600),
        keep_len_max: 1 << 30,
    }
}

fn start(settings: &AuditWriterSettings) -> AuditWriter {
    AuditWriter::start(settings.clone(), VERSION).unwrap()
}

fn call(nth: u64) -> Vec<u8> {
    AuditCallLine { role: "edge", call: nth, outcome: "ok", ..AuditCallLine::default() }.body()
}

fn verify(settings: &AuditWriterSettings) -> Verified {
    crate::control::audit::verify(&settings.dir, None, &mut |_, _| {}).unwrap()
}

fn files(settings: &AuditWriterSettings) -> Vec<AuditFile> {
    AuditFile::list(&settings.dir).unwrap()
}

#[test]
fn lines_are_in_the_file_when_their_receipts_say_so_and_the_log_goes_on_after_a_restart() {
    let home = tempfile::tempdir().unwrap();
    for round in 0..3 {
        // Without a sync the system has the lines all the same.
        let settings = AuditWriterSettings { is_synced: round != 1, ..settings(home.path()) };
        let writer = start(&settings);
        for nth in 0..10 {
            assert!(block_on(writer.log().submit(call(nth)).written()));
        }
        let text = fs::read_to_string(&files(&settings)[0].path).unwrap();
        assert_eq!(text.matches("\"kind\":\"call\"").count(), 10 * (round + 1));
        writer.close();
        let found = verify(&settings);
        assert_eq!(found.faults, []);
        assert_eq!(found.signed, found.last);
    }
}

#[test]
fn a_log_that_was_waited_for_too_long_is_sound_again_once_a_line_is_written() {
    let home = tempfile::tempdir().unwrap();
    let writer = start(&settings(home.path()));
    let log = writer.log();
    log.on_late();
    assert!(log.refuses());
    assert!(block_on(log.submit(call(1)).written()));
    assert!(!log.refuses());
    writer.close();
    let found = verify(&settings(home.path()));
    assert_eq!(found.faults, []);
    assert_eq!(found.remarks, [], "no line was lost");
}

#[test]
fn files_are_closed_at_their_length_compressed_and_removed_in_the_end() {
    let home = tempfile::tempdir().unwrap();
    let settings = AuditWriterSettings { file_len_max: 20_000, ..settings(home.path()) };
    let writer = start(&settings);
    for nth in 0..1_000 {
        assert!(block_on(writer.log().submit(call(nth)).written()));
    }
    writer.close();
    let written = files(&settings);
    assert!(written.len() > 5, "{written:?}");
    let found = verify(&settings);
    assert_eq!(found.faults, []);
    assert!(found.lines > 1_000);
    // The next process compresses the remaining files, and applies its own limits.
    let log = AuditWriterSettings { keep_len_max: 15_000, ..settings.clone() };
    let writer = start(&log);
    let is_tidy = || {
        let files = files(&settings);
        let (_, closed) = files.split_last().unwrap();
        // A file that has just been removed no longer counts.
        let len: u64 = closed.iter().filter_map(|file| Some(fs::metadata(&file.path).ok()?.len())).sum();
        closed.iter().all(|file| file.is_compressed) && files[0].first > 1 && len <= log.keep_len_max
    };
    let began = Instant::now();
    while !is_tidy() {
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", files(&settings));
        thread::yield_now();
    }
    writer.close();
    let found = verify(&settings);
    assert_eq!(found.faults, []);
    assert!(found.first > 1 && found.lines < 1_000, "{} lines from {}", found.lines, found.first);
    let left = files(&settings);
    assert!(left.len() > 2, "{left:?}");
    fs::remove_file(&left[1].path).unwrap();
    let faults: Vec<ChainFault> = verify(&settings).faults.into_iter().map(|fault| fault.what).collect();
    assert!(matches!(faults[..], [ChainFault::Missing { .. }]), "{faults:?}");
}

#[test]
fn a_line_that_was_cut_off_is_removed_and_noted_even_if_it_is_the_first_of_its_file() {
    let home = tempfile::tempdir().unwrap();
    let settings = settings(home.path());
    let writer = start(&settings);
    assert!(block_on(writer.log().submit(call(1)).written()));
    writer.close();
    let whole = verify(&settings).lines;
    let path = files(&settings)[0].path.clone();
    let text = fs::read(&path).unwrap();
    fs::write(&path, [&text[..], b"{\"seq\":9,\"prev\":\"00"].concat()).unwrap();
    start(&settings).close();
    let found = verify(&settings);
    assert_eq!(found.faults, []);
    assert_eq!(found.remarks.len(), 1, "{:?}", found.remarks);
    // A process was killed after it had created the next file.
    let next = AuditFile::plain(&settings.dir, found.last + 1);
    fs::write(&next.path, b"{\"seq\"").unwrap();
    start(&settings).close();
    assert!(!next.path.exists());
    assert_eq!(verify(&settings).faults, []);
    assert!(verify(&settings).lines > whole);
    // A process was killed after it had created the first file.
    fs::remove_dir_all(&settings.dir).unwrap();
    fs::create_dir(&settings.dir).unwrap();
    fs::write(AuditFile::plain(&settings.dir, 1).path, b"{\"seq\":1").unwrap();
    start(&settings).close();
    assert_eq!(verify(&settings).faults, []);
}

#[test]
fn only_one_process_writes_a_log_and_only_a_valid_log_is_continued() {
    let home = tempfile::tempdir().unwrap();
    let settings = settings(home.path());
    let writer = start(&settings);
    assert!(matches!(AuditWriter::start(settings.clone(), VERSION), Err(AuditError::InUse { .. })));
    writer.close();
    let path = files(&settings)[0].path.clone();
    let text = fs::read(&path).unwrap();
    fs::write(&path, [&text[..], b"something else\n"].concat()).unwrap();
    assert!(matches!(AuditWriter::start(settings.clone(), VERSION), Err(AuditError::NotContinued { .. })));
    fs::write(&path, text).unwrap();
    fs::write(&settings.key_file, b"no key").unwrap();
    assert!(matches!(AuditWriter::start(settings, VERSION), Err(AuditError::NoKey { .. })));
}

#[test]
fn lines_of_which_a_process_was_robbed_are_found_after_its_restart() {
    let home = tempfile::tempdir().unwrap();
    let settings = settings(home.path());
    let writer = start(&settings);
    for nth in 0..5 {
        assert!(block_on(writer.log().submit(call(nth)).written()));
    }
    writer.close();
    let path = files(&settings)[0].path.clone();
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    fs::write(&path, lines[..lines.len() - 2].concat()).unwrap();
    start(&settings).close();
    let faults: Vec<ChainFault> = verify(&settings).faults.into_iter().map(|fault| fault.what).collect();
    assert!(matches!(faults[..], [ChainFault::WasAltered { .. }]), "{faults:?}");
}

#[test]
fn a_log_that_was_emptied_begins_anew_and_says_so() {
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    let empty = |path: &Path| fs::write(path, b"").unwrap();
    let cut = |path: &Path| fs::write(path, b"{\"seq\":1").unwrap();
    let later = |path: &Path| fs::rename(path, AuditFile::plain(path.parent().unwrap(), 500).path).unwrap();
    let empty_later = |path: &Path| {
        empty(path);
        later(path);
    };
    for rob in [&remove as &dyn Fn(&Path), &empty, &cut, &empty_later] {
        let home = tempfile::tempdir().unwrap();
        let settings = settings(home.path());
        let writer = start(&settings);
        assert!(block_on(writer.log().submit(call(1)).written()));
        writer.close();
        let signed = verify(&settings).last;
        rob(&files(&settings)[0].path);
        start(&settings).close();
        let faults: Vec<ChainFault> = verify(&settings).faults.into_iter().map(|fault| fault.what).collect();
        assert!(matches!(faults[..], [ChainFault::WasAltered { head, found: 0, .. }] if head == signed), "{faults:?}");
        assert_eq!(files(&settings).iter().map(|file| file.first).collect::<Vec<_>>(), [1]);
    }
}

#[test]
fn a_log_whose_thread_hangs_is_left_when_it_is_closed() {
    let home = tempfile::tempdir().unwrap();
    let AuditWriter { log: whole, thread, archive } = start(&settings(home.path()));
    // Nothing reads the queue, and it stays open until the test ends.
    let (log, _entries) = AuditLog::new(true);
    (0..crate::serve::AUDIT_QUEUE_MAX).for_each(|nth| log.write(call(nth as u64)));
    let (ends, ended) = std::sync::mpsc::channel::<()>();
    let hanging = Worker::start("hangs", move || {
        let _ = ended.recv();
    });
    AuditWriter { log, thread: hanging.unwrap(), archive }.close_within(Duration::from_millis(50));
    drop(ends);
    assert!(whole.close());
    thread.end_by(Instant::now() + Duration::from_secs(60));
}

#[test]
fn a_closed_log_releases_its_directory() {
    let home = tempfile::tempdir().unwrap();
    let settings = AuditWriterSettings { file_len_max: 5_000, ..settings(home.path()) };
    for _ in 0..20 {
        let writer = start(&settings);
        for nth in 0..50 {
            assert!(block_on(writer.log().submit(call(nth)).written()));
        }
        writer.close();
        let left = fs::read_dir(&settings.dir).unwrap().map(|entry| entry.unwrap().file_name());
        let aside: Vec<_> = left.filter(|name| name.to_string_lossy().ends_with(".tmp")).collect();
        assert!(aside.is_empty(), "{aside:?}");
    }
    assert_eq!(verify(&settings).faults, []);
}

#[test]
fn a_log_that_is_written_rotated_and_removed_meanwhile_is_found_sound() {
    let home = tempfile::tempdir().unwrap();
    let settings = AuditWriterSettings { file_len_max: 40_000, keep_len_max: 50_000, ..settings(home.path()) };
    let writer = start(&settings);
    let log = writer.log();
    let is_written = std::sync::atomic::AtomicBool::new(false);
    let order = std::sync::atomic::Ordering::Relaxed;
    thread::scope(|scope| {
        scope.spawn(|| {
            // Checkpoints depend on time and on the number of lines, so many lines are written at once.
            for nth in 0..200 {
                let receipts: Vec<_> = (0..50).map(|_| log.submit(call(nth))).collect();
                assert!(receipts.into_iter().all(|receipt| block_on(receipt.written())));
            }
            is_written.store(true, order);
        });
        while !is_written.load(order) {
            assert_eq!(verify(&settings).faults, []);
        }
    });
    assert!(files(&settings)[0].first > 1, "{:?}", files(&settings));
    writer.close();
    assert_eq!(verify(&settings).faults, []);
}
