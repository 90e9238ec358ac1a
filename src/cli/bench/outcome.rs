//! The result of a run as text, JSON and plot.

use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use super::load::{Load, Rate, round};
use super::measure::{Measured, Side};
use super::plot::{Line, Panel, Scale};
use super::stats::{self, Summary};
use super::{histogram, plot};
use crate::base::count;

/// Most points of a line in the plot; more cannot be distinguished.
const POINTS_MAX: usize = 1_000;

/// The settings of the measurement.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) replica: String,
    pub(super) io: String,
    pub(super) load: Load,
    pub(super) time: Duration,
    pub(super) sync_interval: Duration,
}

/// The restore at the end.
#[derive(Debug)]
pub(super) struct Restored {
    pub(super) time: Duration,
    pub(super) pages: u32,
    pub(super) page_size: u32,
    pub(super) pages_differing: usize,
}

/// The complete result of a run.
#[derive(Debug)]
pub(super) struct Outcome {
    subject: Subject,
    measured: Measured,
    pub(super) restored: Restored,
    commit: Summary,
    stored: Summary,
}

/// The result in JSON.
#[derive(Debug, Serialize)]
struct Json<'a> {
    replica: &'a str,
    io: &'a str,
    duration_ms: u64,
    rate: Option<f64>,
    rows: u32,
    row_bytes: u32,
    synchronous: String,
    sync_interval_ms: u64,
    commits: u64,
    commits_per_second: f64,
    uploads: u64,
    upload_bytes: u64,
    log_bytes_max: u64,
    cpu_us_per_row: Option<f64>,
    commit: Summary,
    commit_to_stored: Summary,
    raw_put: Option<Summary>,
    alone: Option<Alone>,
    restore_ms: f64,
    pages: u32,
    page_size: u32,
    pages_differing: usize,
}

/// The writer without lsfast.
#[derive(Debug, Serialize)]
struct Alone {
    commits: u64,
    commits_per_second: f64,
    log_bytes_max: u64,
    commit: Summary,
    /// Commits a second with lsfast divided by those alone: the median over the pairs of turns.
    ratio: f64,
}

impl Outcome {
    /// # Errors
    /// If there was nothing to measure.
    pub(super) fn new(subject: Subject, measured: Measured, restored: Restored) -> anyhow::Result<Outcome> {
        let nothing = "nothing was stored: let the bench run longer (--duration)";
        let commit = measured.replicated.commits.summary().context(nothing)?;
        let stored = measured.stored.summary().context(nothing)?;
        Ok(Outcome { subject, measured, restored, commit, stored })
    }

    pub(super) fn json(&self) -> anyhow::Result<String> {
        let Outcome { subject, measured, restored, .. } = self;
        let json = Json {
            replica: &subject.replica,
            io: &subject.io,
            duration_ms: whole_ms(subject.time),
            rate: match subject.load.rate {
                Rate::PerSecond(rate) => Some(rate),
                Rate::Max => None,
            },
            rows: subject.load.rows,
            row_bytes: subject.load.row_bytes,
            synchronous: subject.load.synchronous.to_string(),
            sync_interval_ms: whole_ms(subject.sync_interval),
            commits: measured.replicated.commits.count(),
            commits_per_second: measured.replicated.rate(),
            uploads: measured.uploads,
            upload_bytes: measured.upload_bytes,
            log_bytes_max: measured.replicated.log_bytes_max,
            cpu_us_per_row: self.cpu_us_per_row(),
            commit: self.commit,
            commit_to_stored: self.stored,
            raw_put: measured.raw.summary(),
            alone: self.alone(),
            restore_ms: restored.time.as_secs_f64() * 1e3,
            pages: restored.pages,
            page_size: restored.page_size,
            pages_differing: restored.pages_differing,
        };
        Ok(serde_json::to_string(&json)?)
    }

