//! The report as one self-contained HTML page, without network, scripts or fonts.

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value, context};
use serde::Serialize;

use super::charts::{Axes, ChartError, Width, bars, curves};
use super::peer::{ADIT, Cover, Kind};
use super::report::Report;
use super::rows::Row;
use crate::units::show_bytes;

const TEMPLATE: &str = include_str!("page.html");

/// Why a page could not be created.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PageError {
    /// A chart could not be drawn.
    #[error(transparent)]
    Chart(#[from] ChartError),
    /// The template of the page could not be filled in.
    #[error("the report's page cannot be filled in: {0}")]
    Template(#[from] minijinja::Error),
}

/// A workload on the page.
#[derive(Serialize)]
struct Section {
    connections: usize,
    payload: u64,
    bars_wide: String,
    bars_narrow: String,
    panels: Vec<Panel>,
    rows: Vec<Line>,
    adit: Option<Row>,
}

/// Curves of peers with the same encryption, beside `direct` and `adit`.
#[derive(Serialize)]
struct Panel {
    head: &'static str,
    svg: String,
    keys: Vec<Key>,
}

#[derive(Serialize)]
struct Key {
    number: usize,
    name: String,
}

/// A row of the table, with the number of its colour.
#[derive(Serialize)]
struct Line {
    number: usize,
    cover: &'static str,
    counts: bool,
    bounded_by_load: bool,
    row: Row,
}

/// The page of a report.
///
/// # Errors
///
/// If a chart cannot be drawn.
pub(crate) fn html(report: &Report) -> Result<String, PageError> {
    let names: Vec<String> = report.peers.iter().map(|note| note.name.clone()).collect();
    let number = |name: &str| names.iter().position(|known| known == name).unwrap_or(names.len());
    let sections = report.by_workload().into_iter().map(|rows| section(rows, &number));
    let sections = sections.collect::<Result<Vec<Section>, PageError>>()?;
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.add_filter("us", |value: Value| figure(&value, |us| if us.abs() >= 100.0 { 0 } else { 1 }));
    environment.add_filter("fixed", |value: Value, digits: usize| figure(&value, |_| digits));
    environment.add_filter("short", |value: f64| value.to_string());
    environment.add_filter("size", show_bytes);
    environment.add_template("page", TEMPLATE)?;
    Ok(environment
        .get_template("page")?
        .render(context! { report => Serde(report), sections => Serde(&sections), names => names })?)
}

fn section(rows: &[Row], number: &dyn Fn(&str) -> usize) -> Result<Section, PageError> {
    let first = rows.first().cloned().unwrap_or_default();
    let sound: Vec<(usize, &Row)> =
        rows.iter().filter(|row| row.counts()).map(|row| (number(&row.peer), row)).collect();
    let groups: Vec<(&str, Vec<(usize, &Row)>)> = covers()
        .map(|cover| (head(cover), among(&sound, cover).filter(|(_, row)| row.added_p50_us.is_some()).collect()))
        .into_iter()
        .filter(|(_, rows): &(_, Vec<_>)| !rows.is_empty())
        .collect();
    Ok(Section {
        connections: first.connections,
        payload: first.payload,
        bars_wide: bars(&groups, Width::Wide)?,
        bars_narrow: bars(&groups, Width::Narrow)?,
        panels: panels(rows, &sound)?,
        rows: lines(rows, number),
        adit: rows.iter().find(|row| row.peer == ADIT && row.counts()).cloned(),
    })
}

fn panels(rows: &[Row], sound: &[(usize, &Row)]) -> Result<Vec<Panel>, PageError> {
    let axes = Axes::of(rows);
    let mut panels = Vec::new();
    for cover in covers() {
        let own: Vec<(usize, &Row)> = among(sound, cover).collect();
        if own.is_empty() {
            continue;
        }
        let beside = |row: &Row| row.kind == Kind::Baseline || row.peer == ADIT;
        let mut drawn: Vec<(usize, &Row)> = sound.iter().copied().filter(|(_, row)| beside(row)).collect();
        drawn.extend(own.into_iter().filter(|(_, row)| !beside(row)));
        let keys = drawn.iter().map(|(number, row)| Key { number: *number, name: row.peer.clone() }).collect();
        panels.push(Panel { head: head(cover), svg: curves(&drawn, axes)?, keys });
    }
    Ok(panels)
}

fn lines(rows: &[Row], number: &dyn Fn(&str) -> usize) -> Vec<Line> {
    let line = |row: &Row| Line {
        number: number(&row.peer),
        cover: if row.kind == Kind::Baseline { "the upstream itself" } else { head(row.cover()) },
        counts: row.counts(),
        bounded_by_load: row.is_bounded_by_load(),
        row: Row { curve: Vec::new(), ..row.clone() },
    };
    let mut lines: Vec<Line> = rows.iter().filter(|row| row.kind == Kind::Baseline).map(line).collect();
    for cover in covers() {
        lines.extend(rows.iter().filter(|row| row.kind != Kind::Baseline && row.cover() == cover).map(line));
    }
    lines
}

/// The rows of one cover, in order; `direct` belongs to none.
fn among<'a>(rows: &[(usize, &'a Row)], cover: Cover) -> impl Iterator<Item = (usize, &'a Row)> {
    rows.iter().copied().filter(move |(_, row)| row.kind != Kind::Baseline && row.cover() == cover)
}

