//! The charts of the report as SVG. Each colour is a CSS variable of the page, so that a chart works in light and dark
//! mode.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::peer::ADIT;
use super::rows::Row;

/// The size of a chart of curves, in pixels.
const CURVES: (u32, u32) = (400, 300);
/// The margins of the axes: above, below, left, right.
const MARGINS: [u32; 4] = [10, 28, 58, 24];
/// The height of a line of text, in pixels; the font size is four fifths of it.
const LETTERS: u32 = 16;
/// The tail is drawn up to the point with this many calls beyond it.
const TAIL_CALLS: f64 = 10.0;
/// The height of a bar's row.
const BAR_ROW: i32 = 24;
/// The height of a bar.
const BAR: i32 = 12;
/// A bar longer than most by this factor is cut.
const CUT_ABOVE: f64 = 2.5;
/// The shares that are marked on the axis of curves.
const SHARES: [(f64, &str); 7] = [
    (0.0, "0"),
    (0.5, "p50"),
    (0.9, "p90"),
    (0.99, "p99"),
    (0.999, "p99.9"),
    (0.9999, "p99.99"),
    (0.999_99, "p99.999"),
];

/// Why a chart could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("a chart of the report cannot be drawn: {0}")]
pub(crate) struct ChartError(String);

/// The axes that all charts of a workload share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Axes {
    /// The end of the tail: minus the logarithm of the share beyond it.
    tail: f64,
    low_us: f64,
    high_us: f64,
}

/// The width of a chart of bars. The font size is the same in both, so that it is readable on a phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    Wide,
    Narrow,
}

/// Colours of the page that do not belong to a peer.
#[derive(Clone, Copy)]
enum Ink {
    Text,
    Faint,
    Grid,
}

impl Axes {
    /// The axes that contain all of these rows.
    pub(crate) fn of(rows: &[Row]) -> Self {
        let calls = rows.iter().map(|row| row.calls).max().unwrap_or(0) as f64;
        let tail = (calls / TAIL_CALLS).max(1.0).log10().clamp(2.0, 5.0);
        let drawn: Vec<f64> = rows.iter().flat_map(|row| points(row, tail)).map(|(_, us)| us).collect();
        let low_us = drawn.iter().copied().reduce(f64::min).unwrap_or(10.0).max(1.0);
        let high_us = drawn.iter().copied().reduce(f64::max).unwrap_or(1e3).max(low_us * 2.0);
        Self { tail, low_us: low_us * 0.85, high_us: high_us * 1.15 }
    }

    fn shares(self) -> Vec<f64> {
        SHARES.iter().map(|(share, _)| depth(*share)).filter(|depth| *depth <= self.tail).collect()
    }

    /// The ticks: 1, 2 and 5 of each decade, or only 1 if there are many.
    fn latencies(self) -> Vec<f64> {
        let decades = (self.high_us / self.low_us).log10();
        let steps: &[f64] = if decades > 2.2 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let all = (0..8).flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)));
        all.filter(|us| (self.low_us..=self.high_us).contains(us)).collect()
    }
}

