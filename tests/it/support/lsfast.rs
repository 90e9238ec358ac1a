//! The program under test, run as a user runs it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

use super::process::Process;

/// `lsfast` with nothing in its environment but the path to programs: what a test wants it says.
pub fn command<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lsfast"));
    command.env_clear().args(args);
    for name in ["PATH", "HOME", "TMPDIR", "LLVM_PROFILE_FILE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// `lsfast replicate DB URL...` in the background, at log level debug.
pub fn replicate(db: &Path, urls: &[String], env: &[(String, String)]) -> Process {
    let mut command = command([OsStr::new("replicate"), db.as_os_str()]);
    command.args(urls).args(["--log-level", "debug"]).envs(env.iter().cloned());
    Process::start("lsfast replicate", command)
}

/// Runs to its end.
pub fn run(mut command: Command) -> Output {
    command.stdin(std::process::Stdio::null()).output().expect("lsfast starts")
}

/// `lsfast restore -o OUT URL`, which must succeed.
pub fn restore(out: &Path, url: &str, env: &[(String, String)], more: &[&str]) {
    let mut command = command([OsStr::new("restore"), OsStr::new("-o"), out.as_os_str(), OsStr::new(url)]);
    command.args(more).envs(env.iter().cloned());
    let output = run(command);
    assert!(output.status.success(), "lsfast restore ended with {}:\n{}", output.status, stderr(&output));
}

/// Standard error as text.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
