use std::io;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde_json::Value;

use crate::base::sha256;
use crate::control::audit::index::{AuditIndexError, Postings, Term, key_of, numbers};
use crate::control::audit::line_filter::{is_searched, time_of};
use crate::control::audit::reading::AuditFile;
use crate::control::wall_time::WallTime;

/// The lines per segment. Only the last segment of a file has fewer.
const LINES_MAX: usize = 8_192;
/// The members that are indexed.
pub(super) const SEARCHED: [&str; 10] =
    ["peer", "caller", "client", "name", "method", "route", "tunnel", "decision", "rule", "outcome"];

/// A run of consecutive lines of a file.
pub(super) struct Segment {
    pub(super) id: i64,
    nth: i64,
    /// The position of its first line, in bytes.
    pub(super) start: u64,
    /// The lengths of its lines, with their line feeds.
    pub(super) lengths: Vec<u64>,
    /// The times of its first and last line. A line without a time matches every time range.
    pub(super) times: (WallTime, WallTime),
    /// The SHA-256 of the last line.
    last_line: Vec<u8>,
}

impl Term {
    /// The term of all calls and actions.
    pub(super) fn any() -> Term {
        Term::of("", "")
    }

    pub(super) fn of(member: &str, value: &str) -> Term {
        let hash = sha256([member.as_bytes(), b"\0", value.as_bytes()].concat().as_slice());
        let [a, b, c, d, e, f, g, h, ..] = hash;
        Term(i64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

impl Segment {
    /// The columns that [`Segment::of_row`] reads.
    pub(super) const COLUMNS: &str = "id, nth, start, lengths, first_time, last_time, last_line";

    pub(super) fn of_row(row: &Row<'_>) -> rusqlite::Result<Segment> {
        Ok(Segment {
            id: row.get(0)?,
            nth: row.get(1)?,
            start: row.get::<_, i64>(2)?.cast_unsigned(),
            lengths: numbers::read(row.get_ref(3)?.as_blob()?).collect(),
            times: (WallTime(row.get(4)?), WallTime(row.get(5)?)),
            last_line: row.get(6)?,
        })
    }

    /// The last segment of a file, if it has any.
    pub(super) fn last_of(connection: &Connection, file: i64) -> rusqlite::Result<Option<Segment>> {
        let sql = format!("SELECT {} FROM segment WHERE file = ?1 ORDER BY nth DESC LIMIT 1", Segment::COLUMNS);
        connection.prepare(&sql)?.query_row([file], Segment::of_row).optional()
    }

    /// The end of its last line, in bytes from the start of the file.
    pub(super) fn end(&self) -> u64 {
        self.lengths.iter().fold(self.start, |end, length| end.saturating_add(*length))
    }

    /// Whether its last line is unchanged at the same position.
    pub(super) fn fits(&self, file: &AuditFile) -> io::Result<bool> {
        let Some(last) = self.lengths.last() else { return Ok(false) };
        let mut lines = file.lines()?;
        lines.skip_to(self.end().saturating_sub(*last))?;
        Ok(lines.next_line()?.is_some_and(|(line, _)| sha256(line)[..] == self.last_line))
    }

    /// The position and segment at which indexing continues: this segment, which is then rebuilt, unless it is full.
    pub(super) fn next(&self) -> (u64, i64) {
        if self.lengths.len() < LINES_MAX { (self.start, self.nth) } else { (self.end(), self.nth + 1) }
    }
}

/// Indexes the lines of a file from this position and segment on. If lines `may_be_added` to the file, an incomplete
/// last line is left out.
pub(super) fn add_lines(
    change: &Transaction<'_>,
    file: &AuditFile,
    (from, nth): (u64, i64),
    may_be_added: bool,
) -> Result<(), AuditIndexError> {
    let mut lines = file.lines()?;
    lines.skip_to(from)?;
    let mut gathered = Gathered { nth, start: from, ..Gathered::default() };
    let mut at = from;
    while let Some((line, is_whole)) = lines.next_line()? {
        if may_be_added && !is_whole {
            break;
        }
        gathered.add(line);
        let end = lines.position();
        numbers::push(&mut gathered.lengths, end - at);
        at = end;
        if gathered.count == LINES_MAX {
            let nth = gathered.nth + 1;
            std::mem::take(&mut gathered).write(change, key_of(file))?;
            gathered = Gathered { nth, start: at, ..Gathered::default() };
        }
    }
    if gathered.count > 0 {
        gathered.write(change, key_of(file))?;
    }
    Ok(())
}

/// A segment under construction.
#[derive(Default)]
struct Gathered {
    nth: i64,
    start: u64,
    count: usize,
    lengths: Vec<u8>,
    postings: Postings,
    times: Option<(WallTime, WallTime)>,
    last_line: [u8; 32],
}

impl Gathered {
    fn add(&mut self, line: &[u8]) {
        let nth = self.count as u32;
        self.count += 1;
        self.last_line = sha256(line);
        let Ok(line) = serde_json::from_slice::<Value>(line) else { return };
        if !is_searched(&line) {
            return;
        }
        let (first, last) = time_of(&line).map_or((WallTime(i64::MIN), WallTime(i64::MAX)), |time| (time, time));
        self.times = Some(self.times.map_or((first, last), |(begin, end)| (begin.min(first), end.max(last))));
        self.postings.entry(Term::any()).or_default().push(nth);
        for member in SEARCHED {
            if let Some(value) = line[member].as_str() {
                let lines = self.postings.entry(Term::of(member, value)).or_default();
                // Two terms of one line may have the same hash.
                if lines.last() != Some(&nth) {
                    lines.push(nth);
                }
            }
        }
    }

    fn write(self, change: &Transaction<'_>, file: i64) -> rusqlite::Result<()> {
        let (first, last) = self.times.unwrap_or_default();
        let sql = "INSERT INTO segment (file, nth, start, lengths, first_time, last_time, last_line)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        change.prepare(sql)?.execute(params![
            file,
            self.nth,
            self.start.cast_signed(),
            self.lengths,
            first.0,
            last.0,
            &self.last_line[..]
        ])?;
        let id = change.last_insert_rowid();
        let mut postings: Vec<_> = self.postings.into_iter().collect();
        // Inserts in the order of the table are faster.
        postings.sort_unstable_by_key(|(term, _)| term.0);
        let mut statement = change.prepare("INSERT INTO posting VALUES (?1, ?2, ?3)")?;
        for (term, lines) in postings {
            statement.execute(params![id, term.0, numbers::write_ascending(&lines)])?;
        }
        Ok(())
    }
}
