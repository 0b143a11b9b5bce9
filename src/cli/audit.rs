//! `adit audit`: verifies, searches and exports the audit log.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::Path;

use serde_json::Value;

use crate::audit::{Ed25519PublicKey, Verified};
use crate::cli::audit_args::{
    AuditArgs, AuditCommand, AuditExportArgs, AuditFilterArgs, AuditFormat, AuditQueryArgs, AuditVerifyArgs,
};
use crate::cli::audit_export::{csv_head, csv_row, ocsf_event};
use crate::cli::audit_otel::OtelRecords;
use crate::cli::call_text::plain;
use crate::cli::output::print;
use crate::cli::progress::Progress;
use crate::cli::table::Table;
use crate::cli::{EXIT_FAILURE, EXIT_USAGE};
use crate::config::Millis;
use crate::control::WallTime;
use crate::control::audit::{AuditError, AuditFile, AuditIndex, AuditIndexError, LineFilter, verify};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuditFailure {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error("the index of the log cannot be read ({0}): --scan does without it")]
    Index(#[from] AuditIndexError),
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// Runs `adit audit` and returns the exit code.
#[must_use]
pub fn run_audit(args: &AuditArgs) -> u8 {
    let done = match &args.command {
        AuditCommand::Verify(args) => run_verify(args),
        AuditCommand::Query(args) => run_query(args).map(|()| 0),
        AuditCommand::Export(args) => run_export(args).map(|()| 0),
    };
    match done {
        Ok(code) => code,
        // The reader of the output closed it early, which is not an error.
        Err(AuditFailure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(failure) => {
            eprintln!("{failure}");
            if matches!(failure, AuditFailure::Usage(_)) { EXIT_USAGE } else { EXIT_FAILURE }
        }
    }
}

fn run_verify(args: &AuditVerifyArgs) -> Result<u8, AuditFailure> {
    let key = args.key.as_deref().map(|text| {
        Ed25519PublicKey::parse(text)
            .ok_or_else(|| AuditFailure::Usage("--key is not a key: give the 64 digits of audit.pub".to_owned()))
    });
    let mut progress = Progress::new("checking");
    let found = verify(&args.dir, key.transpose()?, &mut |done, all| progress.at(done, all))?;
    drop(progress);
    print(&if args.json { verified_json(&found) } else { verified_text(&found) });
    Ok(if found.faults_count == 0 { 0 } else { EXIT_FAILURE })
}

fn verified_text(found: &Verified) -> String {
    let mut text = String::new();
    for fault in &found.faults {
        text.push_str(&format!("FAULT   {fault}\n"));
    }
    let untold = found.faults_count - found.faults.len() as u64;
    if untold > 0 {
        text.push_str(&format!("FAULT   and {untold} more\n"));
    }
    for remark in &found.remarks {
        text.push_str(&format!("note    {remark}\n"));
    }
    let Verified { lines, first, last, signed, .. } = found;
    let end = match found.faults_count {
        0 => "nothing was removed, changed, moved or cut off",
        _ => "the log is not as it was written",
    };
    text.push_str(&format!("{lines} lines, {first} to {last}, signed up to {signed}: {end}\n"));
    text
}

fn verified_json(found: &Verified) -> String {
    let texts = |of: Vec<String>| Value::from(of);
    let body = serde_json::json!({
        "ok": found.faults_count == 0,
        "lines": found.lines,
        "first": found.first,
        "last": found.last,
        "signed": found.signed,
        "faults_count": found.faults_count,
        "faults": texts(found.faults.iter().map(ToString::to_string).collect()),
        "notes": texts(found.remarks.iter().map(ToString::to_string).collect()),
    });
    format!("{body:#}\n")
}

fn run_query(args: &AuditQueryArgs) -> Result<(), AuditFailure> {
    let (filter, limit) = (filter_of(&args.filter)?, args.limit as usize);
    let found = index_of(&args.dir, args.filter.scan).and_then(|mut index| {
        let found = index.newest(&filter, limit);
        found.inspect_err(|error| note_unused(&args.dir, error)).ok()
    });
    let last = match found {
        Some(found) => found,
        None => scan(&args.dir, &filter, limit)?,
    };
    if args.json {
        let mut out = io::stdout().lock();
        last.iter().try_for_each(|line| writeln!(out, "{line}"))?;
        return Ok(());
    }
    let mut table = Table::new([
        "TIME", "SEQ", "KIND", "BY", "ROUTE", "METHOD", "NAME", "DECISION", "RULE", "STATUS", "OUTCOME", "TOOK",
    ]);
    for line in &last {
        let text = |name: &str| line.get(name).map_or("-".to_owned(), shown);
        let took =
            line.get("took_us").and_then(Value::as_f64).map_or("-".to_owned(), |us| format!("{:.1} ms", us / 1e3));
        let method = line.get("method").or(line.get("action")).map_or("-".to_owned(), shown);
        let name = line.get("name").or(line.get("subject")).map_or("-".to_owned(), shown);
        table.row([
            text("time"),
            text("seq"),
            text("kind"),
            text("peer"),
            text("route"),
            method,
            name,
            text("decision"),
            text("rule"),
            text("status"),
            text("outcome"),
            took,
        ]);
    }
    print(&table.text("no line matches"));
    Ok(())
}

/// The newest matching lines, at most `limit`, found by reading all lines.
pub(super) fn scan(dir: &Path, filter: &LineFilter, limit: usize) -> Result<VecDeque<Value>, AuditFailure> {
    let mut last = VecDeque::new();
    each_line(dir, |line| {
        if filter.wants(&line) {
            if last.len() == limit {
                last.pop_front();
            }
            last.push_back(line);
        }
        Ok(())
    })?;
    Ok(last)
}

fn run_export(args: &AuditExportArgs) -> Result<(), AuditFailure> {
    let filter = filter_of(&args.filter)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.format == AuditFormat::Csv {
        writeln!(out, "{}", csv_head())?;
    }
    let mut records = OtelRecords::default();
    let mut write = |line: Value| -> Result<(), AuditFailure> {
        match args.format {
            AuditFormat::Csv => writeln!(out, "{}", csv_row(&line))?,
            AuditFormat::Ocsf => writeln!(out, "{}", ocsf_event(&line))?,
            AuditFormat::Otel => records.add(&line).map_or(Ok(()), |request| writeln!(out, "{request}"))?,
        }
        Ok(())
    };
    // Reading the whole log is faster without the index.
    let reads_all = args.filter.scan || !filter.is_selective();
    match index_of(&args.dir, reads_all) {
        Some(mut index) => index.each(&filter, &mut write)?,
        None => each_line(&args.dir, |line| if filter.wants(&line) { write(line) } else { Ok(()) })?,
    }
    records.take().map_or(Ok(()), |request| writeln!(out, "{request}"))?;
    out.flush()?;
    Ok(())
}

/// Reads all lines in order. Lines that are not JSON are skipped; `verify` reports them.
pub(super) fn each_line(
    dir: &Path,
    mut see: impl FnMut(Value) -> Result<(), AuditFailure>,
) -> Result<(), AuditFailure> {
    let files = AuditFile::list(dir).map_err(|cause| AuditError::Io { path: dir.to_path_buf(), cause })?;
    if files.is_empty() {
        return Err(AuditError::NoLog { path: dir.to_path_buf() }.into());
    }
    for file in files {
        let failed = |cause| AuditError::Io { path: file.path.clone(), cause };
        let mut lines = file.lines().map_err(failed)?;
        while let Some((line, _)) = lines.next_line().map_err(failed)? {
            if let Ok(line) = serde_json::from_slice(line) {
                see(line)?;
            }
        }
    }
    Ok(())
}

/// A value as text, with control characters escaped.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        other => other.to_string(),
    }
}

