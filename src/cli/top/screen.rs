//! The screen of `adit top`.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Row, Table, TableState};

use crate::cli::call_text::plain;
use crate::cli::explain::story;
use crate::cli::top::state::{TopState, TopView, is_failed, is_slow};
use crate::cli::top::text::{
    CALL_HEADS, LINK_HEADS, TOOL_HEADS, call_cells, link_cells, process_line, tool_cells, total_line,
};

/// Lines for slow and failed calls below the tools, with their head.
const REMARKABLE_LINES: u16 = 7;
/// Below this height, only the table in the middle is shown beside the first lines.
const HEIGHT_FOR_CALLS: u16 = 18;

const HELP: &str = "\
1 2 3, Tab    tools, calls, links
up down, j k  select a line; PgUp PgDn by ten
Enter         of a tool: its calls; of a call: its phases and decisions
/             show only what contains the text that follows; Enter ends it
Esc           back; without a page above it: no filter
s             sort tools by the next column
p, Space      pause; what is shown stays
q, Ctrl-C     end

Times are milliseconds since the process started: p50, p95 and p99. TUNNEL is
the time in edge, link and connector, SERVER that of the MCP server.";

/// Draws the state. Without colours, selection and heads are reversed or bold.
pub(super) fn draw(frame: &mut Frame<'_>, state: &TopState, has_colours: bool) {
    let styles = Styles { has_colours };
    let area = frame.area();
    let calls_below = state.view == TopView::Tools && area.height >= HEIGHT_FOR_CALLS;
    let below = if calls_below { REMARKABLE_LINES } else { 0 };
    let [head, main, calls, foot] =
        Layout::vertical([Constraint::Length(3), Constraint::Min(1), Constraint::Length(below), Constraint::Length(1)])
            .areas(area);
    draw_head(frame, head, state, styles);
    match &state.view {
        TopView::Tools => draw_tools(frame, main, state, styles),
        TopView::Calls => draw_calls(frame, main, state, styles),
        TopView::Links => draw_links(frame, main, state, styles),
        TopView::Help => frame.render_widget(Paragraph::new(HELP), main),
        TopView::Call(..) => {
            let gone = || "the call is no longer among the last ones".to_owned();
            frame.render_widget(Paragraph::new(state.open_call().map_or_else(gone, story)), main);
        }
    }
    if calls_below {
        draw_remarkable(frame, calls, state, styles);
    }
    frame.render_widget(Paragraph::new(foot_line(state)).style(styles.head()), foot);
}

#[derive(Clone, Copy)]
struct Styles {
    has_colours: bool,
}

