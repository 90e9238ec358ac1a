use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::draw::draw;
use super::state::{Action, Browser, Key, Level};
use crate::base::clock::Millis;
use crate::base::{self, Txid};
use crate::restore::{Point, PointState};

/// 2026-11-21T22:00:00Z.
const BEGIN: i64 = 1_795_298_400_000;

fn point(txid: u64, after_minutes: i64) -> Point {
    let level = base::Level::new(0).unwrap();
    Point {
        created: Millis(BEGIN + after_minutes * 60_000),
        checksum: None,
        state: PointState::Ltx { txid: Txid(txid), level },
        files: Vec::new(),
        file_count: 1,
        bytes: 1,
    }
}

/// Two states before midnight, four in the first hour after it, and one in the second.
fn browser() -> Browser {
    let minutes = [10, 20, 121, 122, 123, 124, 190];
    let points = (1..).zip(minutes).map(|(txid, minutes)| point(txid, minutes)).collect();
    Browser::new("s3://bucket/app".to_owned(), points, true, TimeZone::UTC)
}

fn screen(browser: &mut Browser) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(60, 8)).unwrap();
    terminal.draw(|frame| draw(frame, browser)).unwrap();
    let buffer = terminal.backend().buffer().clone();
    let line = |y| (0..60).map(|x| buffer[(x, y)].symbol().to_owned()).collect::<String>();
    (0..8).map(|y| line(y).trim_end().to_owned()).collect()
}

#[test]
fn days_hours_and_states_with_their_density() {
    let mut browser = browser();
    let shown = screen(&mut browser);
    assert_eq!(shown[0], "s3://bucket/app");
    assert!(shown[1].starts_with("states of each day; older ones are not shown"), "{shown:?}");
    let bar = |line: &str| line.chars().filter(|c| *c == '█').count();
    assert!(
        shown[2].starts_with(" 2026-11-21 Sat       2 █") && shown[3].contains("2026-11-22 Sun       5 █")
    );
    let (two, five) = (bar(&shown[2]), bar(&shown[3]));
    assert!(five > 30 && (2 * five / 5).abs_diff(two) <= 1, "{two} {five}: {shown:?}");
    assert_eq!((browser.selected, browser.level), (1, Level::Days), "the newest day");
    assert_eq!(browser.key(Key::In), None);
    let shown = screen(&mut browser);
    assert!(shown[1].starts_with("states of each hour of 2026-11-22 Sun"), "{shown:?}");
    assert!(
        shown[2].contains("2026-11-22 00:00 +00:00       4 █") && shown[3].contains("01:00 +00:00       1 █")
    );
    browser.key(Key::Up);
    browser.key(Key::In);
    let shown = screen(&mut browser);
    assert!(shown[2].contains("2026-11-22 00:01:00.000  0000000000000003"), "{shown:?}");
    assert!(shown[7].contains("q quit") && browser.level == Level::States && browser.selected == 3);
    browser.key(Key::In);
    assert_eq!(browser.level, Level::States);
    for (level, selected) in [(Level::Hours, 0), (Level::Days, 1), (Level::Days, 1)] {
        browser.key(Key::Back);
        assert_eq!((browser.level, browser.selected), (level, selected));
    }
}

#[test]
fn keys_lead_to_logs_differences_and_commands() {
    let mut browser = browser();
    let time = |minutes: i64| BEGIN + minutes * 60_000;
    assert_eq!(browser.key(Key::Enter), Some(Action::Log(Millis(time(121)), Millis(time(190) + 1))));
    assert!(screen(&mut browser)[2].starts_with("reading the replica"));
    browser.show("one\ntwo\u{1b}[2J\n3\n4\n5\n6\n7");
    let shown = screen(&mut browser);
    assert_eq!((&shown[1][..], &shown[2][..]), ("log of 2026-11-22 Sun", "one"));
    assert!(
        shown[3].starts_with("two") && !shown[3].contains('\u{1b}'),
        "no sequence of a stranger: {shown:?}"
    );
    browser.key(Key::End);
    assert_eq!(screen(&mut browser)[6], "7");
    browser.key(Key::Down);
    assert_eq!(screen(&mut browser)[6], "7");
    assert_eq!((browser.key(Key::Back), browser.page.is_none(), browser.level), (None, true, Level::Days));
    // What comes too late is not shown.
    browser.show("late");
    assert!(browser.page.is_none());
    assert_eq!(browser.key(Key::Diff), Some(Action::Diff(Txid(2), Txid(7))));
    browser.key(Key::Back);
    browser.key(Key::Home);
    assert_eq!(browser.key(Key::Diff), Some(Action::Diff(Txid(1), Txid(2))), "before it there is none");
    browser.key(Key::Back);
    let level = base::Level::new(0).unwrap();
    assert_eq!(browser.key(Key::Restore), Some(Action::Restore(PointState::Ltx { txid: Txid(2), level })));
    assert_eq!(browser.key(Key::Quit), Some(Action::Quit));
}

#[test]
fn a_terminal_of_any_size_is_drawn() {
    let mut browser = browser();
    for (width, height) in [(1, 1), (3, 2), (10, 3), (200, 60)] {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        for key in [Key::In, Key::PageDown, Key::Enter, Key::PageUp, Key::Back, Key::Back] {
            browser.key(key);
            terminal.draw(|frame| draw(frame, &mut browser)).unwrap();
        }
    }
}
