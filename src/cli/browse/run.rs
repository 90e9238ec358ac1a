//! The terminal of the browser.
//!
//! Logs and differences are read on threads of their own, so that keys and signals count meanwhile.
//! Such a thread ends with the process. The terminal is given back at the end, after an error, a
//! signal and a panic.

use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use anyhow::Context as _;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::draw::draw;
use super::state::{Action, Browser, Key};
use crate::cli::changes::{DiffArgs, LogArgs, diff_text, log_text};
use crate::cli::report;
use crate::cli::setup::Setup;
use crate::cli::zone;
use crate::restore::{Point, PointState};
use crate::view::At;

/// Time for which a key is waited for before signals and threads are looked at.
const TICK: Duration = Duration::from_millis(50);

/// Steps of one log, and rows of one table of a difference. A pager shows no more at a time.
const STEPS: usize = 500;
const ROWS: usize = 50;

/// Shows the states until the user quits. `argument` is what the user named, `url` the replica that
/// was found.
pub(in crate::cli) fn run(
    setup: &Setup,
    event_loop: &Runtime,
    (argument, url): (&str, &str),
    points: Vec<Point>,
    more: bool,
) -> anyhow::Result<()> {
    let zone = zone::local().map_err(anyhow::Error::msg)?;
    let mut browser = Browser::new(url.to_owned(), points, more, zone);
    let mut signals = Signals::new(event_loop)?;
    // Also has a panic give the terminal back before its message.
    let mut terminal = ratatui::try_init().context("the terminal cannot be used: --plain prints a table")?;
    let ended = browse(&mut terminal, &mut browser, &mut signals, event_loop, (setup, argument));
    ratatui::try_restore().context("the terminal cannot be given back: reset does that")?;
    if let Some(state) = ended? {
        report::print_line(&command(state, url))?;
    }
    Ok(())
}

/// Returns the state whose restore is wanted.
fn browse(
    terminal: &mut DefaultTerminal,
    browser: &mut Browser,
    signals: &mut Signals,
    event_loop: &Runtime,
    (setup, argument): (&Setup, &str),
) -> anyhow::Result<Option<PointState>> {
    let mut reading: Option<Receiver<String>> = None;
    let mut changed = true;
    loop {
        if changed {
            terminal.draw(|frame| draw(frame, browser)).context("the terminal cannot be written to")?;
        }
        let named = event_loop.block_on(signals.ended());
        if let Some(name) = named {
            anyhow::bail!("ended by {name}");
        }
        let read = reading.as_ref().map(Receiver::try_recv);
        changed = matches!(read, Some(Ok(_) | Err(TryRecvError::Disconnected)));
        match read {
            Some(Ok(text)) => browser.show(&text),
            Some(Err(TryRecvError::Disconnected)) => browser.show("the replica could not be read"),
            Some(Err(TryRecvError::Empty)) | None => {}
        }
        if changed {
            reading = None;
            continue;
        }
        if !event::poll(TICK).context("the terminal cannot be read")? {
            continue;
        }
        changed = true;
        let Event::Key(pressed) = event::read().context("the terminal cannot be read")? else { continue };
        match key(pressed).and_then(|key| browser.key(key)) {
            Some(Action::Quit) => return Ok(None),
            Some(Action::Restore(state)) => return Ok(Some(state)),
            Some(action) => reading = Some(read_aside(setup.clone(), argument.to_owned(), action)),
            None => {}
        }
    }
}

/// Reads what `lsfast log` or `lsfast diff` would print.
fn read_aside(mut setup: Setup, url: String, action: Action) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let text = match action {
            Action::Log(since, until) => {
                let (since, until) = (Some(since), Some(until));
                let args = LogArgs { url, since, until, table: None, number: STEPS, json: false };
                log_text(&mut setup, &args)
            }
            Action::Diff(from, to) => {
                let (from, to) = (At::Txid(from), Some(At::Txid(to)));
                let none = DiffArgs {
                    url,
                    from,
                    to,
                    table: None,
                    only: None,
                    number: ROWS,
                    json: false,
                    sql: false,
                    undo: false,
                };
                diff_text(&mut setup, &none)
            }
            Action::Restore(_) | Action::Quit => Ok(String::new()),
        };
        // Without a receiver the browser has ended.
        let _ = sender.send(text.unwrap_or_else(|e| format!("error: {}", crate::cli::one_line(&e))));
    });
    receiver
}

/// The command that restores a state.
fn command(state: PointState, url: &str) -> String {
    let state = match state {
        PointState::Ltx { txid, .. } => format!("--txid {txid}"),
        PointState::Legacy(s) => format!("--generation {} --index {}", s.generation, s.index),
    };
    format!("lsfast restore -o restored.db {state} {}", shell_words::quote(url))
}

fn key(pressed: KeyEvent) -> Option<Key> {
    if pressed.kind == KeyEventKind::Release {
        return None;
    }
    if pressed.modifiers.contains(KeyModifiers::CONTROL) {
        return matches!(pressed.code, KeyCode::Char('c' | 'd')).then_some(Key::Quit);
    }
    Some(match pressed.code {
        KeyCode::Up | KeyCode::Char('k') => Key::Up,
        KeyCode::Down | KeyCode::Char('j') => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown | KeyCode::Char(' ') => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Right | KeyCode::Char('l') => Key::In,
        KeyCode::Left | KeyCode::Char('h') | KeyCode::Esc | KeyCode::Backspace => Key::Back,
        KeyCode::Enter => Key::Enter,
        KeyCode::Char('d') => Key::Diff,
        KeyCode::Char('r') => Key::Restore,
        KeyCode::Char('q') => Key::Quit,
        _ => return None,
    })
}

/// The signals that end the browser.
struct Signals([(Signal, &'static str); 3]);

impl Signals {
    fn new(event_loop: &Runtime) -> anyhow::Result<Signals> {
        let _inside = event_loop.enter();
        let caught = |kind| signal(kind).context("signals cannot be caught");
        Ok(Signals([
            (caught(SignalKind::interrupt())?, "SIGINT"),
            (caught(SignalKind::terminate())?, "SIGTERM"),
            (caught(SignalKind::hangup())?, "SIGHUP"),
        ]))
    }

    /// The signal that has arrived, without waiting for one.
    async fn ended(&mut self) -> Option<&'static str> {
        // Lets the runtime see what has arrived.
        tokio::time::sleep(Duration::from_millis(1)).await;
        for (signal, name) in &mut self.0 {
            let arrived = std::future::poll_fn(|cx| match signal.poll_recv(cx) {
                std::task::Poll::Ready(got) => std::task::Poll::Ready(got.is_some()),
                std::task::Poll::Pending => std::task::Poll::Ready(false),
            });
            if arrived.await {
                return Some(*name);
            }
        }
        None
    }
}