impl Styles {
    fn head(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    fn colour(self, colour: Color) -> Style {
        if self.has_colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn bad(self) -> Style {
        self.colour(Color::Red)
    }

    fn slow(self) -> Style {
        self.colour(Color::Yellow)
    }
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, state: &TopState, styles: Styles) {
    let note = match (&state.failure, state.is_paused, state.filter.is_empty()) {
        (Some(why), ..) => Line::styled(plain(why), styles.bad().add_modifier(Modifier::BOLD)),
        (None, true, _) => Line::styled("PAUSED", styles.slow().add_modifier(Modifier::BOLD)),
        (None, false, false) => Line::raw(format!("only what contains {:?}", state.filter)),
        (None, false, true) => Line::default(),
    };
    let lines = vec![Line::styled(process_line(state), styles.head()), Line::raw(total_line(state)), note];
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_tools(frame: &mut Frame<'_>, area: Rect, state: &TopState, styles: Styles) {
    let rows = state.rows().into_iter().map(|row| {
        let style = if row.breaker.is_some() { styles.bad() } else { Style::new() };
        let [tool, route, rate, errors, tunnel, server, breaker] = tool_cells(row);
        // An open breaker is seen without colours and on small terminals too.
        let tool = if breaker.is_empty() { tool } else { format!("!{tool}") };
        Row::new([tool, route, rate, errors, tunnel, server, breaker]).style(style)
    });
    let widths = [
        Constraint::Fill(3),
        Constraint::Fill(2),
        Constraint::Length(7),
        Constraint::Length(5),
        Constraint::Length(16),
        Constraint::Length(16),
        Constraint::Length(if area.width >= 100 { 15 } else { 0 }),
    ];
    draw_table(frame, area, state, styles, Table::new(rows, widths).header(Row::new(TOOL_HEADS).style(styles.head())));
}

fn draw_calls(frame: &mut Frame<'_>, area: Rect, state: &TopState, styles: Styles) {
    let table = call_table(state.calls().into_iter(), styles);
    draw_table(frame, area, state, styles, table);
}

fn draw_remarkable(frame: &mut Frame<'_>, area: Rect, state: &TopState, styles: Styles) {
    let lines = usize::from(area.height.saturating_sub(2));
    let [title, table] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
    frame.render_widget(Paragraph::new("slow and failed calls").style(styles.head()), title);
    frame.render_widget(call_table(state.remarkable().take(lines), styles), table);
}

fn call_table<'a>(calls: impl Iterator<Item = &'a crate::control::bodies::CallInfo>, styles: Styles) -> Table<'static> {
    let rows = calls.map(|call| {
        let style = match (is_failed(call), is_slow(call)) {
            (true, _) => styles.bad(),
            (false, true) => styles.slow(),
            (false, false) => Style::new(),
        };
        Row::new(call_cells(call)).style(style)
    });
    let widths = [
        Constraint::Length(5),
        Constraint::Length(6),
        Constraint::Fill(3),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Fill(4),
        Constraint::Length(26),
    ];
    Table::new(rows.collect::<Vec<_>>(), widths).header(Row::new(CALL_HEADS).style(styles.head()))
}

fn draw_links(frame: &mut Frame<'_>, area: Rect, state: &TopState, styles: Styles) {
    let rows = state.links().iter().map(|link| Row::new(link_cells(link)));
    let widths = [
        Constraint::Length(12),
        Constraint::Fill(2),
        Constraint::Fill(3),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(5),
    ];
    draw_table(frame, area, state, styles, Table::new(rows, widths).header(Row::new(LINK_HEADS).style(styles.head())));
}

fn draw_table(frame: &mut Frame<'_>, area: Rect, state: &TopState, styles: Styles, table: Table<'_>) {
    let mut selection = TableState::new().with_selected(state.selected);
    frame.render_stateful_widget(table.row_highlight_style(styles.selected()), area, &mut selection);
}

fn foot_line(state: &TopState) -> String {
    if state.is_typing {
        return format!("/{}_  Enter keeps the filter, Esc removes it", state.filter);
    }
    format!("q quit  p pause  s sort: {}  / filter  Tab view  Enter open  ? help", state.sort.name())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::cli::top::state::TopKey;
    use crate::cli::top::state_tests::sample;

    fn screen(state: &TopState, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state, true)).unwrap();
        let buffer = terminal.backend().buffer();
        let lines = (0..height).map(|y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>());
        lines.map(|line| format!("{}\n", line.trim_end())).collect()
    }

    fn busy() -> TopState {
        let mut state = TopState::new();
        state.sampled(sample(0, 100));
        state.sampled(sample(2, 150));
        state
    }

    #[test]
    fn each_view_fits_a_terminal_of_80_by_24() {
        let mut state = busy();
        let mut all = String::new();
        for (name, keys) in [
            ("tools", vec![]),
            ("calls", vec![TopKey::Tab]),
            ("a call", vec![TopKey::Down, TopKey::Enter]),
            ("links", vec![TopKey::Escape, TopKey::Tab]),
            ("help", vec![TopKey::Char('?')]),
            ("typing", vec![TopKey::Escape, TopKey::Char('1'), TopKey::Char('/'), TopKey::Char('s')]),
        ] {
            keys.into_iter().for_each(|key| assert!(state.key(key)));
            all.push_str(&format!("== {name} ==\n{}", screen(&state, 80, 24)));
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/top/screens.txt");
        if std::env::var_os("ADIT_TEST_WRITE_PAGES").is_some() {
            fs::write(&path, &all).unwrap();
        }
        let kept = fs::read_to_string(&path).unwrap();
        assert_eq!(all, kept, "if it is meant, ADIT_TEST_WRITE_PAGES=1 writes {}", path.display());
    }

    #[test]
    fn no_size_of_a_terminal_is_too_small_and_a_failure_is_shown() {
        let mut state = busy();
        state.failed("the edge cannot be reached \u{1b}[2J".to_owned());
        assert!(screen(&state, 80, 24).contains("the edge cannot be reached \\u{1b}[2J"));
        for (width, height) in [(1, 1), (20, 4), (80, 5), (300, 3), (40, 100)] {
            for key in [TopKey::Tab, TopKey::Tab, TopKey::Tab, TopKey::Char('?')] {
                screen(&state, width, height);
                state.key(key);
            }
        }
    }

    #[test]
    fn without_colours_the_selection_is_still_seen() {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(frame, &busy(), false)).unwrap();
        let cells = terminal.backend().buffer().content();
        assert!(cells.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
        assert!(cells.iter().any(|cell| cell.modifier.contains(Modifier::REVERSED)));
    }
}