/// The filter for these arguments.
pub(super) fn filter_of(args: &AuditFilterArgs) -> Result<LineFilter, AuditFailure> {
    let decision = args.decision.map(|decision| decision.name().to_owned());
    let texts: [(&[&str], _); 8] = [
        (&["peer", "caller", "client"], &args.identity),
        (&["name"], &args.tool),
        (&["method"], &args.method),
        (&["route"], &args.route),
        (&["tunnel"], &args.tunnel),
        (&["decision"], &decision),
        (&["rule"], &args.rule),
        (&["outcome"], &args.outcome),
    ];
    let members = texts.into_iter().filter_map(|(name, text)| Some((name, text.clone()?))).collect();
    Ok(LineFilter { since: time(args.since.as_deref())?, until: time(args.until.as_deref())?, members })
}

/// The index of a log, unless all lines are to be read.
fn index_of(dir: &Path, reads_all: bool) -> Option<AuditIndex> {
    if reads_all {
        return None;
    }
    let mut progress = Progress::new("indexing");
    AuditIndex::open(dir, &mut |done, all| progress.at(done, all)).unwrap_or_else(|error| {
        note_unused(dir, &error);
        None
    })
}

/// Reports that the index cannot be used. The results are the same without it.
fn note_unused(dir: &Path, error: &AuditIndexError) {
    let path = AuditIndex::path(dir);
    AuditIndex::remove_damaged(dir, error);
    eprintln!("note: {} cannot be used ({error}), so all lines are read", path.display());
}

