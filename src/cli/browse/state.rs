//! What the browser shows, and what a key does.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::base::Txid;
use crate::base::clock::Millis;
use crate::restore::{Point, PointState};

/// A key, as far as the browser knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    /// One level further in.
    In,
    /// One level out, or back to the list.
    Back,
    Enter,
    Diff,
    Restore,
    Quit,
}

/// What the browser cannot do by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// To show the log of a stretch: from its first time up to its last one.
    Log(Millis, Millis),
    /// To show what differs between two states.
    Diff(Txid, Txid),
    /// To end, and to print the command that restores this state.
    Restore(PointState),
    Quit,
}

/// How finely the states are grouped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Days,
    Hours,
    States,
}

/// States that are shown as one line: a range of all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) label: String,
    pub(super) first: usize,
    pub(super) count: usize,
}

/// Text over the list, such as a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) title: String,
    pub(super) lines: Vec<String>,
    /// The first line that is shown.
    pub(super) top: usize,
    /// Whether the text is still being read.
    pub(super) waits: bool,
}

/// The browser without its terminal.
#[derive(Debug)]
pub(super) struct Browser {
    pub(super) url: String,
    /// Oldest first.
    points: Vec<Point>,
    /// Whether there are older ones.
    pub(super) more: bool,
    zone: TimeZone,
    /// The levels above the present one, with the selected line of each.
    above: Vec<(Level, Vec<Group>, usize)>,
    pub(super) level: Level,
    pub(super) groups: Vec<Group>,
    pub(super) selected: usize,
    pub(super) page: Option<Page>,
    /// Lines of the list that fit on the terminal.
    pub(super) height: usize,
}

impl Browser {
    /// Begins with the days, at the newest one. `points` has at least one state.
    pub(super) fn new(url: String, points: Vec<Point>, more: bool, zone: TimeZone) -> Browser {
        let mut browser = Browser {
            url,
            more,
            zone,
            above: Vec::new(),
            level: Level::Days,
            groups: Vec::new(),
            selected: 0,
            page: None,
            height: 1,
            points,
        };
        browser.groups = browser.grouped(Level::Days, 0, browser.points.len());
        browser.selected = browser.groups.len().saturating_sub(1);
        browser
    }

    /// The time of a state in the local time zone.
    fn local(&self, at: usize, form: &str) -> String {
        let time = self.points.get(at).map_or(0, |p| p.created.0);
        let time = Timestamp::from_millisecond(time).unwrap_or_default();
        time.to_zoned(self.zone.clone()).strftime(form).to_string()
    }

    fn label(&self, level: Level, at: usize) -> String {
        match level {
            Level::Days => self.local(at, "%Y-%m-%d %a"),
            Level::Hours => self.local(at, "%Y-%m-%d %H:00 %:z"),
            Level::States => {
                let time = self.local(at, "%Y-%m-%d %H:%M:%S%.3f");
                match self.points.get(at).map(|p| p.state) {
                    Some(PointState::Ltx { txid, .. }) => format!("{time}  {txid}"),
                    Some(PointState::Legacy(s)) => format!("{time}  {}/{}", s.generation, s.index),
                    None => time,
                }
            }
        }
    }

    /// Groups the states of a range: those that follow each other and have the same label.
    fn grouped(&self, level: Level, first: usize, count: usize) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for at in first..first + count {
            let label = self.label(level, at);
            match groups.last_mut() {
                Some(group) if group.label == label && level != Level::States => group.count += 1,
                _ => groups.push(Group { label, first: at, count: 1 }),
            }
        }
        groups
    }

    /// The largest number of states in a line.
    pub(super) fn most(&self) -> usize {
        self.groups.iter().map(|group| group.count).max().unwrap_or(1)
    }

    /// What the present list is a part of.
    pub(super) fn path(&self) -> String {
        let of = |(_, groups, at): &(Level, Vec<Group>, usize)| groups[*at].label.clone();
        self.above.last().map_or_else(String::new, of)
    }

    /// Takes text that was read, unless the user no longer waits for it.
    pub(super) fn show(&mut self, text: &str) {
        if let Some(page) = self.page.as_mut().filter(|page| page.waits) {
            page.lines = text.lines().map(str::to_owned).collect();
            page.waits = false;
        }
    }

    /// Does what a key means.
    pub(super) fn key(&mut self, key: Key) -> Option<Action> {
        if key == Key::Quit {
            return Some(Action::Quit);
        }
        match &mut self.page {
            Some(_) if key == Key::Back => self.page = None,
            Some(page) => {
                let last = page.lines.len().saturating_sub(self.height);
                page.top = moved(page.top, last, self.height, key);
            }
            None => return self.list_key(key),
        }
        None
    }

    fn list_key(&mut self, key: Key) -> Option<Action> {
        let group = self.groups.get(self.selected)?.clone();
        match key {
            Key::In => {
                let finer = match self.level {
                    Level::Days => Level::Hours,
                    Level::Hours | Level::States => Level::States,
                };
                if self.level != Level::States {
                    let inner = self.grouped(finer, group.first, group.count);
                    let outer = std::mem::replace(&mut self.groups, inner);
                    self.above.push((self.level, outer, self.selected));
                    self.level = finer;
                    self.selected = self.groups.len().saturating_sub(1);
                }
            }
            Key::Back => {
                if let Some((level, groups, selected)) = self.above.pop() {
                    (self.level, self.groups, self.selected) = (level, groups, selected);
                }
            }
            Key::Enter => {
                let time = |at: usize| self.points.get(at).map(|p| p.created);
                let (first, last) = (time(group.first)?, time(group.first + group.count - 1)?);
                self.open(format!("log of {}", group.label));
                return Some(Action::Log(first, Millis(last.0 + 1)));
            }
            Key::Diff => {
                let txid = |at: usize| match self.points.get(at)?.state {
                    PointState::Ltx { txid, .. } => Some(txid),
                    PointState::Legacy(_) => None,
                };
                // The state before the first one, or the first one itself.
                let from = txid(group.first.saturating_sub(1));
                let to = txid(group.first + group.count - 1);
                self.open(format!("difference of {}", group.label));
                if let (Some(from), Some(to)) = (from, to) {
                    return Some(Action::Diff(from, to));
                }
                self.show(
                    "states of Litestream 0.3 cannot be compared: restore them and compare the databases",
                );
            }
            Key::Restore => {
                return Some(Action::Restore(self.points.get(group.first + group.count - 1)?.state));
            }
            key => {
                self.selected = moved(self.selected, self.groups.len().saturating_sub(1), self.height, key);
            }
        }
        None
    }

    fn open(&mut self, title: String) {
        self.page = Some(Page { title, lines: Vec::new(), top: 0, waits: true });
    }
}

/// A position after a key that moves it, at most `last`.
fn moved(at: usize, last: usize, height: usize, key: Key) -> usize {
    let to = match key {
        Key::Up => at.saturating_sub(1),
        Key::Down => at + 1,
        Key::PageUp => at.saturating_sub(height),
        Key::PageDown => at + height,
        Key::Home => 0,
        Key::End => last,
        _ => at,
    };
    to.min(last)
}
