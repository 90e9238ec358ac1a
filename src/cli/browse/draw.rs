//! Draws the browser.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::state::{Browser, Level};
use crate::base::untrusted;

/// Eighths of a cell, for the end of a bar.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/// Draws the whole terminal. Also notes how many lines fit.
pub(super) fn draw(frame: &mut Frame<'_>, browser: &mut Browser) {
    let areas = Layout::vertical([Constraint::Length(2), Constraint::Min(1), Constraint::Length(1)]);
    let [head, body, foot] = areas.areas(frame.area());
    browser.height = usize::from(body.height).max(1);
    let (title, lines, keys) = if browser.page.is_some() { page(browser) } else { list(browser, body.width) };
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let url = Line::styled(untrusted::escape(&browser.url), bold);
    frame.render_widget(Paragraph::new(vec![url, Line::raw(title)]), head);
    frame.render_widget(Paragraph::new(lines), body);
    frame.render_widget(Paragraph::new(Line::styled(keys, Style::new().add_modifier(Modifier::DIM))), foot);
}

/// Title, lines and keys.
type Shown = (String, Vec<Line<'static>>, &'static str);

fn list(browser: &Browser, width: u16) -> Shown {
    let what = match browser.level {
        Level::Days => "states of each day",
        Level::Hours => "states of each hour of",
        Level::States => "states of",
    };
    let older = if browser.more { "; older ones are not shown, --limit N shows more" } else { "" };
    let title = format!("{what} {}{older}", browser.path()).replace(" ;", ";");
    let most = browser.most();
    let labels = browser.groups.iter().map(|g| g.label.chars().count()).max().unwrap_or(0);
    let room = usize::from(width).saturating_sub(labels + 11);
    // The selected line is in the middle where it can be.
    let last_top = browser.groups.len().saturating_sub(browser.height);
    let top = browser.selected.saturating_sub(browser.height / 2).min(last_top);
    let shown = browser.groups.iter().enumerate().skip(top).take(browser.height);
    let lines = shown.map(|(at, group)| {
        let text = match browser.level {
            Level::States => format!(" {}", group.label),
            _ => format!(" {:labels$} {:>7} {}", group.label, group.count, bar(group.count, most, room)),
        };
        let style =
            if at == browser.selected { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
        Line::styled(text, style)
    });
    let keys = " q quit  Enter log  d difference  r restore command  Right/Left in and out";
    (title.trim_end().to_owned(), lines.collect(), keys)
}

fn page(browser: &Browser) -> Shown {
    let Some(page) = &browser.page else { return (String::new(), Vec::new(), "") };
    let lines = if page.waits {
        vec![Line::raw("reading the replica ...")]
    } else {
        let shown = page.lines.iter().skip(page.top).take(browser.height);
        shown.map(|line| Line::raw(untrusted::escape(line).into_owned())).collect()
    };
    (page.title.clone(), lines, " q quit  Up/Down scroll  Left back")
}

/// A bar of up to `room` cells; at least a little for what is there.
fn bar(count: usize, most: usize, room: usize) -> String {
    let eighths = (count * room * 8).checked_div(most).unwrap_or(0).max(usize::from(count > 0 && room > 0));
    "█".repeat(eighths / 8) + EIGHTHS[eighths % 8]
}
