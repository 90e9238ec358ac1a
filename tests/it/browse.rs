//! `lsfast points` on a terminal, which the program `script` provides.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::support::case::Case;
use crate::support::{lsfast, process, sqlite};

/// What the terminal gets back at its end: its first screen.
const FIRST_SCREEN: &str = "\u{1b}[?1049l";

/// The browser on a terminal of 24 lines.
struct Terminal {
    child: Child,
    keys: ChildStdin,
    seen: Arc<Mutex<String>>,
}

impl Terminal {
    fn start(url: &str) -> Terminal {
        let program = env!("CARGO_BIN_EXE_lsfast");
        let line = format!("stty rows 24 cols 120; echo PID=$$.; exec '{program}' points '{url}'");
        let mut command = Command::new("script");
        command
            .args(["-qec", &line, "/dev/null"])
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .env("TZ", "UTC");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("script starts");
        let (keys, mut out) = (child.stdin.take().expect("keys"), child.stdout.take().expect("a screen"));
        let seen: Arc<Mutex<String>> = Arc::default();
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = out.read(&mut bytes) {
                shared.lock().expect("no panic").push_str(&String::from_utf8_lossy(&bytes[..n]));
            }
        });
        Terminal { child, keys, seen }
    }

    fn seen(&self) -> String {
        self.seen.lock().expect("no panic").clone()
    }

    fn wait_for(&self, text: &str) -> String {
        process::until(&format!("{text:?} on the terminal"), || {
            Some(self.seen()).filter(|s| s.contains(text))
        })
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).and_then(|()| self.keys.flush()).expect("keys");
    }

    /// Waits for the end. True if it was a success.
    fn ended(&mut self) -> bool {
        process::until("the end", || self.child.try_wait().expect("a child")).success()
    }
}

fn replica(case: &Case) -> String {
    let path = case.path("app.db");
    let db = sqlite::create(&path, 4096);
    for n in 0..2 {
        db.execute("INSERT INTO items VALUES (?1, 'one', NULL)", [n]).expect("a row");
        let mut command = lsfast::command(["replicate", "--once"]);
        command.arg(&path).arg(case.place.url("replica"));
        assert!(lsfast::run(command).status.success());
    }
    case.place.url("replica")
}

#[test]
fn points_are_browsed_on_a_terminal_which_is_given_back() {
    if !Path::new("/usr/bin/script").exists() {
        println!("skipped: there is no program script");
        return;
    }
    let case = Case::new();
    let url = replica(&case);
    let mut terminal = Terminal::start(&url);
    // Only cells that change are written, so single words are waited for.
    terminal.wait_for("each");
    terminal.press("l");
    terminal.wait_for("hour");
    terminal.press("\r");
    terminal.wait_for("inserted");
    terminal.press("\u{7f}d");
    terminal.wait_for("name='one'");
    terminal.press("\u{7f}r");
    let all = terminal.wait_for("lsfast restore -o restored.db --txid 0000000000000002 file://");
    assert!(terminal.ended() && all.contains(FIRST_SCREEN), "{all}");

    let mut terminal = Terminal::start(&url);
    let all = terminal.wait_for("each");
    let pid = all.split_once("PID=").and_then(|(_, rest)| rest.split_once('.')).expect("a process").0;
    assert!(!all.contains(FIRST_SCREEN));
    assert!(Command::new("kill").args(["-TERM", pid]).status().expect("kill starts").success());
    let all = terminal.wait_for("ended by SIGTERM");
    assert!(!terminal.ended() && all.contains(FIRST_SCREEN), "{all}");

    // Without a terminal, and where it is asked for, the table.
    let table = lsfast::run(lsfast::command(["points", &url]));
    let table = String::from_utf8(table.stdout).expect("text");
    assert!(table.starts_with("time ") && table.contains("0000000000000002"), "{table}");
}
