use std::collections::VecDeque;
use std::io;

use rusqlite::{Connection, OptionalExtension, Statement};
use serde_json::Value;

use crate::control::audit::index::segment::{SEARCHED, Segment};
use crate::control::audit::index::{AuditIndex, AuditIndexError, Term, indexed_file, key_of, numbers};
use crate::control::audit::line_filter::LineFilter;
use crate::control::audit::reading::AuditFile;

/// The number of candidates in the first step of a search for the newest lines. Each step doubles it, so that a
/// compressed file is read only a few times.
const FIRST_LOOK: usize = 256;

impl AuditIndex {
    /// The newest matching lines, at most `max`, in the order of the log.
    ///
    /// # Errors
    ///
    /// If the index or the log cannot be read.
    pub fn newest(&mut self, filter: &LineFilter, max: usize) -> Result<VecDeque<Value>, AuditIndexError> {
        let reading = self.connection.transaction()?;
        let mut found = VecDeque::new();
        for file in self.files.iter().rev() {
            let Candidates { mut offsets, rest_from } = Candidates::of(&reading, file, filter)?;
            if let Some(from) = rest_from {
                let mut rest = VecDeque::new();
                each_from(file, from, filter, |line| push_last(&mut rest, line, max - found.len()))?;
                push_before(&mut found, rest);
            }
            let mut look = FIRST_LOOK.max(max - found.len());
            while found.len() < max && !offsets.is_empty() {
                let behind = offsets.split_off(offsets.len().saturating_sub(look));
                let mut some = VecDeque::new();
                each_at(file, &behind, filter, |line| push_last(&mut some, line, max - found.len()))?;
                push_before(&mut found, some);
                look *= 2;
            }
            if found.len() == max {
                break;
            }
        }
        Ok(found)
    }

    /// Passes every matching line to `see`, in the order of the log.
    ///
    /// # Errors
    ///
    /// If the index or the log cannot be read, or `see` fails.
    pub fn each<E: From<AuditIndexError>>(
        &mut self,
        filter: &LineFilter,
        mut see: impl FnMut(Value) -> Result<(), E>,
    ) -> Result<(), E> {
        let reading = self.connection.transaction().map_err(AuditIndexError::from)?;
        for file in &self.files {
            let candidates = Candidates::of(&reading, file, filter).map_err(AuditIndexError::from)?;
            each_at(file, &candidates.offsets, filter, &mut see)?;
            if let Some(from) = candidates.rest_from {
                each_from(file, from, filter, &mut see)?;
            }
        }
        Ok(())
    }
}

/// The lines of a file that may match.
struct Candidates {
    /// The positions of the lines, in ascending order.
    offsets: Vec<u64>,
    /// The position from which lines are not indexed, if there may be any.
    rest_from: Option<u64>,
}

impl Candidates {
    fn of(reading: &Connection, file: &AuditFile, filter: &LineFilter) -> rusqlite::Result<Candidates> {
        let key = key_of(file);
        let Some(known) = indexed_file(reading, key)? else {
            return Ok(Candidates { offsets: Vec::new(), rest_from: Some(0) });
        };
        let groups: Vec<Vec<Term>> = filter.members.iter().filter_map(|(names, text)| terms(names, text)).collect();
        let sql = format!("SELECT {} FROM segment WHERE file = ?1 ORDER BY nth", Segment::COLUMNS);
        let mut statement = reading.prepare(&sql)?;
        let mut postings = reading.prepare("SELECT lines FROM posting WHERE segment = ?1 AND term = ?2")?;
        let mut rows = statement.query([key])?;
        let (mut offsets, mut end) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            let segment = Segment::of_row(row)?;
            end = segment.end();
            let (first, last) = segment.times;
            if filter.spans(first, last) {
                add_offsets(&segment, &lines_of(&mut postings, segment.id, &groups)?, &mut offsets);
            }
        }
        Ok(Candidates { offsets, rest_from: (!known.is_whole).then_some(end) })
    }
}

