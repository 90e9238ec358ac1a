//! Reports an error to the user as one line.

use std::io::Write as _;
use std::panic::PanicHookInfo;
use std::process::ExitCode;

use crate::base::{limits, untrusted};
use crate::config::ConfigError;
use crate::config::file::FileError;
use crate::restore::RestoreError;
use crate::restore::standby::FollowError;
use crate::view::ViewError;

/// The message of `error` and of its causes, joined by `: ` on one line.
///
/// A cause whose text the line contains already is left out.
#[must_use]
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = untrusted::line(&cause.to_string(), limits::MESSAGE_CHARS);
        if text.is_empty() || line.contains(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(text.trim_end_matches('.'));
    }
    line
}

/// Like [`one_line`], but keeps the lines of an error that lists choices.
pub(super) fn lines(error: &anyhow::Error) -> String {
    let choices = error.chain().find_map(|cause| {
        let by_url = cause.downcast_ref::<ConfigError>().filter(|e| matches!(e, ConfigError::Ambiguous(_)));
        let by_file = cause.downcast_ref::<FileError>().filter(|e| e.ambiguity().is_some());
        by_url.map(ToString::to_string).or_else(|| by_file.map(ToString::to_string))
    });
    choices.unwrap_or_else(|| one_line(error))
}

/// Exit code if the requested state is lost, as for `lsfast verify`.
const LOST: u8 = 4;

/// The exit code for this kind of error.
pub(super) fn exit_code(error: &anyhow::Error) -> ExitCode {
    ExitCode::from(code_of(error))
}

/// The same as a number.
pub(super) fn code_of(error: &anyhow::Error) -> u8 {
    let of_standby = error.downcast_ref::<FollowError>().and_then(|e| match e {
        FollowError::Restore(e) => Some(e),
        _ => None,
    });
    let of_view = error.downcast_ref::<ViewError>().and_then(|e| match e {
        ViewError::Restore(e) => Some(e),
        _ => None,
    });
    match error.downcast_ref::<RestoreError>().or(of_standby).or(of_view) {
        Some(e) if e.is_loss() => LOST,
        _ => 1,
    }
}

/// Writes `error: LINE` to standard error.
pub(super) fn print_error(line: &str) {
    // If standard error is closed, the error cannot be reported.
    _ = writeln!(std::io::stderr().lock(), "error: {}", untrusted::lines(line));
}

/// Whether the reader of the output has closed it (`lsfast restore ... | head`), which is not an
/// error.
pub(super) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<OutputError>().is_some_and(|e| e.0.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// Standard output could not be written.
#[derive(Debug, thiserror::Error)]
#[error("standard output cannot be written: {0}")]
pub(super) struct OutputError(std::io::Error);

/// Writes one line to standard output.
///
/// # Errors
/// [`OutputError`] if it cannot be written.
pub(super) fn print_line(line: &str) -> Result<(), OutputError> {
    print_text(&format!("{line}\n"))
}

/// Writes text, which contains its own line ends, to standard output.
///
/// # Errors
/// [`OutputError`] if it cannot be written.
pub(super) fn print_text(text: &str) -> Result<(), OutputError> {
    let mut out = std::io::stdout().lock();
    out.write_all(untrusted::lines(text).as_bytes()).and_then(|()| out.flush()).map_err(OutputError)
}

/// Writes bytes for another program to standard output, as they are.
///
/// # Errors
/// [`OutputError`] if they cannot be written.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<(), OutputError> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(OutputError)
}

/// Reports a panic as one line in the form of any other error, and lets it unwind.
///
/// A panic means that an assertion on the data path failed. The process does not abort. Unwinding
/// leaves the same state as `kill -9`: no position moves without the store's response, and a
/// restored file has another name until it is verified. A restart continues from there. Aborting
/// would also stop the other databases of the process.
///
/// A pipeline must not die while its locks live on: the application's WAL would then grow without
/// bound, uncopied (I6). The pipeline therefore owns the guard's descriptor, and its unwinding
/// closes it. The task that started a pipeline treats its panic as its end.
pub(super) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| print_error(&panic_line(info))));
}

fn panic_line(info: &PanicHookInfo<'_>) -> String {
    let what = info.payload_as_str().unwrap_or("panic without a message");
    let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
    let place = info.location().map_or_else(String::new, |l| format!(" at {}:{}", l.file(), l.line()));
    format!("internal error, a defect of lsfast {}{place}: {what}", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn causes_are_joined_once() {
        let io = std::io::Error::other("permission denied");
        let e =
            Err::<(), _>(io).context("open a.db: permission denied").context("replicate a.db").unwrap_err();
        assert_eq!(one_line(&e), "replicate a.db: open a.db: permission denied");
        let two = anyhow::anyhow!("first\n  second.").context("top");
        assert_eq!(one_line(&two), "top: first second");
        let hostile = anyhow::anyhow!("X\x1b]0;owned\x07\u{9b}31m\nall is well");
        assert_eq!(one_line(&hostile), "X\\u{1b}]0;owned\\u{7}\\u{9b}31m all is well");
        let endless = anyhow::anyhow!("x".repeat(1 << 20));
        assert_eq!(one_line(&endless).chars().count(), limits::MESSAGE_CHARS);
    }

    #[test]
    fn a_closed_pipe_is_no_error_and_a_full_disk_is() {
        let of = |kind| anyhow::Error::from(OutputError(std::io::Error::from(kind))).context("restore");
        assert!(is_closed_pipe(&of(std::io::ErrorKind::BrokenPipe)));
        assert!(!is_closed_pipe(&of(std::io::ErrorKind::StorageFull)));
        assert!(!is_closed_pipe(&anyhow::Error::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe))));
    }
}
