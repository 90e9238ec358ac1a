//! Sends log events to standard error, as logfmt or JSON, or as short lines to a terminal.

use std::io::{self, IsTerminal as _};

use clap::ValueEnum as _;
use jiff::tz::TimeZone;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::{FilterExt as _, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::bursts::Bursts;
use super::global::{Global, LogFormat, LogLevel};
use super::log_line::{Lines, Style};
use super::zone;
use crate::config::file::{self, Logging};

/// Writes this program's events at `level` or above to standard error.
///
/// Events of other crates are limited to WARN at any level. At TRACE the signing library writes the
/// canonical request with the session token, and a secret must appear in no log (I7).
///
/// Flags take precedence over `LOG_LEVEL`, which Litestream reads, and that over the config file;
/// `usual` is the level if none of them sets one.
pub(super) fn install(global: &Global, usual: LogLevel, config: Option<&Logging>) {
    let said = |l: &Logging| l.level.as_ref().map(|l| LogLevel::from(l.value));
    let by_env = std::env::var("LOG_LEVEL").ok().and_then(|text| LogLevel::from_str(text.trim(), true).ok());
    let level = global.log_level.or(by_env).or_else(|| config.and_then(said)).unwrap_or(usual);
    let said = |l: &Logging| l.format.as_ref().map(|f| LogFormat::from(f.value));
    let format = global.log_format.or_else(|| config.and_then(said));
    let own = LevelFilter::from(level);
    let targets = Targets::new().with_default(own.min(LevelFilter::WARN)).with_target("lsfast", own);
    // Who asks for details gets each line.
    let bursts = (own < LevelFilter::DEBUG).then_some(Bursts);
    let filter = targets.and(bursts);
    let terminal = io::stderr().is_terminal();
    let style = match format {
        Some(LogFormat::Json) => Style::Json,
        None if terminal => {
            Style::Terminal { colours: has_colours(), zone: zone::local().unwrap_or(TimeZone::UTC) }
        }
        Some(LogFormat::Text) | None => Style::Logfmt,
    };
    tracing_subscriber::registry().with(Lines(style).with_filter(filter)).init();
}

/// Whether a terminal may be sent colours.
fn has_colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
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

impl From<file::LogLevel> for LogLevel {
    fn from(level: file::LogLevel) -> LogLevel {
        match level {
            file::LogLevel::Error => LogLevel::Error,
            file::LogLevel::Warn => LogLevel::Warn,
            file::LogLevel::Info => LogLevel::Info,
            file::LogLevel::Debug => LogLevel::Debug,
            file::LogLevel::Trace => LogLevel::Trace,
        }
    }
}

impl From<file::LogFormat> for LogFormat {
    fn from(format: file::LogFormat) -> LogFormat {
        match format {
            file::LogFormat::Text => LogFormat::Text,
            file::LogFormat::Json => LogFormat::Json,
        }
    }
}
