//! The flags of all commands.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::store::HostAnswer;

/// Flags of all commands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// How much to log [default: info; for bench: warn]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
    /// How to log: one logfmt line or one JSON object for each event [default: text; on a
    /// terminal shorter lines, with the local time]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// How to read and write files; `auto` uses io_uring where the kernel allows it
    #[arg(long, global = true, value_name = "ENGINE", default_value = "auto")]
    pub io: IoEngine,
    /// PEM file of certificate authorities to trust in addition to those of the system
    #[arg(long, global = true, value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
    /// Endpoint of the store, for replica URLs without one
    #[arg(long, global = true, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Region of the store, for replica URLs without one
    #[arg(long, global = true, value_name = "REGION")]
    pub region: Option<String>,
    /// The config file [default: $LSFAST_CONFIG, $LITESTREAM_CONFIG, /etc/lsfast.yml,
    /// /etc/litestream.yml]
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Leave $VARIABLES in the config file as they are
    #[arg(long, global = true)]
    pub no_expand_env: bool,
    /// Use ADDRESS for the host NAME instead of asking the name service; NAME may begin with `*.`
    #[arg(long, global = true, value_name = "NAME=ADDRESS[:PORT]")]
    pub resolve: Vec<HostAnswer>,
    /// Let a crash leave a core file, which may hold keys and data
    #[arg(long, global = true)]
    pub core_dumps: bool,
}

/// Levels of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Errors that stop a replica or the program.
    Error,
    /// Conditions that need attention.
    Warn,
    /// Normal events, a few lines a day.
    Info,
    /// Each upload and each step of the history.
    Debug,
    /// Each proof that a restart of the WAL lost no commit.
    Trace,
}

/// Forms of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// logfmt: `time=... level=info msg="..." key=value`.
    Text,
    /// One JSON object for each line.
    Json,
}

/// Engines for file work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IoEngine {
    /// io_uring if the kernel allows it, otherwise plain system calls.
    Auto,
    /// io_uring or an error.
    Uring,
    /// Plain system calls.
    Plain,
}
