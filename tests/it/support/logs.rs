//! What a test writes to the log.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

/// Lines of this thread, from its making to its end. For tests on a current-thread runtime.
pub struct Logs {
    lines: Arc<Mutex<Vec<(Level, String)>>>,
    _guard: DefaultGuard,
}

struct Capture(Arc<Mutex<Vec<(Level, String)>>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}

impl<S: Subscriber> Layer<S> for Capture {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text(format!("{} ", event.metadata().target()));
        event.record(&mut text);
        let line = (*event.metadata().level(), text.0);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

impl Logs {
    pub fn capture() -> Logs {
        let lines = Arc::default();
        let subscriber = tracing_subscriber::registry().with(Capture(Arc::clone(&lines)));
        Logs { lines, _guard: tracing::subscriber::set_default(subscriber) }
    }

    /// Lines of lsfast, with their level.
    pub fn own(&self) -> Vec<(Level, String)> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().filter(|(_, l)| l.starts_with("lsfast")).cloned().collect()
    }

    /// Everything, those of libraries too.
    pub fn all(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(|(level, line)| format!("{level} {line}\n")).collect()
    }
}
