//! The real Litestream 0.5.17, run beside lsfast.

use std::path::Path;
use std::process::Command;

use super::place::Place;
use super::process::Process;
use super::{lsfast, peers};

fn command(env: &[(String, String)]) -> Command {
    let mut command = Command::new(peers::litestream());
    command.env_clear().envs(env.iter().cloned());
    command
}

/// Writes a configuration for one database and one replica, with compaction at every second.
fn config(dir: &Path, db: &Path, place: &Place, prefix: &str) -> std::path::PathBuf {
    let replica = place.litestream_yaml(prefix).replace('\n', "\n      ");
    let text = format!(
        "logging:\n  level: debug\nlevels:\n  - interval: 1s\n  - interval: 2s\nsnapshot:\n  interval: 24h\n  \
         retention: 24h\ndbs:\n  - path: {}\n    monitor-interval: 50ms\n    replica:\n      {replica}\n      \
         sync-interval: 50ms\n",
        db.display()
    );
    let path = dir.join("litestream.yml");
    std::fs::write(&path, text).expect("a configuration");
    path
}

/// One sync of `db` to its replica, to the end.
pub fn replicate_once(dir: &Path, db: &Path, place: &Place, prefix: &str, more: &[&str]) {
    let mut command = command(&place.env());
    command.args(["replicate", "-once"]).args(more).arg("-config").arg(config(dir, db, place, prefix));
    let output = command.output().expect("litestream starts");
    assert!(output.status.success(), "litestream replicate -once:\n{}", lsfast::stderr(&output));
}

/// `litestream replicate` in the background.
pub fn replicate(dir: &Path, db: &Path, place: &Place, prefix: &str) -> Process {
    let mut command = command(&place.env());
    command.arg("replicate").arg("-config").arg(config(dir, db, place, prefix));
    Process::start("litestream replicate", command)
}

/// `litestream restore`, which must succeed; the newest state, or that of a TXID.
pub fn restore(dir: &Path, db: &Path, out: &Path, place: &Place, prefix: &str, txid: Option<u64>) {
    let txid = txid.map(|txid| format!("{txid:016x}"));
    let more: Vec<&str> = txid.iter().flat_map(|txid| ["-txid", txid]).collect();
    restore_with(dir, db, out, place, prefix, &more);
}

/// The same with other arguments.
pub fn restore_with(dir: &Path, db: &Path, out: &Path, place: &Place, prefix: &str, more: &[&str]) {
    let mut command = command(&place.env());
    command.arg("restore").arg("-config").arg(config(dir, db, place, prefix));
    let output = command.args(more).arg("-o").arg(out).arg(db).output().expect("litestream starts");
    assert!(
        output.status.success(),
        "litestream restore {more:?}:\n{}{}",
        lsfast::stderr(&output),
        String::from_utf8_lossy(&output.stdout)
    );
}
