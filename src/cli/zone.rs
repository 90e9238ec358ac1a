//! The local time zone, from `TZ` or `/etc/localtime`, as other programs on this host understand
//! it.
//!
//! | `TZ` | means |
//! |---|---|
//! | `Europe/Berlin`, `:Europe/Berlin` | the zone of that name, from the host's database or the built-in one |
//! | `/usr/share/zoneinfo/Europe/Berlin`, `:/PATH` | that file |
//! | `CET-1CEST,M3.5.0,M10.5.0/3` | those rules; without rules, those of the USA, as POSIX says |
//! | empty, `:` | UTC |
//! | not set | `/etc/localtime`; UTC if it does not exist |
//!
//! Anything else is an error. The C library silently takes it for UTC, and a restore by time would
//! then choose another state.

use std::ffi::OsStr;
use std::path::Path;

use jiff::tz::{TimeZone, db};

use crate::io::read_small;

/// Longest zone file that is read, in bytes; a longer one is refused. The longest of the database
/// has about 4 KiB.
const ZONE_BYTES_MAX: u64 = 1 << 20;

/// The zone file if `TZ` is not set.
const LOCALTIME: &str = "/etc/localtime";

/// POSIX's rules for a zone with summer time and without rules of its own.
const RULES: &str = ",M3.2.0,M11.1.0";

/// The folder of zone files in a path; the rest of the path is the zone's name.
const ZONES: &str = "zoneinfo/";

/// The local time zone.
///
/// # Errors
/// One line that says what cannot be understood, and what to write instead.
pub(super) fn local() -> Result<TimeZone, String> {
    match std::env::var_os("TZ") {
        Some(tz) => by_variable(&tz),
        None => by_file(Path::new(LOCALTIME)),
    }
}

fn by_variable(tz: &OsStr) -> Result<TimeZone, String> {
    let unknown = || {
        format!(
            "TZ is {tz:?}, which is neither a known time zone such as Europe/Berlin nor a rule or a file: set it right, or \
             write the time with its offset, such as 2026-11-21T14:03:00+01:00"
        )
    };
    let text = tz.to_str().ok_or_else(unknown)?;
    let name = text.strip_prefix(':').unwrap_or(text);
    if name.is_empty() {
        return Ok(TimeZone::UTC);
    }
    let path = Path::new(name);
    if path.is_absolute() {
        return by_file(path).map_err(|e| format!("TZ is {tz:?}: {e}"));
    }
    // A name takes precedence over a rule: EST5EDT is both.
    let named = db().get(name).ok();
    let ruled = || TimeZone::posix(text).or_else(|_| TimeZone::posix(&format!("{text}{RULES}"))).ok();
    named.or_else(ruled).ok_or_else(unknown)
}

/// The zone of a file. A missing file may still be known by its name.
fn by_file(path: &Path) -> Result<TimeZone, String> {
    let target = std::fs::read_link(path).ok();
    let name = target.as_deref().unwrap_or(path).to_str().and_then(|p| p.rsplit_once(ZONES)).map(|(_, n)| n);
    match read_small(path, ZONE_BYTES_MAX) {
        Ok(bytes) => TimeZone::tzif(name.unwrap_or("local"), &bytes).map_err(|e| {
            format!("{} is not a time zone file ({e}): write the time with its offset", path.display())
        }),
        Err(e) => match name.and_then(|name| db().get(name).ok()) {
            Some(zone) => Ok(zone),
            None if target.is_none() && path == Path::new(LOCALTIME) => Ok(TimeZone::UTC),
            None => Err(format!(
                "cannot read the time zone {}: {e}; write the time with its offset",
                path.display()
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    /// The times in UTC of noon on a summer day and on a winter day.
    fn noon(tz: &str) -> (String, String) {
        let zone = by_variable(OsStr::new(tz)).unwrap_or_else(|e| panic!("{e}"));
        let at = |month| {
            zone.to_timestamp(date(2020, month, 1).at(12, 0, 0, 0)).unwrap().strftime("%H:%M").to_string()
        };
        (at(7), at(1))
    }

    /// `TZ=Europe/Berlin` was taken for UTC, and the restored state was two hours off.
    #[test]
    fn all_forms_of_the_variable() {
        let berlin = ("10:00".to_owned(), "11:00".to_owned());
        for tz in [
            "Europe/Berlin",
            ":Europe/Berlin",
            "CET-1CEST,M3.5.0,M10.5.0/3",
            "/usr/share/zoneinfo/Europe/Berlin",
        ] {
            assert_eq!(noon(tz), berlin, "{tz}");
        }
        let utc = ("12:00".to_owned(), "12:00".to_owned());
        for tz in ["", ":", "UTC", "UTC0", "Etc/UTC"] {
            assert_eq!(noon(tz), utc, "{tz}");
        }
        assert_eq!(noon("<+0330>-3:30").0, "08:30");
        assert_eq!(noon("Asia/Kolkata").0, "06:30");
        assert_eq!(noon("EST5EDT"), ("16:00".to_owned(), "17:00".to_owned()));
        assert_eq!(noon("XXX5YYY"), ("16:00".to_owned(), "17:00".to_owned()), "the rules of the USA");
        for tz in ["Europe/Nowhere", "Berlin", "/nowhere/at/all", "/etc/passwd"] {
            assert!(by_variable(OsStr::new(tz)).unwrap_err().contains("offset"), "{tz}");
        }
    }

    #[test]
    fn a_file_counts_before_its_name_and_a_link_by_its_target() {
        let dir = tempfile::tempdir().unwrap();
        let zones = dir.path().join("zoneinfo/Europe");
        std::fs::create_dir_all(&zones).unwrap();
        // A host without zone files, whose link still names the zone.
        let link = dir.path().join("localtime");
        std::os::unix::fs::symlink(zones.join("Berlin"), &link).unwrap();
        let noon = date(2020, 7, 1).at(12, 0, 0, 0);
        let at =
            |path: &Path| by_file(path).unwrap().to_timestamp(noon).unwrap().strftime("%H:%M").to_string();
        assert_eq!(at(&link), "10:00");
        std::fs::write(&link, b"not a zone").unwrap();
        assert!(by_file(&link).unwrap_err().contains("is not a time zone file"));
        assert!(by_file(&dir.path().join("none")).is_err());
    }
}
