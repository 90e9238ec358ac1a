//! The writer as a child process.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

use anyhow::Context as _;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::load::Load;
use super::writer::{Event, Turn};

/// This very program, also if its file was replaced meanwhile.
const SELF: &str = "/proc/self/exe";

/// The process. Dropped, it is ended and waited for.
pub(super) struct Child {
    process: std::process::Child,
    turns: Option<ChildStdin>,
    events: UnboundedReceiver<Event>,
}

impl Child {
    /// Starts it for the databases in `folder`.
    pub(super) fn start(folder: &Path, load: &Load) -> anyhow::Result<Child> {
        let mut command = Command::new(SELF);
        command.arg("bench").arg("--writer").arg(folder).args(load.flags());
        // Ctrl-C is for this process, which then ends the other.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().context("the writer cannot be started")?;
        let turns = process.stdin.take();
        let told = BufReader::new(process.stdout.take().context("the writer has no output")?);
        let (send, events) = unbounded_channel();
        // Ends with the output of the process.
        std::thread::spawn(move || {
            for line in told.lines() {
                let Some(event) = line.ok().and_then(|line| serde_json::from_str(&line).ok()) else { break };
                if send.send(event).is_err() {
                    break;
                }
            }
        });
        Ok(Child { process, turns, events })
    }

    /// Gives it a turn.
    pub(super) fn take(&mut self, turn: Turn) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(&turn)?;
        line.push('\n');
        let turns = self.turns.as_mut().context("the writer has ended")?;
        turns.write_all(line.as_bytes()).context("the writer accepts no further turns")
    }

    /// What it tells next; an error if it had to give up or is gone.
    pub(super) async fn event(&mut self) -> anyhow::Result<Event> {
        match self.events.recv().await {
            Some(Event::Failed(why)) => Err(anyhow::anyhow!(why)),
            Some(event) => Ok(event),
            None => Err(anyhow::anyhow!("the writer, a process of its own, has ended before its time")),
        }
    }

    /// Lets it end: it closes its connections.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        drop(self.turns.take());
        let status = self.process.wait().context("the writer cannot be waited for")?;
        anyhow::ensure!(status.success(), "the writer ended with {status}");
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Nothing to do where it has ended.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
