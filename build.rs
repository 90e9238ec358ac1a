//! Tells the program which commit it is built from, and compiles SQLite with `sqlite_dbpage` where
//! libsqlite3-sys was built without it.
//!
//! # SQLite
//!
//! A standby writes through `sqlite_dbpage` (docs/design/standby.md). In the folder of the sources,
//! `.cargo/config.toml` passes the flag for it to libsqlite3-sys. Cargo does not read that file for
//! `cargo install lsfast` or for a program that depends on lsfast, and a crate cannot pass flags to
//! one that it depends on. Then the source of libsqlite3-sys is compiled once more, with the flag.
//! It has each symbol of the other copy and is linked whole, before it. So the linker takes nothing
//! of the other copy, and reports a duplicate symbol if it ever would.

#![allow(clippy::disallowed_methods, reason = "the program's own way to read files is not compiled yet")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// What libsqlite3-sys defines when it compiles SQLite, and `sqlite_dbpage`.
/// `packaging/test-package.sh` compares the options of both builds.
const DEFINES: [&str; 20] = [
    "SQLITE_CORE",
    "SQLITE_DEFAULT_FOREIGN_KEYS=1",
    "SQLITE_ENABLE_API_ARMOR",
    "SQLITE_ENABLE_COLUMN_METADATA",
    "SQLITE_ENABLE_DBSTAT_VTAB",
    "SQLITE_ENABLE_FTS3",
    "SQLITE_ENABLE_FTS3_PARENTHESIS",
    "SQLITE_ENABLE_FTS5",
    "SQLITE_ENABLE_JSON1",
    "SQLITE_ENABLE_LOAD_EXTENSION=1",
    "SQLITE_ENABLE_RTREE",
    "SQLITE_ENABLE_STAT4",
    "SQLITE_SOUNDEX",
    "SQLITE_THREADSAFE=1",
    "SQLITE_USE_URI",
    "HAVE_USLEEP=1",
    "HAVE_ISNAN",
    "HAVE_LOCALTIME_R",
    "_POSIX_THREAD_SAFE_FUNCTIONS",
    "SQLITE_ENABLE_DBPAGE_VTAB",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for name in ["LIBSQLITE3_FLAGS", "LSFAST_COMMIT", "LSFAST_COMMIT_DATE"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let flags = std::env::var("LIBSQLITE3_FLAGS").unwrap_or_default();
    if !flags.contains("SQLITE_ENABLE_DBPAGE_VTAB") {
        compile_sqlite(&flags);
    }
    let target = std::env::var("TARGET").expect("Cargo sets TARGET");
    println!("cargo:rustc-env=LSFAST_TARGET={target}");
    if let Some((commit, date)) = source() {
        println!("cargo:rustc-env=LSFAST_COMMIT={commit}");
        println!("cargo:rustc-env=LSFAST_COMMIT_DATE={date}");
    }
}

fn compile_sqlite(flags: &str) {
    let file = std::env::var_os("DEP_SQLITE3_INCLUDE").map(|dir| Path::new(&dir).join("sqlite3.c"));
    let Some(file) = file.filter(|file| file.exists()) else {
        // LIBSQLITE3_SYS_USE_PKG_CONFIG chooses the library of the system.
        println!("cargo:warning=SQLite is not compiled here: without its sqlite_dbpage, `restore -f` fails");
        return;
    };
    println!("cargo:rerun-if-changed={}", file.display());
    let mut build = cc::Build::new();
    for define in DEFINES {
        build.flag(format!("-D{define}"));
    }
    build.flags(flags.split_whitespace().filter(|flag| flag.starts_with("-D") || flag.starts_with("-U")));
    build.file(file).warnings(false).cargo_metadata(false);
    build.compile("lsfast_sqlite3");
    let out = std::env::var("OUT_DIR").expect("Cargo sets OUT_DIR");
    println!("cargo:rustc-link-search=native={out}");
    println!("cargo:rustc-link-lib=static:+whole-archive=lsfast_sqlite3");
}

/// Commit and date of the source: of the environment, of the clone, or of the package.
fn source() -> Option<(String, String)> {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("Cargo sets it"));
    if let Ok(commit) = std::env::var("LSFAST_COMMIT") {
        return Some((commit, std::env::var("LSFAST_COMMIT_DATE").unwrap_or_default()));
    }
    let package = root.join(".cargo_vcs_info.json");
    if let Ok(text) = std::fs::read_to_string(package) {
        let commit = text.split_once("\"sha1\"")?.1.split('"').nth(1)?;
        return Some((commit.get(..12)?.to_owned(), String::new()));
    }
    // A program for development would be built again after each commit.
    if std::env::var("PROFILE").is_ok_and(|profile| profile != "release") {
        return None;
    }
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(&root).args(args).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        output.status.success().then_some(text)
    };
    // Not the repository of a folder above.
    if !root.join(".git").exists() {
        return None;
    }
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={}", root.join(log).display());
    }
    for path in ["src", "Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={path}");
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let date = git(&["log", "-1", "--format=%cs"])?;
    let changed =
        git(&["status", "--porcelain", "--untracked-files=no", "--", "src", "Cargo.toml", "Cargo.lock"])
            .is_some_and(|text| !text.is_empty());
    Some((if changed { format!("{commit}, changed") } else { commit }, date))
}
