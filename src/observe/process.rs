//! What Linux says of this process, by the names of Prometheus' client libraries, and of the file
//! systems that hold its databases.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::OnceLock;

use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};

use super::format::{escape, head, number};
use crate::io::read_small;

/// Bytes of a file of the system, at most. `/proc/stat` has a line for each processor and a number
/// for each interrupt.
const STAT_BYTES: u64 = 1 << 20;

fn of_system(path: &str) -> Option<String> {
    let bytes = read_small(Path::new(path), STAT_BYTES).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes the `process_` metrics; those that cannot be read are left out.
pub(super) fn numbers(out: &mut String) {
    let stat = of_system("/proc/self/stat").unwrap_or_default();
    let stat = Stat::parse(&stat);
    let open = std::fs::read_dir("/proc/self/fd").ok().map(|all| number(all.count() as u64));
    let max = getrlimit(Resource::Nofile).current.map(number);
    for (name, kind, help, value) in [
        (
            "process_cpu_seconds_total",
            "counter",
            "Processor time used, in seconds.",
            stat.as_ref().map(|s| s.cpu_seconds),
        ),
        ("process_open_fds", "gauge", "Open file descriptors.", open),
        ("process_max_fds", "gauge", "Limit of open file descriptors.", max),
        (
            "process_virtual_memory_bytes",
            "gauge",
            "Size of the address space.",
            stat.as_ref().map(|s| s.virtual_bytes),
        ),
        ("process_resident_memory_bytes", "gauge", "Memory in use.", stat.as_ref().map(|s| s.resident_bytes)),
        ("process_threads", "gauge", "Threads.", stat.as_ref().map(|s| s.threads)),
        ("process_start_time_seconds", "gauge", "When the process was started.", started(stat.as_ref())),
    ] {
        if let Some(value) = value {
            head(out, name, kind, help);
            let _ = writeln!(out, "{name} {value}");
        }
    }
}

/// Free and total bytes of each file system that holds a database, labelled by the directory of the
/// first database on it.
pub(super) fn file_systems<'a>(out: &mut String, databases: impl Iterator<Item = &'a Path>) {
    let mut found = BTreeMap::new();
    for dir in databases.filter_map(Path::parent) {
        let Ok(at) = std::fs::metadata(dir) else { continue };
        found.entry(at.dev()).or_insert(dir);
    }
    let found: Vec<_> = found
        .into_values()
        .filter_map(|dir| {
            let of = rustix::fs::statvfs(dir).ok()?;
            let dir = escape(&dir.to_string_lossy());
            Some((dir, of.f_bavail * of.f_frsize, of.f_blocks * of.f_frsize))
        })
        .collect();
    for (name, help, is_free) in [
        ("lsfast_filesystem_avail_bytes", "Bytes that are free where databases are.", true),
        ("lsfast_filesystem_size_bytes", "Bytes of the file system.", false),
    ] {
        head(out, name, "gauge", help);
        for (dir, free, size) in &found {
            let _ = writeln!(out, "{name}{{dir=\"{dir}\"}} {}", if is_free { free } else { size });
        }
    }
}

/// What `/proc/self/stat` says.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: f64,
    /// From the boot of the machine.
    started_seconds: f64,
    virtual_bytes: f64,
    resident_bytes: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        // The name of the program is in parentheses and may hold spaces.
        let fields: Vec<f64> =
            text.rsplit_once(") ")?.1.split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
        let (ticks, page) = (number(clock_ticks_per_second()), number(page_size() as u64));
        // Numbered from the state, which is field 3 in proc(5).
        Some(Stat {
            cpu_seconds: (fields.get(11)? + fields.get(12)?) / ticks,
            threads: *fields.get(17)?,
            started_seconds: fields.get(19)? / ticks,
            virtual_bytes: *fields.get(20)?,
            resident_bytes: fields.get(21)? * page,
        })
    }
}

/// When the process was started. Computed once, so that it does not change with the clock.
fn started(stat: Option<&Stat>) -> Option<f64> {
    static BOOT: OnceLock<Option<f64>> = OnceLock::new();
    let boot = BOOT.get_or_init(|| {
        let text = of_system("/proc/stat")?;
        text.lines().find_map(|l| l.strip_prefix("btime ")?.trim().parse().ok())
    });
    Some((*boot)? + stat?.started_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_program_may_hold_anything() {
        let text = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 300 200 0 0 20 0 5 0 4200 1048576 25 18446744073709551615";
        let stat = Stat::parse(text).unwrap();
        let ticks = clock_ticks_per_second() as f64;
        assert_eq!((stat.cpu_seconds, stat.threads), (500.0 / ticks, 5.0));
        assert_eq!((stat.started_seconds, stat.virtual_bytes), (4_200.0 / ticks, 1_048_576.0));
        assert_eq!(stat.resident_bytes, 25.0 * page_size() as f64);
        assert_eq!(Stat::parse("7 (a"), None);
    }
}
