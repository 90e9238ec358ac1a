//! The committed bounds: a table in Markdown, read and written line by line.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;

/// A bound that is met by so little no longer guards anything.
const LOOSE_PERCENT: f64 = 60.0;

/// One line of the table.
#[derive(Debug)]
struct Bound {
    line: usize,
    at_most: f64,
    reason: String,
}

/// The table.
pub struct Bounds {
    path: PathBuf,
    lines: Vec<String>,
    by_name: BTreeMap<String, Bound>,
}

/// One count.
pub struct Measured {
    pub part: &'static str,
    pub name: &'static str,
    pub value: f64,
}

/// How many lines of the table say what.
#[derive(Debug, Default)]
pub struct Verdict {
    pub within: usize,
    pub failures: Vec<String>,
    pub hints: Vec<String>,
}

/// A bound with room for what the compiler and the C library change, by the part.
fn with_room(part: &str, value: f64) -> f64 {
    let room = match part {
        "kernels" => 1.10,
        "allocations" => 1.15,
        "system calls" => 1.5,
        // Bytes; numbers of requests are exact.
        "requests" if value >= 100.0 => 1.02,
        _ => 1.0,
    };
    let bound = value * room;
    if bound < 10.0 { (bound * 100.0).ceil() / 100.0 } else { bound.ceil() }
}

fn number(value: f64) -> String {
    if value >= 100.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

impl Bounds {
    /// Reads the file beside this source.
    pub fn read() -> anyhow::Result<Bounds> {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/counts/bounds.md");
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("the bounds cannot be read: {}", path.display()))?;
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut by_name = BTreeMap::new();
        for (line, text) in lines.iter().enumerate() {
            let cells: Vec<&str> = text.trim().trim_matches('|').split('|').map(str::trim).collect();
            let [name, at_most, reason] = cells[..] else { continue };
            if name == "count" || name.starts_with('-') {
                continue;
            }
            let place = format!("{}:{}", path.display(), line + 1);
            let at_most = at_most.parse().with_context(|| format!("{place}: {at_most:?} is no number"))?;
            anyhow::ensure!(!reason.is_empty(), "{place}: {name} has no reason");
            let bound = Bound { line, at_most, reason: reason.to_owned() };
            anyhow::ensure!(
                by_name.insert(name.to_owned(), bound).is_none(),
                "{place}: {name} is there twice"
            );
        }
        Ok(Bounds { path, lines, by_name })
    }

    /// Prints everything and judges it.
    pub fn judge(&self, measured: &[Measured]) -> Verdict {
        let mut verdict = Verdict::default();
        let mut part = "";
        for m in measured {
            if part != m.part {
                part = m.part;
                println!("\n{part:<66} {:>10} {:>10} {:>6}", "measured", "at most", "share");
            }
            self.judge_one(m, &mut verdict);
        }
        verdict
    }

    fn judge_one(&self, m: &Measured, verdict: &mut Verdict) {
        let value = number(m.value);
        let Some(bound) = self.by_name.get(m.name) else {
            println!("{:<66} {value:>10}   NO BOUND", m.name);
            verdict.failures.push(format!("{}: {value}, without a bound in {}", m.name, self.path.display()));
            return;
        };
        let at_most = number(bound.at_most);
        let share = if bound.at_most > 0.0 { m.value / bound.at_most * 100.0 } else { 0.0 };
        let fits = m.value <= bound.at_most;
        let mark = if fits { "" } else { "   TOO MANY" };
        println!("{:<66} {value:>10} {at_most:>10} {share:>5.0}%{mark}", m.name);
        if !fits {
            verdict.failures.push(format!("{}: {value}, at most {at_most} ({})", m.name, bound.reason));
            return;
        }
        verdict.within += 1;
        if share < LOOSE_PERCENT && bound.at_most - m.value > 1.0 {
            verdict.hints.push(format!("{}: {value}, so the bound of {at_most} can be tightened", m.name));
        }
    }

    /// Lines that nothing was measured for.
    pub fn unused(&self, measured: &[Measured]) -> impl Iterator<Item = &str> {
        let names = self.by_name.keys().map(String::as_str);
        names.filter(|name| measured.iter().all(|m| m.name != *name))
    }

    /// Moves the bounds to what was measured, with room. Those of 0 stay: they are promises.
    pub fn bless(mut self, measured: &[Measured]) -> anyhow::Result<()> {
        let mut missing = String::new();
        for m in measured {
            let at_most = number(with_room(m.part, m.value));
            match self.by_name.get(m.name) {
                Some(bound) if bound.at_most == 0.0 => {}
                Some(bound) => {
                    self.lines[bound.line] = format!("| {} | {at_most} | {} |", m.name, bound.reason);
                }
                None => writeln!(missing, "| {} | {at_most} | WHY |", m.name)?,
            }
        }
        std::fs::write(&self.path, self.lines.join("\n") + "\n")
            .with_context(|| format!("the bounds cannot be written: {}", self.path.display()))?;
        println!(
            "\nbounds moved: look at them (git diff {}) and say why in their reasons",
            self.path.display()
        );
        if !missing.is_empty() {
            println!("lines to add to the file, each with its reason:\n{missing}");
        }
        Ok(())
    }
}
