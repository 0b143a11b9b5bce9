//! A run as a chart: the calls that the server ran, and the tasks that succeeded.

use plotters::prelude::*;

use super::{GuardSettings, Part, SAMPLE, TaskEnd, Way, WayOutcome};

/// The size of the chart, in pixels.
const SIZE: (u32, u32) = (900, 560);
/// The font size in pixels.
const LETTERS: u32 = 15;
const TEXT: RGBColor = RGBColor(90, 90, 90);
const GRID: RGBColor = RGBColor(225, 225, 225);
/// The background of the parts in which the server is slow.
const SLOW: RGBColor = RGBColor(204, 60, 40);

/// Why a chart could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("the chart cannot be drawn: {0}")]
pub(crate) struct PictureError(String);

/// One curve: its path, and a value for each second.
type Curve = (Way, Vec<f64>);

/// The chart of a run, as SVG.
///
/// # Errors
///
/// If it cannot be drawn.
pub(crate) fn draw(outcomes: &[WayOutcome], settings: &GuardSettings) -> Result<String, PictureError> {
    let seconds = settings.length().as_secs_f64();
    let run: Vec<Curve> = outcomes.iter().map(|outcome| (outcome.way, run_per_second(outcome))).collect();
    let done = outcomes.iter().map(|outcome| (outcome.way, done_per_second(&outcome.tasks, seconds)));
    let done: Vec<Curve> = done.collect();
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let failed = |error: &dyn std::fmt::Display| PictureError(error.to_string());
        area.fill(&WHITE).map_err(|error| failed(&error))?;
        for ((panel, caption), curves) in area.split_evenly((2, 1)).iter().zip(CAPTIONS).zip([run, done]) {
            draw_panel(panel, caption, &curves, settings).map_err(|error| failed(&error))?;
        }
        area.present().map_err(|error| failed(&error))?;
    }
    let label = "What the server had to run and what came of it, over time, with and without a guard";
    Ok(svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{label}\" "), 1))
}

/// The captions of the panels.
const CAPTIONS: [&str; 2] =
    ["calls that the server ran, per second", "tasks done with one run of the tool, per second"];

type Panel<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn draw_panel<'a>(panel: &Panel<'a>, caption: &str, curves: &[Curve], settings: &GuardSettings) -> Drawn<'a> {
    let seconds = settings.length().as_secs_f64();
    let most = curves.iter().flat_map(|(_, values)| values).copied().fold(1.0, f64::max) * 1.1;
    let letters = || ("sans-serif", LETTERS).into_font().color(&TEXT);
    let mut chart = ChartBuilder::on(panel)
        .margin(8)
        .caption(caption, letters())
        .x_label_area_size(26)
        .y_label_area_size(46)
        .build_cartesian_2d(0.0..seconds, 0.0..most)?;
    for (part, opacity) in [(Part::Quarter, 0.08), (Part::All, 0.18)] {
        let time = settings.time_of(part);
        let corners = [(time.start.as_secs_f64(), 0.0), (time.end.as_secs_f64(), most)];
        chart.draw_series([Rectangle::new(corners, SLOW.mix(opacity).filled())])?;
    }
    chart
        .configure_mesh()
        .axis_style(GRID)
        .max_light_lines(0)
        .bold_line_style(GRID)
        .label_style(letters())
        .x_label_formatter(&|second| format!("{second:.0} s"))
        .y_label_formatter(&|value| format!("{value:.0}"))
        .draw()?;
    for (way, values) in curves {
        let (color, length) = (color_of(*way), SAMPLE.as_secs_f64());
        let points = values.iter().enumerate().map(|(nth, value)| ((nth as f64 + 0.5) * length, *value));
        let series = chart.draw_series(LineSeries::new(points, color.stroke_width(2)))?;
        series.label(way.name()).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
    }
    let position = SeriesLabelPosition::UpperLeft;
    chart.configure_series_labels().position(position).background_style(WHITE).label_font(letters()).draw()
}

fn run_per_second(outcome: &WayOutcome) -> Vec<f64> {
    outcome.served_over_time.iter().map(|count| *count as f64 / SAMPLE.as_secs_f64()).collect()
}

/// The successful tasks, by the second in which they ended.
fn done_per_second(tasks: &[TaskEnd], seconds: f64) -> Vec<f64> {
    let mut counts = vec![0.0; (seconds / SAMPLE.as_secs_f64()).ceil() as usize];
    for task in tasks.iter().filter(|task| task.is_done_once()) {
        let ended = (task.began + task.took).as_secs_f64() / SAMPLE.as_secs_f64();
        if let Some(count) = counts.get_mut(ended as usize) {
            *count += 1.0 / SAMPLE.as_secs_f64();
        }
    }
    counts
}

fn color_of(way: Way) -> RGBColor {
    match way {
        Way::Direct => RGBColor(150, 150, 150),
        Way::Unguarded => RGBColor(204, 92, 0),
        Way::Guarded => RGBColor(0, 102, 170),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::guard::tests::settings;

    #[test]
    fn a_picture_has_a_curve_for_each_path_and_shows_when_the_server_is_slow() {
        let task = TaskEnd {
            began: Duration::from_secs(3),
            took: Duration::from_millis(1_500),
            calls: 1,
            is_done: true,
            may_have_run: false,
            is_terminal: false,
            bytes: 0,
        };
        let unclear = TaskEnd { may_have_run: true, ..task };
        let outcomes = Way::ALL.map(|way| WayOutcome {
            way,
            tasks: vec![task, task, unclear],
            left_out: 0,
            served: [4; 4],
            repeated: 0,
            served_over_time: vec![0, 20, 80],
        });
        assert_eq!(done_per_second(&outcomes[0].tasks, 6.0), [0.0, 0.0, 0.0, 0.0, 2.0, 0.0]);
        let svg = draw(&outcomes, &settings()).expect("the chart is drawn");
        // Each curve and its entry in the legend, in two panels.
        assert_eq!(svg.matches("stroke-width=\"2\"").count(), 2 * 2 * Way::ALL.len(), "{svg}");
        assert!(Way::ALL.iter().all(|way| svg.contains(way.name())), "{svg}");
        assert_eq!(svg.matches("fill=\"#CC3C28\"").count(), 2 * 2, "{svg}");
    }
}