/// An axis with ticks at given positions.
struct Axis {
    from: f64,
    to: f64,
    ticks: Vec<f64>,
    /// The function of a value that is linear on the axis.
    scale: fn(f64) -> f64,
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let [from, to, value] = [self.from, self.to, *value].map(self.scale);
        first + (f64::from(last - first) * (value - from) / (to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.from..self.to
    }
}

/// Latency against the share of calls that did not exceed it. A row's number selects its colour.
pub(crate) fn curves(rows: &[(usize, &Row)], axes: Axes) -> Result<String, ChartError> {
    draw("Latency against the share of calls, a curve for each peer", CURVES, |area| {
        let [above, below, left, right] = MARGINS;
        let mut chart = ChartBuilder::on(area)
            .margin_top(above)
            .margin_right(right)
            .x_label_area_size(below)
            .y_label_area_size(left)
            .build_cartesian_2d(
                Axis { from: 0.0, to: axes.tail, ticks: axes.shares(), scale: |depth| depth },
                Axis { from: axes.low_us, to: axes.high_us, ticks: axes.latencies(), scale: f64::log10 },
            )?;
        chart
            .configure_mesh()
            .axis_style(Ink::Grid.color())
            .light_line_style(Ink::Grid.color())
            .bold_line_style(Ink::Grid.color())
            .label_style(("sans-serif", LETTERS).into_font().color(&Ink::Faint.color()))
            .x_label_formatter(&|depth| share_name(*depth).to_owned())
            .y_label_formatter(&|us| latency_name(*us))
            .draw()?;
        // The first peers are drawn last, on top.
        for (number, row) in rows.iter().rev() {
            let color = peer_color(*number);
            let points = points(row, axes.tail);
            let width = if row.peer == ADIT { 3 } else { 2 };
            chart.draw_series(LineSeries::new(points, color.stroke_width(width)))?;
        }
        Ok(())
    })
}

/// What each peer adds to the median and to the 95th percentile, in groups with headings.
pub(crate) fn bars(groups: &[(&str, Vec<(usize, &Row)>)], width: Width) -> Result<String, ChartError> {
    let lines: i32 = groups.iter().map(|(_, rows)| 1 + i32::try_from(rows.len()).unwrap_or(0)).sum();
    let (whole, names, figures) = match width {
        Width::Wide => (1120, 160, 150),
        Width::Narrow => (380, 124, 84),
    };
    let height = lines * BAR_ROW + 8;
    let scale = Scale { left: names, right: whole - figures, full_us: full_us(groups) };
    draw("What each peer adds to a call, in bars", (whole.unsigned_abs(), height.unsigned_abs()), |area| {
        let mut top = 0;
        for (head, rows) in groups {
            text(area, head, (0, top + BAR_ROW / 2 + 3), (HPos::Left, LETTERS), Ink::Faint.color())?;
            top += BAR_ROW;
            let first = top;
            for (number, row) in rows {
                bar(area, row, peer_color(*number), top, scale, width)?;
                top += BAR_ROW;
            }
            line(area, (scale.left, first + 2), (scale.left, top - 2), Ink::Grid.color())?;
        }
        Ok(())
    })
}

#[derive(Clone, Copy)]
struct Scale {
    left: i32,
    right: i32,
    full_us: f64,
}

impl Scale {
    /// The end of a bar of this length, and whether it exceeds the chart.
    fn x(self, us: f64) -> (i32, bool) {
        let part = us.max(0.0) / self.full_us;
        (self.left + (f64::from(self.right - self.left) * part.min(1.0)).round() as i32, part > 1.0)
    }
}

fn bar(area: &Area<'_>, row: &Row, color: RGBColor, top: i32, scale: Scale, width: Width) -> Drawn {
    let (middle, upper) = (top + BAR_ROW / 2, top + (BAR_ROW - BAR) / 2);
    text(area, &row.peer, (scale.left - 8, middle), (HPos::Right, LETTERS), Ink::Text.color())?;
    let (Some(p50), Some(p95)) = (row.added_p50_us, row.added_p95_us) else { return Ok(()) };
    let ((p50_end, _), (p95_end, is_cut)) = (scale.x(p50), scale.x(p95));
    let fill = |from: i32, to: i32, opacity: f64| {
        Rectangle::new([(from, upper), (to, upper + BAR)], color.mix(opacity).filled())
    };
    area.draw(&fill(scale.left, p95_end, 0.32))?;
    area.draw(&fill(scale.left, p50_end, 1.0))?;
    let cut = if is_cut { "… " } else { "" };
    let figures = match width {
        Width::Wide => format!("{cut}{p50:.0} · {p95:.0} µs"),
        Width::Narrow => format!("{cut}{p50:.0} · {p95:.0}"),
    };
    text(area, &figures, (p95_end + 6, middle), (HPos::Left, LETTERS), Ink::Text.color())
}

/// The value of the longest bar: the maximum, unless the others would be too small to see.
fn full_us(groups: &[(&str, Vec<(usize, &Row)>)]) -> f64 {
    let rows = || groups.iter().flat_map(|(_, rows)| rows).map(|(_, row)| row);
    let p50 = rows().filter_map(|row| row.added_p50_us).fold(1.0, f64::max);
    let mut p95s: Vec<f64> = rows().filter_map(|row| row.added_p95_us).collect();
    p95s.sort_by(f64::total_cmp);
    let most = p95s.get(p95s.len() * 3 / 4).copied().unwrap_or(0.0);
    let all = p95s.last().copied().unwrap_or(0.0);
    p50.max(if all > most * CUT_ABOVE { most } else { all })
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>>;

fn text(area: &Area<'_>, text: &str, at: (i32, i32), (side, size): (HPos, u32), color: RGBColor) -> Drawn {
    let style = ("sans-serif", size).into_font().color(&color).pos(Pos::new(side, VPos::Center));
    area.draw(&Text::new(text.to_owned(), at, style))
}

fn line(area: &Area<'_>, from: (i32, i32), to: (i32, i32), color: RGBColor) -> Drawn {
    area.draw(&PathElement::new([from, to], color))
}

/// Draws a chart. `label` describes it for screen readers.
fn draw(label: &str, size: (u32, u32), picture: impl Fn(&Area<'_>) -> Drawn) -> Result<String, ChartError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        picture(&area).and_then(|()| area.present()).map_err(|e| ChartError(e.to_string()))?;
    }
    Ok(with_page_colors(&svg).replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{label}\" "), 1))
}

