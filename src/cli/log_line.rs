//! How an event becomes a line of the log.
//!
//! | style | time | level | words | fields |
//! |---|---|---|---|---|
//! | logfmt | `time=`, UTC with milliseconds | `level=` in lower case | `msg=` | `key=value` |
//! | JSON | `"time"`, the same | `"level"`, the same | `"msg"` | numbers stay numbers |
//! | terminal | the local time of day | in lower case, coloured | as they are | `key=value`, keys dimmed |
//!
//! `time`, `level` and `msg` are the names that Litestream uses, so queries find the lines of both.

use std::fmt::{Debug, Write as _};
use std::io::{self, Write as _};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::progress;
use crate::base::untrusted;

/// Form of a line.
#[derive(Debug)]
pub(super) enum Style {
    Logfmt,
    Json,
    /// For people who watch.
    Terminal {
        colours: bool,
        zone: TimeZone,
    },
}

/// Writes each event to standard error as one line.
#[derive(Debug)]
pub(super) struct Lines(pub(super) Style);

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = self.0.line(Timestamp::now(), *event.metadata().level(), &fields);
        // A closed standard error has no reader that could be told.
        let _ = progress::beside(|| io::stderr().lock().write_all(line.as_bytes()));
    }
}

/// The value of a field.
#[derive(Debug)]
enum Value {
    Text(String),
    /// A number or a boolean, which JSON writes without quotes.
    Bare(String),
}

impl Value {
    fn text(&self) -> &str {
        let (Value::Text(text) | Value::Bare(text)) = self;
        text
    }
}

/// What an event holds.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    others: Vec<(&'static str, Value)>,
}

impl Fields {
    fn push(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", value) => value.text().clone_into(&mut self.message),
            (name, value) => self.others.push((name, value)),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, Value::Text(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.push(field, Value::Text(format!("{value:?}")));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Value::Bare(value.to_string()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Value::Bare(value.to_string()));
    }

    // `Duration::as_millis` returns one.
    fn record_u128(&mut self, field: &Field, value: u128) {
        self.push(field, Value::Bare(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Value::Bare(value.to_string()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no word for the others.
        let form = if value.is_finite() { Value::Bare } else { Value::Text };
        self.push(field, form(value.to_string()));
    }
}

impl Style {
    /// The line, with its end. It holds no control characters but those of the colours: an event
    /// may quote a store, a file name or another program.
    fn line(&self, now: Timestamp, level: Level, fields: &Fields) -> String {
        let word = level_word(level);
        let mut line = String::new();
        match self {
            Style::Logfmt => {
                line = format!("time={now:.3} level={word} msg=");
                push_logfmt(&mut line, &fields.message);
                for (name, value) in &fields.others {
                    line += &format!(" {name}=");
                    push_logfmt(&mut line, value.text());
                }
            }
            Style::Json => {
                let quoted = |text: &str| serde_json::Value::from(text).to_string();
                line = format!(r#"{{"time":"{now:.3}","level":"{word}","msg":{}"#, quoted(&fields.message));
                for (name, value) in &fields.others {
                    let value = match value {
                        Value::Text(text) => quoted(text),
                        Value::Bare(text) => text.clone(),
                    };
                    // Writing to a `String` can't fail.
                    let _ = write!(line, r#","{name}":{value}"#);
                }
                line.push('}');
            }
            Style::Terminal { colours, zone } => {
                let paint = |code: &str, text: &str| match colours {
                    true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
                    false => text.to_owned(),
                };
                let time = now.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string();
                line += &paint(DIM, &time);
                line += &format!(" {}", paint(colour(level), &format!("{word:<5}")));
                line += &format!(" {}", untrusted::escape(&fields.message));
                for (name, value) in &fields.others {
                    let mut text = String::new();
                    push_logfmt(&mut text, value.text());
                    line += &format!(" {}{}", paint(DIM, &format!("{name}=")), untrusted::escape(&text));
                }
                line.push('\n');
                return line;
            }
        }
        line.push('\n');
        untrusted::lines(&line).into_owned()
    }
}

/// The code by which a terminal shows text dimmed.
const DIM: &str = "2";

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "1;31",
        Level::WARN => "33",
        Level::INFO => "32",
        _ => DIM,
    }
}

fn level_word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        _ => "trace",
    }
}

/// A value of one word stays bare; others are quoted, with escapes for quotes and line breaks.
fn push_logfmt(line: &mut String, value: &str) {
    let is_bare = !value.is_empty() && value.chars().all(|c| c > ' ' && !matches!(c, '=' | '"'));
    if is_bare {
        line.push_str(value);
    } else {
        // Writing to a `String` can't fail.
        let _ = write!(line, "\"{}\"", value.escape_debug());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        let text = |text: &str| Value::Text(text.to_owned());
        Fields {
            message: "image \"stored\"\nlevel=error".to_owned(),
            others: vec![
                ("db", text("/srv/a.db")),
                ("replica", text("s3://b/a?endpoint=x")),
                ("bytes", Value::Bare("318".to_owned())),
                ("error", text("no\u{1b}[31m \u{202e}way")),
                ("none", text("")),
            ],
        }
    }

    fn line(style: &Style) -> String {
        let line = style.line("2026-11-21T21:14:10.8Z".parse().unwrap(), Level::WARN, &fields());
        line.strip_suffix('\n').expect("a line").to_owned()
    }

    #[test]
    fn logfmt_names_time_level_and_message_as_litestream_does() {
        assert_eq!(
            line(&Style::Logfmt),
            r#"time=2026-11-21T21:14:10.800Z level=warn msg="image \"stored\"\nlevel=error" db=/srv/a.db replica="s3://b/a?endpoint=x" bytes=318 error="no\u{1b}[31m \u{202e}way" none="""#
        );
    }

    #[test]
    fn json_has_the_same_names_and_numbers_stay_numbers() {
        let line = line(&Style::Json);
        assert!(line.is_ascii() && !line.contains('\u{1b}'), "{line}");
        assert!(line.starts_with(r#"{"time":"2026-11-21T21:14:10.800Z","level":"warn","msg":"#), "{line}");
        let said: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!((&said["bytes"], &said["db"]), (&318.into(), &"/srv/a.db".into()));
        assert_eq!(said["msg"], "image \"stored\"\nlevel=error");
    }

    #[test]
    fn a_terminal_gets_a_short_line_in_local_time_and_no_colours_but_ours() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let plain = line(&Style::Terminal { colours: false, zone: zone.clone() });
        assert!(plain.starts_with(r#"23:14:10 warn  image "stored"\nlevel=error db=/srv/a.db"#), "{plain}");
        assert!(!plain.contains(['\u{1b}', '\u{202e}', '\n']), "{plain}");
        let coloured = line(&Style::Terminal { colours: true, zone });
        assert!(coloured.contains("\u{1b}[33mwarn \u{1b}[0m"), "{coloured}");
        assert!(!coloured.contains("\u{1b}[31m"), "{coloured}");
    }
}
