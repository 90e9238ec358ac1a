//! Shows how far something is that takes longer: a bar on a terminal, otherwise a log line a
//! minute.

use std::convert::Infallible;
use std::io::{self, IsTerminal as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// What takes less time than this is not shown.
const SHOWN_AFTER: Duration = Duration::from_secs(2);

/// Time between two log lines where standard error is not a terminal.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// Time between two looks.
const TICK: Duration = Duration::from_millis(200);

/// The bar on the terminal. Log lines go above it.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Writes to standard error without being overwritten by the bar.
pub(super) fn beside<T>(write: impl FnOnce() -> T) -> T {
    let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Removes the bar when the work has ended, in whatever way.
struct Shown;

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = BAR.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }
}

/// How far something is.
#[derive(Debug)]
pub(super) enum Look {
    /// Bytes that are done, and those of all; 0 for all if that is not known.
    Bytes { what: &'static str, done: u64, of: u64 },
    /// Time that has passed, and the whole time, of something whose length is known.
    Time { what: String, done: Duration, of: Duration },
}

/// Does `work` while `shown`, which never ends, shows how far it is.
pub(super) async fn while_shown<T>(
    work: impl Future<Output = T>,
    shown: impl Future<Output = Infallible>,
) -> T {
    tokio::select! {
        biased;
        done = work => done,
        never = shown => match never {},
    }
}

/// Shows `what` each time that `begun` returns, as long as `read` returns the bytes that are done
/// and those of all. 0 for all if that is not known.
pub(super) async fn show<F: Future<Output = ()>>(
    what: &'static str,
    begun: impl Fn() -> F,
    read: impl Fn() -> Option<(u64, u64)>,
) -> Infallible {
    show_looks(begun, || read().map(|(done, of)| Look::Bytes { what, done, of })).await
}

/// Shows what `look` returns each time that `begun` returns, as long as it returns something.
pub(super) async fn show_looks<F: Future<Output = ()>>(
    begun: impl Fn() -> F,
    look: impl Fn() -> Option<Look>,
) -> Infallible {
    let terminal = io::stderr().is_terminal();
    loop {
        begun().await;
        let (start, mut line) = (Instant::now(), Instant::now());
        let _shown = Shown;
        while let Some(look) = look() {
            if terminal && start.elapsed() >= SHOWN_AFTER {
                draw(&look);
            } else if !terminal && line.elapsed() >= LINE_EVERY {
                line = Instant::now();
                log(&look, start.elapsed());
            }
            tokio::time::sleep(TICK).await;
        }
    }
}

fn log(look: &Look, elapsed: Duration) {
    match look {
        Look::Bytes { what, done, of } => {
            let rate = *done as f64 / elapsed.as_secs_f64();
            let left = (of > done && rate > 0.0).then(|| ((of - done) as f64 / rate) as u64);
            tracing::info!(
                what,
                bytes = done,
                of,
                megabytes_per_second = (rate / 1e6) as u64,
                seconds_left = left,
                "still at it"
            );
        }
        Look::Time { what, done, of } => {
            tracing::info!(what, seconds_left = of.saturating_sub(*done).as_secs(), "still at it");
        }
    }
}

fn draw(look: &Look) {
    let (what, done, of, form) = match look {
        Look::Bytes { what, done, of: 0 } => {
            ((*what).to_owned(), *done, 0, "{spinner} {msg}: {bytes}  {bytes_per_sec}  {elapsed}")
        }
        Look::Bytes { what, done, of } => {
            let form = "{msg}: {wide_bar} {percent}%  {bytes} of {total_bytes}  {bytes_per_sec}  {eta} left";
            ((*what).to_owned(), *done, *of, form)
        }
        Look::Time { what, done, of } => {
            let ms = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            (what.clone(), ms(done), ms(of), "{msg}: {wide_bar} {percent}%  {eta} left")
        }
    };
    let mut bar = BAR.lock().unwrap_or_else(PoisonError::into_inner);
    let bar = bar.get_or_insert_with(|| {
        let bar = ProgressBar::new(of);
        match ProgressStyle::with_template(form) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    });
    bar.set_message(what);
    bar.set_length(of);
    bar.set_position(done);
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Without a terminal nothing is drawn, and the next work is waited for.
    #[tokio::test]
    async fn each_work_is_followed_to_its_end() {
        let (begun, looks, ended) = (Cell::new(0), Cell::new(0), tokio::sync::Notify::new());
        let shown = show(
            "counting",
            || {
                begun.set(begun.get() + 1);
                let more = begun.get() <= 2;
                if !more {
                    ended.notify_one();
                }
                async move {
                    if !more {
                        std::future::pending::<()>().await;
                    }
                }
            },
            || {
                looks.set(looks.get() + 1);
                (looks.get() % 2 != 0).then_some((looks.get(), 0))
            },
        );
        tokio::select! {
            never = shown => match never {},
            () = ended.notified() => {}
        }
        assert_eq!((begun.get(), looks.get()), (3, 4));
        assert!(BAR.lock().unwrap().is_none());
        assert_eq!(beside(|| 7), 7);
    }
}