/// A row's curve: depth in the tail, and latency.
fn points(row: &Row, tail: f64) -> Vec<(f64, f64)> {
    let own_tail = (row.calls as f64 / TAIL_CALLS).max(1.0).log10().min(tail);
    let deep = row.curve.iter().map(|(share, us)| (depth(*share), us.max(1.0)));
    deep.take_while(|(depth, _)| *depth <= own_tail).collect()
}

/// Minus the logarithm of the share beyond: 0 is none, 1 is 90 %, 2 is 99 %.
fn depth(share: f64) -> f64 {
    -(1.0 - share).log10()
}

fn share_name(at: f64) -> &'static str {
    SHARES.iter().find(|(share, _)| (depth(*share) - at).abs() < 1e-6).map_or("", |(_, name)| name)
}

fn latency_name(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{} s", us / 1e6),
        us if us >= 1e3 => format!("{} ms", us / 1e3),
        us => format!("{us} µs"),
    }
}

/// The placeholder for a peer's colour until the chart is drawn, used for nothing else.
fn peer_color(number: usize) -> RGBColor {
    RGBColor(1, 1, u8::try_from(number).unwrap_or(u8::MAX))
}

impl Ink {
    const ALL: [(Self, &str); 3] = [(Self::Text, "text"), (Self::Faint, "faint"), (Self::Grid, "grid")];

    fn color(self) -> RGBColor {
        RGBColor(1, 2, self as u8)
    }
}

fn with_page_colors(svg: &str) -> String {
    let mut page = svg.to_owned();
    for (ink, name) in Ink::ALL {
        page = page.replace(&hex(ink.color()), &format!("var(--{name})"));
    }
    for number in 0..=usize::from(u8::MAX) {
        let color = hex(peer_color(number));
        if page.contains(&color) {
            page = page.replace(&color, &format!("var(--p{number})"));
        }
    }
    page
}

fn hex(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sample::report;

    #[test]
    fn a_picture_has_the_colours_of_the_page_and_no_other() {
        let report = report();
        let rows: Vec<(usize, &Row)> = report.rows.iter().enumerate().take(4).collect();
        let curves = curves(&rows, Axes::of(&report.rows)).expect("the chart is drawn");
        let bars = bars(&[("all", rows)], Width::Narrow).expect("the chart is drawn");
        for svg in [&curves, &bars] {
            assert!(svg.contains("var(--p1)") && svg.contains("<svg"), "{svg}");
            assert!(!svg.contains("\"#"), "{svg}");
        }
        assert!(curves.contains("p99") && curves.contains("var(--grid)"), "{curves}");
        assert!(bars.contains("adit"), "{bars}");
    }

    #[test]
    fn the_axes_hold_every_curve_and_the_tail_only_where_there_are_calls() {
        let report = report();
        let axes = Axes::of(&report.rows);
        for (depth, us) in report.rows.iter().flat_map(|row| points(row, axes.tail)) {
            assert!(depth <= axes.tail && (axes.low_us..=axes.high_us).contains(&us), "{depth} {us}");
        }
        let few = Row { calls: 1_000, ..report.rows[0].clone() };
        assert!(points(&few, 5.0).iter().all(|(depth, _)| *depth <= 2.0));
        assert_eq!(Axes::of(&[]).tail, 2.0);
    }

    #[test]
    fn one_endless_tail_does_not_hide_the_others() {
        let row = |p50, p95| Row { added_p50_us: Some(p50), added_p95_us: Some(p95), ..Row::default() };
        let rows = [row(50.0, 80.0), row(60.0, 90.0), row(70.0, 100.0), row(70.0, 110.0), row(80.0, 40_000.0)];
        let groups = [("", rows.iter().map(|row| (0, row)).collect())];
        assert_eq!(full_us(&groups), 110.0);
    }

    #[test]
    fn numbers_on_axes_are_short() {
        assert_eq!([1.0, 500.0, 2e3, 1e6].map(latency_name), ["1 µs", "500 µs", "2 ms", "1 s"]);
        assert_eq!([depth(0.5), depth(0.999), 0.7].map(share_name), ["p50", "p99.9", ""]);
    }
}
