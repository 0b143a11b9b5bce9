//! The report as text for a terminal.

use std::fmt::Write;

use comfy_table::{Cell, CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

use super::report::{PeerNote, Report, State};
use super::rows::Row;

/// The maximum width of the text.
pub(crate) const WIDTH: u16 = 120;

/// The headings of the columns.
const HEADS: [&str; 13] =
    ["peer", "encrypted", "p50", "p95", "p99", "p99.9", "+p50", "+p95", "×adit", "CPU", "calls/s", "×adit", "RSS MiB"];

/// The whole report as text.
pub(crate) fn text(report: &Report) -> String {
    let mut text = String::new();
    for rows in report.by_workload() {
        let Some(first) = rows.first() else { continue };
        let flight = if report.method.mode == "closed" { "in flight" } else { "connections" };
        let _ = writeln!(
            text,
            "\n{} {flight}, {} B each way, {} loop",
            first.connections, first.payload, report.method.mode
        );
        let _ = writeln!(text, "{}", table(rows));
        for row in rows {
            for (what, why) in [("void", &row.void), ("failed", &row.error)] {
                if let Some(why) = why {
                    text.push_str(&wrapped(&format!("  {} {what}: ", row.peer), why));
                }
            }
        }
    }
    text.push_str(&notes(report));
    text
}

fn table(rows: &[Row]) -> Table {
    table_of(&HEADS, 2, rows.iter().map(|row| columns(row).into()))
}

/// A table of these lines; the first `names` columns are names.
pub(crate) fn table_of(heads: &[&str], names: usize, lines: impl IntoIterator<Item = Vec<String>>) -> Table {
    let cell = |(i, text)| cell(if i < names { CellAlignment::Left } else { CellAlignment::Right }, text);
    let mut table = Table::new();
    table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heads.iter().map(|head| (*head).to_owned()).enumerate().map(cell));
    for line in lines {
        table.add_row(line.into_iter().enumerate().map(cell));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// A cell with this alignment: left for names, right for numbers.
fn cell(alignment: CellAlignment, text: String) -> Cell {
    Cell::new(text).set_alignment(alignment)
}

fn columns(row: &Row) -> [String; 13] {
    let (peer, cover) = (row.peer.clone(), row.cover().to_string());
    if !row.counts() {
        let why = if row.void.is_some() { "void" } else { "failed" };
        let mut columns: [String; 13] = std::array::from_fn(|_| "–".to_owned());
        (columns[0], columns[1], columns[2]) = (peer, cover, why.to_owned());
        return columns;
    }
    [
        peer,
        cover,
        micros(row.p50_us),
        micros(row.p95_us),
        micros(row.p99_us),
        micros(row.p999_us),
        micros(row.added_p50_us),
        micros(row.added_p95_us),
        number(row.to_adit.added_p50, 2),
        micros(row.cpu_us_per_call),
        format!("{}{}", number(row.rps, 0), if row.is_bounded_by_load() { "*" } else { "" }),
        number(row.to_adit.rps, 2),
        number(row.rss_kib.map(|kib| kib / 1024.0), 1),
    ]
}

/// Three digits are sufficient, and all that is exact.
fn micros(value: Option<f64>) -> String {
    number(value, if value.is_some_and(|value| value.abs() >= 100.0) { 0 } else { 1 })
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

/// Notes: peers that were not measured, the meaning of the columns, the machine.
fn notes(report: &Report) -> String {
    let mut text = String::from("\n");
    for note in report.peers.iter().filter(|note| note.state != State::Measured) {
        let (name, state) = (&note.name, state_word(note));
        text.push_str(&wrapped(&format!("{name}: {state}: "), note.reason.as_deref().unwrap_or_default()));
    }
    let host = &report.host;
    let method = &report.method;
    text.push_str(&wrapped(
        "",
        &format!(
            "Times in µs; medians of {} rounds of {} s. +p50 and +p95 are what a peer adds to direct in the same round; the \
             first ×adit is +p50 divided by adit's, the second calls/s divided by adit's. CPU is of all processes of the \
             peer, for a call. * generator and upstream had no CPU left: the peer could carry more. 'encrypted' says what is: compare like with like.",
            method.rounds, method.duration_s
        ),
    ));
    text.push_str(&wrapped(
        "",
        &format!(
            "{}, {} CPUs, Linux {}, governor {}; load {:.2} before and {:.2} after, steal {:.2} %; peers on CPU {}, \
             generator and upstream on CPU {}.",
            host.cpu,
            host.cores,
            host.kernel,
            host.governor,
            host.load_before,
            host.load_after,
            host.steal_percent,
            host.peer_cpus,
            host.load_cpus
        ),
    ));
    if let Some(why) = &report.ended_early {
        text.push_str(&wrapped("Ended early, so that rounds are missing: ", why));
    }
    if report.debug_build {
        text.push_str("A debug build made this: its figures mean nothing. Build with --release.\n");
    }
    text
}

fn state_word(note: &PeerNote) -> &'static str {
    match note.state {
        State::Measured => "measured",
        State::NotFound => "not found",
        State::NoFarSide => "no far side",
    }
}

/// A paragraph, wrapped at the maximum width.
fn wrapped(head: &str, body: &str) -> String {
    let options = textwrap::Options::new(usize::from(WIDTH)).initial_indent(head).subsequent_indent("  ");
    let mut text = textwrap::fill(body, options);
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample::report;

    #[test]
    fn the_text_is_no_wider_than_a_terminal() {
        let text = text(&report());
        let widest = text.lines().max_by_key(|line| line.chars().count()).expect("there is text");
        assert!(widest.chars().count() <= usize::from(WIDTH), "{widest}");
    }

    #[test]
    fn nothing_is_left_out() {
        let report = report();
        let text = text(&report);
        for note in &report.peers {
            assert!(text.lines().any(|line| line.trim_start().starts_with(&note.name)), "{}: {text}", note.name);
        }
        assert!(text.contains("wstunnel: not found: ") && text.contains("cloudflared: no far side: "), "{text}");
        assert!(text.contains("bore failed: ") && text.contains("chisel void: "), "{text}");
        assert!(text.contains("64 in flight, 1024 B each way, closed loop"), "{text}");
    }

    #[test]
    fn figures_of_a_void_row_are_not_shown() {
        let report = report();
        let row = report.rows.iter().find(|row| row.void.is_some()).expect("the sample has one");
        assert_eq!(columns(row)[2..4], ["void".to_owned(), "–".to_owned()]);
    }
}