/// Parses a time, or a duration before now.
pub(super) fn time(text: Option<&str>) -> Result<Option<WallTime>, AuditFailure> {
    let Some(text) = text else { return Ok(None) };
    if let Ok(ago) = text.parse::<Millis>() {
        return Ok(Some(WallTime::now().before(ago.into())));
    }
    let fault = |_| {
        AuditFailure::Usage(format!(
            "{} is neither a time as in 2026-07-28T12:00:00Z nor a duration as in 24h",
            plain(text)
        ))
    };
    text.parse().map(Some).map_err(fault)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::audit::AuditedDecision;
    use crate::cli::args::Cli;

    fn line(tool: &str) -> Value {
        json!({"seq": 3, "time": "2026-11-29T12:00:00Z", "kind": "call", "peer": "192.0.2.1", "name": tool, "outcome": "ok"})
    }

    fn filter(args: AuditFilterArgs) -> LineFilter {
        filter_of(&args).unwrap()
    }

    #[test]
    fn lines_are_chosen_by_every_member_and_by_time() {
        let text = |text: &str| Some(text.to_owned());
        let all = filter(AuditFilterArgs::default());
        assert!(all.wants(&line("a")));
        assert!(!all.wants(&json!({"kind": "checkpoint", "time": "2026-11-29T12:00:00Z"})));
        let of_tool = filter(AuditFilterArgs { tool: text("a"), identity: text("192.0.2.1"), ..Default::default() });
        assert!(of_tool.wants(&line("a")) && !of_tool.wants(&line("b")));
        let decided = json!({"kind": "call", "decision": "denied", "rule": "no-deletes", "outcome": "denied"});
        let denied = filter(AuditFilterArgs { decision: Some(AuditedDecision::Denied), ..Default::default() });
        let allowed = filter(AuditFilterArgs { decision: Some(AuditedDecision::Allowed), ..Default::default() });
        assert!(denied.wants(&decided) && !denied.wants(&line("a")) && !allowed.wants(&decided));
        let by_rule = |name| filter(AuditFilterArgs { rule: text(name), ..Default::default() });
        assert!(by_rule("no-deletes").wants(&decided) && !by_rule("reads").wants(&decided));
        let ok = filter(AuditFilterArgs { outcome: text("ok"), ..Default::default() });
        assert!(ok.wants(&line("a")) && !ok.wants(&decided));
        let of_alice = filter(AuditFilterArgs { identity: text("alice"), ..Default::default() });
        assert!(of_alice.wants(&json!({"kind": "call", "caller": "alice"})) && !of_alice.wants(&line("alice")));
        let since = filter(AuditFilterArgs { since: text("2026-11-29T12:00:00Z"), ..Default::default() });
        assert!(since.wants(&line("a")));
        let until = filter(AuditFilterArgs { until: text("2026-11-29T11:59:59Z"), ..Default::default() });
        assert!(!until.wants(&line("a")));
        let ago = filter(AuditFilterArgs { since: text("1h"), ..Default::default() });
        let now = json!({"kind": "action", "time": WallTime::now().to_string()});
        assert!(ago.wants(&now));
        assert!(filter_of(&AuditFilterArgs { since: text("yesterday"), ..Default::default() }).is_err());
    }

    #[test]
    fn an_invalid_query_is_refused_before_it_begins() {
        let parses = |args: &[&str]| Cli::try_parse_from([&["adit", "audit", "query", "log"], args].concat()).is_ok();
        for good in ["1", "100000"] {
            assert!(parses(&["--limit", good]), "{good}");
        }
        for wrong in ["0", "100001", "-1", "many"] {
            assert!(!parses(&["--limit", wrong]), "{wrong}");
        }
        assert!(parses(&["--decision", "allowed"]) && parses(&["--decision", "denied"]));
        assert!(!parses(&["--decision", "Denied"]) && !parses(&["--decision", "maybe"]));
    }
}
