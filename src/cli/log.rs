//! Where events go: standard error, as logfmt or JSON.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use super::{LogFormat, LogLevel};

/// Sends the events of this program at `level` or graver to standard error.
///
/// Events of other crates are held at WARN whatever the level: at TRACE the signing library writes out the
/// canonical request, session token and all, and a secret must appear in no log.
pub(super) fn install(level: LogLevel, format: LogFormat) {
    let own = LevelFilter::from(level);
    let targets = Targets::new().with_default(own.min(LevelFilter::WARN)).with_target("lsfast", own);
    match format {
        LogFormat::Text => {
            let layer = tracing_logfmt::builder()
                .with_target(false)
                .with_span_name(false)
                .with_span_path(false)
                .layer()
                .with_writer(std::io::stderr);
            tracing_subscriber::registry().with(layer.with_filter(targets)).init();
        }
        LogFormat::Json => {
            let layer = fmt::layer()
                .json()
                .flatten_event(true)
                .with_current_span(true)
                .with_span_list(false)
                .with_target(false)
                .with_writer(std::io::stderr);
            tracing_subscriber::registry().with(layer.with_filter(targets)).init();
        }
    }
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> LevelFilter {
        match level {
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Trace => LevelFilter::TRACE,
        }
    }
}
