use std::fs;
use std::path::PathBuf;

use futures_lite::future::block_on;

use super::*;
use crate::audit::AuditCallLine;
use crate::control::audit::{AuditWriter, AuditWriterSettings};

const HOUR: Duration = Duration::from_secs(3_600);

/// A log with some closed, uncompressed files, and the thread that writes it.
fn log(home: &Path) -> (AuditWriter, PathBuf, Vec<AuditFile>) {
    let dir = home.join("log");
    let settings = AuditWriterSettings {
        dir: dir.clone(),
        key_file: home.join("audit.key"),
        is_required: true,
        is_synced: true,
        arguments_len_max: 0,
        file_len_max: 5_000,
        compress: false,
        keep_age: 1_000 * HOUR,
        keep_len_max: 1 << 30,
    };
    let writer = AuditWriter::start(settings, "1.2.3").unwrap();
    while AuditFile::list(&dir).unwrap().len() < 5 {
        let call = AuditCallLine { role: "edge", outcome: "ok", ..AuditCallLine::default() };
        assert!(block_on(writer.log().submit(call.body()).written()));
    }
    let files = AuditFile::list(&dir).unwrap();
    (writer, dir, files)
}

fn tidying(dir: &Path, writer: &AuditWriter) -> Tidying {
    let keeping = Keeping { compress: true, age_max: HOUR, len_max: 1 << 30 };
    Tidying { keeping, dir: dir.into(), log: writer.log(), is_stopped: Arc::default() }
}

#[test]
fn a_file_that_cannot_be_compressed_keeps_no_other_from_its_turn_and_leaves_nothing_behind() {
    let home = tempfile::tempdir().unwrap();
    let (writer, dir, files) = log(home.path());
    let now = SystemTime::now();
    let old = FileTimes::new().set_modified(now - 2 * HOUR);
    File::options().write(true).open(&files[0].path).unwrap().set_times(old).unwrap();
    // A directory can be opened, but reading it fails.
    fs::remove_file(&files[1].path).unwrap();
    fs::create_dir(&files[1].path).unwrap();
    assert!(!tidying(&dir, &writer).tidy(now), "it is to be tried again");
    assert!(!files[0].path.exists() && !AuditFile::compressed(&dir, files[0].first).path.exists(), "too old");
    for file in &files[2..4] {
        assert!(!file.path.exists() && AuditFile::compressed(&dir, file.first).path.exists(), "{file:?}");
    }
    let names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_str().unwrap().ends_with(COMPRESSING)), "{names:?}");
    writer.close();
}

#[test]
fn partly_compressed_files_are_removed_when_the_log_is_opened() {
    let home = tempfile::tempdir().unwrap();
    let (writer, dir, files) = log(home.path());
    let aside = AuditFile::compressing(&dir, files[0].first);
    fs::write(&aside, "half").unwrap();
    sweep(&dir);
    assert!(!aside.exists() && files[0].path.exists());
    writer.close();
}

#[test]
fn a_thread_that_is_stopped_begins_with_no_further_file() {
    let home = tempfile::tempdir().unwrap();
    let (writer, dir, files) = log(home.path());
    let tidying = tidying(&dir, &writer);
    tidying.is_stopped.store(true, Ordering::Relaxed);
    assert!(tidying.tidy(SystemTime::now() + 2 * HOUR));
    assert!(files.iter().all(|file| file.path.exists()));
    writer.close();
}

#[test]
fn the_file_with_the_last_checkpoint_stays() {
    let files: Vec<_> = [1, 20, 40, 60].map(|first| AuditFile::plain(Path::new("log"), first)).into();
    let (last, closed) = files.split_last().unwrap();
    for (head, gone) in
        [(None, 0), (Some(19), 0), (Some(20), 1), (Some(39), 1), (Some(59), 2), (Some(60), 3), (Some(70), 3)]
    {
        assert_eq!(before(head, closed, Some(last), 3), gone, "{head:?}");
    }
    assert_eq!(before(Some(70), closed, Some(last), 1), 1);
}
