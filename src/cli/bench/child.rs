//! The writer as a child process.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

use anyhow::Context as _;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::load::Load;
use super::writer::{Event, Turn};

/// This program's own binary, even if its file has been replaced.
const SELF: &str = "/proc/self/exe";

/// The process. On drop it is killed and waited for.
pub(super) struct Child {
    process: std::process::Child,
    turns: Option<ChildStdin>,
    events: UnboundedReceiver<Event>,
}

impl Child {
    /// Starts the writer for the databases in `folder`.
    pub(super) fn start(folder: &Path, load: &Load) -> anyhow::Result<Child> {
        let mut command = Command::new(SELF);
        command.arg("bench").arg("--writer").arg(folder).args(load.flags());
        // Ctrl-C goes only to this process, which then ends the writer.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().context("the writer cannot be started")?;
        let turns = process.stdin.take();
        let told = BufReader::new(process.stdout.take().context("the writer has no output")?);
        let (send, events) = unbounded_channel();
        // The thread ends with the output of the process.
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

    /// Sends a turn to the writer.
    pub(super) fn take(&mut self, turn: Turn) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(&turn)?;
        line.push('\n');
        let turns = self.turns.as_mut().context("the writer has ended")?;
        turns.write_all(line.as_bytes()).context("the writer accepts no further turns")
    }

    /// The writer's next event; an error if it gave up or has exited.
    pub(super) async fn event(&mut self) -> anyhow::Result<Event> {
        match self.events.recv().await {
            Some(Event::Failed(why)) => Err(anyhow::anyhow!(why)),
            Some(event) => Ok(event),
            None => Err(anyhow::anyhow!("the writer, a process of its own, has ended before its time")),
        }
    }

    /// Ends the writer in an orderly way: it closes its connections.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        drop(self.turns.take());
        let status = self.process.wait().context("the writer cannot be waited for")?;
        anyhow::ensure!(status.success(), "the writer ended with {status}");
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Fails harmlessly if the process has ended.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
