//! A program and what it has started, as `/proc` lists them.

use std::collections::BTreeSet;
use std::path::Path;

use super::{read_small, sys};

/// Bytes of `/proc/PID/stat` at most. A longer one counts as missing.
const STAT_BYTES: u64 = 4096;

/// Rounds of stopping processes. Each one finds what was started before the round before it, so
/// more are needed only for a program that starts processes as fast as they are stopped.
const ROUNDS: usize = 16;

/// A process, as `/proc/PID/stat` says.
struct Process {
    id: u32,
    parent: u32,
    session: u32,
}

/// Kills `root` (SIGKILL) and its descendants in the same session. A process that has begun a
/// session of its own is meant to outlive its parent, and so is one whose parent has ended.
///
/// `root` must not have been waited for.
pub(super) fn kill(root: u32) {
    // Stopped processes start no others, so the set becomes complete.
    let mut stopped = BTreeSet::new();
    for _ in 0..ROUNDS {
        let found = descendants(root);
        let before = stopped.len();
        for id in found {
            if stopped.insert(id) {
                let _ = sys::kill(id, libc::SIGSTOP);
            }
        }
        if stopped.len() == before {
            break;
        }
    }
    // The root is the last: until then, no other process takes its children over.
    for id in stopped.into_iter().filter(|id| *id != root).chain([root]) {
        let _ = sys::kill(id, libc::SIGKILL);
    }
}

/// `root` and its descendants in its session.
fn descendants(root: u32) -> BTreeSet<u32> {
    let all = processes();
    let mut found = BTreeSet::from([root]);
    let Some(session) = all.iter().find(|p| p.id == root).map(|p| p.session) else { return found };
    loop {
        let before = found.len();
        let children = all.iter().filter(|p| p.session == session && found.contains(&p.parent));
        let children: Vec<u32> = children.map(|p| p.id).collect();
        found.extend(children);
        if found.len() == before {
            return found;
        }
    }
}

/// All processes that can be seen.
fn processes() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let ids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let stat = |id| read_small(Path::new(&format!("/proc/{id}/stat")), STAT_BYTES).ok();
    ids.filter_map(|id| parse(id, &String::from_utf8_lossy(&stat(id)?))).collect()
}

/// The name of the program, which may hold anything, is in parentheses before these fields.
fn parse(id: u32, stat: &str) -> Option<Process> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let _state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let _group = fields.next()?;
    Some(Process { id, parent, session: fields.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_children_of_a_program_are_killed_with_it() {
        let script = "trap '' TERM; (trap '' TERM; sleep 1000; :) & echo $!; wait";
        let mut program =
            Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().expect("a shell");
        let mut line = String::new();
        BufReader::new(program.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        let child: u32 = line.trim().parse().expect("a process id");
        let sleep = || descendants(program.id()).into_iter().find(|id| ![child, program.id()].contains(id));
        let sleep = loop {
            if let Some(sleep) = sleep() {
                break sleep;
            }
        };
        kill(program.id());
        assert_eq!(program.wait().expect("a child").signal(), Some(libc::SIGKILL));
        let lives = |id: u32| {
            let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            // Where nothing waits for it, it stays as a zombie.
            !(stat.is_empty() || stat.contains(") Z "))
        };
        while lives(child) || lives(sleep) {
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_name_of_a_program_may_look_like_fields() {
        let process = parse(7, "7 (a) S 1 1 1) R 5 6 4 0 -1").unwrap();
        assert_eq!((process.parent, process.session), (5, 4));
        assert!(parse(7, "7 (cut) S 1").is_none());
    }
}