    fn cpu_us_per_row(&self) -> Option<f64> {
        let rows = self.measured.replicated.commits.count() * u64::from(self.subject.load.rows);
        self.measured.cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / rows as f64)
    }

    fn alone(&self) -> Option<Alone> {
        let Measured { alone, replicated, .. } = &self.measured;
        Some(Alone {
            commits: alone.commits.count(),
            commits_per_second: alone.rate(),
            log_bytes_max: alone.log_bytes_max,
            commit: alone.commits.summary()?,
            ratio: ratio(replicated, alone),
        })
    }

    /// An SVG of the distribution, the lag and the size of the WAL, one below the other.
    pub(super) fn svg(&self) -> String {
        let ms = |ns: u64| ns as f64 / 1e6;
        let cdf = |name: &'static str, samples: &stats::Samples| {
            let sorted = samples.sorted_ns();
            let share = |at: usize| (at + 1) as f64 / sorted.len() as f64 * 100.0;
            let points = sorted.iter().enumerate().map(|(at, ns)| (ms((*ns).max(1)), share(at)));
            Line { name, points: thin(&points.collect::<Vec<_>>()) }
        };
        let Measured { replicated, alone, stored, lags, log, raw, .. } = &self.measured;
        let mut distributions = vec![
            cdf("commit to stored", stored),
            cdf("raw PUT", raw),
            cdf("commit itself", &replicated.commits),
        ];
        if alone.commits.count() > 0 {
            distributions.push(cdf("commit, alone", &alone.commits));
        }
        let lag: Vec<_> = lags.iter().map(|(at, lag)| (at.as_secs_f64(), lag.as_secs_f64() * 1e3)).collect();
        let size: Vec<_> = log.iter().map(|(at, size)| (at.as_secs_f64(), *size as f64 / 1e6)).collect();
        let panels = [
            Panel { title: "distribution", x: "ms", y: "% of all", scale: Scale::LogX, lines: distributions },
            Panel {
                title: "commit to stored, when it was stored",
                x: "s",
                y: "ms",
                scale: Scale::LogY,
                lines: vec![Line { name: "commit to stored", points: thin(&lag) }],
            },
            Panel {
                title: "size of the WAL",
                x: "s",
                y: "MB",
                scale: Scale::Linear,
                lines: vec![Line { name: "WAL", points: thin(&size) }],
            },
        ];
        let title = format!("lsfast bench to {}", self.subject.replica);
        let more =
            format!("{}, sync interval {} ms", self.subject.load, whole_ms(self.subject.sync_interval));
        plot::svg(&[&title, &more], &panels)
    }
}

/// The median ratio over the pairs of turns.
fn ratio(replicated: &Side, alone: &Side) -> f64 {
    let mut ratios: Vec<f64> = replicated.rates.iter().zip(&alone.rates).map(|(b, a)| b / a).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let middle = ratios.len() / 2;
    if ratios.len().is_multiple_of(2) {
        f64::midpoint(ratios[middle - 1], ratios[middle])
    } else {
        ratios[middle]
    }
}

/// Reduces the points but keeps the shape: of each stretch the first, the lowest and the highest.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let stretch = (points.len() * 3).div_ceil(POINTS_MAX);
    if stretch < 4 {
        return points.to_vec();
    }
    let shape = |part: &[(f64, f64)]| {
        let by_y = |a: &usize, b: &usize| part[*a].1.total_cmp(&part[*b].1);
        let mut at = [Some(0), (0..part.len()).min_by(by_y), (0..part.len()).max_by(by_y)]
            .map(Option::unwrap_or_default);
        at.sort_unstable();
        at.map(|i| part[i])
    };
    points.chunks(stretch).flat_map(shape).chain(points.last().copied()).collect()
}