/// The terms for one value of several members; `None` if a member is not indexed.
fn terms(names: &[&str], text: &str) -> Option<Vec<Term>> {
    names.iter().all(|name| SEARCHED.contains(name)).then(|| names.iter().map(|name| Term::of(name, text)).collect())
}

/// The lines of a segment with a term of each group; without groups, all calls and actions.
fn lines_of(postings: &mut Statement<'_>, segment: i64, groups: &[Vec<Term>]) -> rusqlite::Result<Vec<u32>> {
    let Some((first, others)) = groups.split_first() else { return lines_with(postings, segment, &[Term::any()]) };
    let mut lines = lines_with(postings, segment, first)?;
    for group in others {
        if lines.is_empty() {
            break;
        }
        let with = lines_with(postings, segment, group)?;
        lines.retain(|line| with.binary_search(line).is_ok());
    }
    Ok(lines)
}

/// The lines of a segment with any of these terms.
fn lines_with(postings: &mut Statement<'_>, segment: i64, terms: &[Term]) -> rusqlite::Result<Vec<u32>> {
    let mut lines = Vec::new();
    for term in terms {
        let posting = postings
            .query_row([segment, term.0], |row| Ok(numbers::read_ascending(row.get_ref(0)?.as_blob()?)))
            .optional()?;
        lines.extend(posting.unwrap_or_default());
    }
    lines.sort_unstable();
    lines.dedup();
    Ok(lines)
}

fn add_offsets(segment: &Segment, lines: &[u32], offsets: &mut Vec<u64>) {
    let (mut at, mut next) = (segment.start, lines.iter().peekable());
    for (nth, length) in segment.lengths.iter().enumerate() {
        let Some(line) = next.peek() else { return };
        if **line as usize == nth {
            offsets.push(at);
            next.next();
        }
        at = at.saturating_add(*length);
    }
}

/// Passes the matching lines at these positions to `see`.
fn each_at<E: From<AuditIndexError>>(
    file: &AuditFile,
    offsets: &[u64],
    filter: &LineFilter,
    mut see: impl FnMut(Value) -> Result<(), E>,
) -> Result<(), E> {
    if offsets.is_empty() {
        return Ok(());
    }
    let failed = |error: io::Error| E::from(error.into());
    let mut lines = file.lines().map_err(failed)?;
    for offset in offsets {
        lines.skip_to(*offset).map_err(failed)?;
        let Some((line, _)) = lines.next_line().map_err(failed)? else { break };
        see_wanted(line, filter, &mut see)?;
    }
    Ok(())
}

/// Passes the matching lines from this position on to `see`.
fn each_from<E: From<AuditIndexError>>(
    file: &AuditFile,
    from: u64,
    filter: &LineFilter,
    mut see: impl FnMut(Value) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |error: io::Error| E::from(error.into());
    let mut lines = file.lines().map_err(failed)?;
    lines.skip_to(from).map_err(failed)?;
    while let Some((line, _)) = lines.next_line().map_err(failed)? {
        see_wanted(line, filter, &mut see)?;
    }
    Ok(())
}

fn see_wanted<E>(line: &[u8], filter: &LineFilter, see: &mut impl FnMut(Value) -> Result<(), E>) -> Result<(), E> {
    match serde_json::from_slice(line) {
        Ok(line) if filter.wants(&line) => see(line),
        _ => Ok(()),
    }
}

/// Appends a line, and keeps only the last `max`.
fn push_last(lines: &mut VecDeque<Value>, line: Value, max: usize) -> Result<(), AuditIndexError> {
    lines.push_back(line);
    if lines.len() > max {
        lines.pop_front();
    }
    Ok(())
}

fn push_before(lines: &mut VecDeque<Value>, before: VecDeque<Value>) {
    before.into_iter().rev().for_each(|line| lines.push_front(line));
}