fn covers() -> [Cover; 3] {
    [Cover::Full, Cover::Link, Cover::None]
}

fn head(cover: Cover) -> &'static str {
    match cover {
        Cover::Full => "TLS from the agent, link encrypted",
        Cover::Link => "link encrypted, agent in the clear",
        Cover::None => "nothing encrypted",
    }
}

/// A number with this many digits after the point; a dash for none.
fn figure(value: &Value, digits: impl Fn(f64) -> usize) -> String {
    f64::try_from(value.clone()).map_or_else(
        |_| "–".to_owned(),
        |value| {
            let sign = if value < 0.0 { "−" } else { "" };
            format!("{sign}{}", thousands(&format!("{:.*}", digits(value), value.abs())))
        },
    )
}

/// A number without a sign, with a comma between thousands.
fn thousands(number: &str) -> String {
    let whole = number.find('.').unwrap_or(number.len());
    let mut text = String::new();
    for (i, digit) in number.chars().enumerate() {
        if 0 < i && i < whole && (whole - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::peer::Peer;
    use crate::compare::sample::report;

    #[test]
    fn the_page_is_self_contained() {
        let page = html(&report()).expect("the page is created");
        // A peer's home page is given as text and as a link; nothing is fetched.
        for outside in ["<script", "<link", "<img", "<iframe", "<object", "@import", "url(", "src=", "xlink:"] {
            assert!(!page.contains(outside), "{outside}");
        }
        let namespace = "http://www.w3.org/2000/svg";
        let mut addresses = page.match_indices("://").map(|(at, _)| &page[at.saturating_sub(6)..at + 40]);
        let outside = addresses.find(|text| !text.contains("href") && !text.contains(&namespace[4..20]));
        let homes: Vec<String> = report().peers.iter().map(|peer| peer.home.clone()).collect();
        if let Some(text) = outside {
            assert!(homes.iter().any(|home| !home.is_empty() && text.contains(&home[8..])), "{text}");
        }
        assert!(page.contains("prefers-color-scheme") && page.contains("viewport"));
    }

    #[test]
    fn every_peer_has_a_colour_in_the_light_and_in_the_dark() {
        let page = html(&report()).expect("the page is created");
        for number in 0..Peer::all().len() {
            assert_eq!(page.matches(&format!("--p{number}: #")).count(), 2, "{number}");
        }
    }

    #[test]
    fn texts_of_peers_are_escaped() {
        let page = html(&report()).expect("the page is created");
        assert!(page.contains("&lt;sample&gt;") && !page.contains("<sample>"));
        assert!(page.contains("a&lt;b&gt;"));
    }

    #[test]
    fn every_peer_is_on_the_page_in_any_state() {
        let report = report();
        let page = html(&report).expect("the page is created");
        for note in &report.peers {
            assert!(page.contains(&format!(">{}<", note.name)), "{}", note.name);
        }
        for text in ["not found", "no far side", "the client ended by itself", "the generator was late"] {
            assert!(page.contains(text), "{text}");
        }
    }

    #[test]
    fn a_report_without_a_row_is_still_a_page() {
        let empty = Report { rows: Vec::new(), ..report() };
        assert!(html(&empty).expect("the page is created").contains("not found"));
    }

    #[test]
    fn numbers_are_easy_to_read() {
        let show = |number: f64| figure(&Value::from(number), |_| 1);
        assert_eq!([0.0, 999.96, -8170.25, 1_234_567.0].map(show), ["0.0", "1,000.0", "−8,170.2", "1,234,567.0"]);
        assert_eq!(figure(&Value::from(()), |_| 1), "–");
    }
}