fn whole_ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { subject, measured, restored, commit, stored } = self;
        writeln!(f, "to {}, files by {}", subject.replica, subject.io)?;
        writeln!(f, "{}", subject.load)?;
        writeln!(
            f,
            "{} in {:.1} s ({}/s), {}, {} MB, sync interval {} ms, WAL up to {} MB",
            count(commit.count, "commit"),
            measured.replicated.time.as_secs_f64(),
            round(measured.replicated.rate()),
            count(measured.uploads, "upload"),
            round(measured.upload_bytes as f64 / 1e6),
            whole_ms(subject.sync_interval),
            round(measured.replicated.log_bytes_max as f64 / 1e6),
        )?;
        let alone = self.alone();
        if let Some(alone) = &alone {
            writeln!(
                f,
                "alone: {} ({}/s), WAL up to {} MB; with lsfast the writer keeps {:.1} % of its speed",
                count(alone.commits, "commit"),
                round(alone.commits_per_second),
                round(alone.log_bytes_max as f64 / 1e6),
                alone.ratio * 100.0
            )?;
        }
        if let Some(cpu) = self.cpu_us_per_row() {
            writeln!(f, "processor time of lsfast: {} us a row", round(cpu))?;
        }
        writeln!(f, "\n{}", stats::HEADING)?;
        if let Some(alone) = &alone {
            writeln!(f, "{}", alone.commit.row("commit, alone"))?;
        }
        writeln!(f, "{}", commit.row("commit"))?;
        writeln!(f, "{}", stored.row("commit -> stored"))?;
        match measured.raw.summary() {
            Some(raw) => writeln!(f, "{}", raw.row("raw PUT")),
            None => writeln!(f, "no raw PUT: each upload went in parts"),
        }?;
        writeln!(f, "\ncommit -> stored, ms")?;
        for line in histogram::lines(&measured.stored.sorted_ns()) {
            writeln!(f, "{line}")?;
        }
        let verdict = match restored.pages_differing {
            0 => format!("all {} pages of {} bytes are equal", restored.pages, restored.page_size),
            n => format!("{n} OF {} PAGES DIFFER", restored.pages),
        };
        write!(f, "\nrestored in {:.0} ms: {verdict}", restored.time.as_secs_f64() * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::load::Synchronous;

    fn side(rates: &[f64], us: u64) -> Side {
        let mut side = Side { rates: rates.to_vec(), time: Duration::from_secs(2), ..Side::default() };
        (0..2_000).for_each(|_| side.commits.push(Duration::from_micros(us)));
        side
    }

    fn outcome(measured: Measured) -> anyhow::Result<Outcome> {
        let load = Load { rate: Rate::Max, rows: 10, row_bytes: 200, synchronous: Synchronous::Full };
        let subject = Subject {
            replica: String::from("s3://b/<p>&q"),
            io: String::from("plain calls"),
            load,
            time: Duration::from_secs(2),
            sync_interval: Duration::ZERO,
        };
        let restored =
            Restored { time: Duration::from_millis(12), pages: 9, page_size: 4096, pages_differing: 0 };
        Outcome::new(subject, measured, restored)
    }

    fn measured() -> Measured {
        let mut measured = Measured {
            replicated: side(&[50.0, 30.0, 400.0, 90.0], 9),
            alone: side(&[100.0; 4], 7),
            cpu: Some(Duration::from_millis(50)),
            ..Measured::default()
        };
        for n in 1..=9_u64 {
            let lag = Duration::from_micros(n * 700);
            measured.stored.push(lag);
            measured.raw.push(lag);
            measured.lags.push((Duration::from_millis(n * 9), lag));
            measured.log.push((Duration::from_millis(n * 9), n * 100_000));
        }
        measured
    }

    #[test]
    fn the_ratio_is_the_median_of_pairs_and_processor_time_is_per_row() {
        let outcome = outcome(measured()).expect("an outcome");
        let json: serde_json::Value = serde_json::from_str(&outcome.json().expect("JSON")).expect("JSON");
        assert_eq!(json["alone"]["ratio"], 0.7);
        assert_eq!(json["cpu_us_per_row"], 2.5);
        assert_eq!(json["commits_per_second"], 1_000.0);
        assert_eq!((&json["rate"], &json["commit"]["p999_us"]), (&serde_json::Value::Null, &9.into()));
        let text = outcome.to_string();
        assert!(text.contains("keeps 70.0 % of its speed"), "{text}");
        assert!(
            text.contains("2.5 us a row") && text.contains("all 9 pages of 4096 bytes are equal"),
            "{text}"
        );
        assert!(text.contains("as fast as they go, 10 rows of 200 bytes each, synchronous full"), "{text}");
    }

    #[test]
    fn without_a_comparison_nothing_is_said_of_one() {
        let alone = Side::default();
        let outcome = outcome(Measured { alone, cpu: None, ..measured() }).expect("an outcome");
        let text = outcome.to_string();
        assert!(!text.contains("alone") && !text.contains("a row"), "{text}");
        assert!(!outcome.svg().contains("alone"));
    }

    #[test]
    fn a_run_without_a_commit_says_what_to_do() {
        let e = outcome(Measured::default()).expect_err("nothing");
        assert!(e.to_string().contains("--duration"), "{e}");
    }

    #[test]
    fn what_the_user_named_cannot_break_the_plot() {
        let svg = outcome(measured()).expect("an outcome").svg();
        assert!(svg.contains("s3://b/&lt;p&gt;&amp;q"), "{svg}");
        assert!(svg.contains("commit, alone") && svg.contains("raw PUT"));
    }

    #[test]
    fn a_thin_line_has_the_ends_and_peaks_of_the_whole_one() {
        let mut points: Vec<(f64, f64)> = (0..50_000).map(|n| (f64::from(n), 1.0)).collect();
        points[31_415].1 = 77.0;
        points[27_182].1 = -3.0;
        let thinned = thin(&points);
        assert!(thinned.len() <= POINTS_MAX + 10, "{}", thinned.len());
        for point in [points[0], points[49_999], points[31_415], points[27_182]] {
            assert!(thinned.contains(&point), "{point:?}");
        }
        assert!(thinned.is_sorted_by(|a, b| a.0 <= b.0));
        assert_eq!(thin(&points[..10]), points[..10]);
    }
}
