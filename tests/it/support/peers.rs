//! Where the real programs are that lsfast must get along with.

use std::path::{Path, PathBuf};

/// Litestream 0.5.17.
pub fn litestream() -> PathBuf {
    required("litestream", "LITESTREAM_BIN")
}

/// Litestream 0.3.13.
pub fn litestream_v03() -> PathBuf {
    required("litestream-v03", "LITESTREAM_V03_BIN")
}

/// SeaweedFS, an S3 server.
pub fn weed() -> PathBuf {
    required("weed", "WEED_BIN")
}

/// The folder of better-sqlite3, or why it cannot be used here. It is not required, because npm
/// may have to compile it.
pub fn better_sqlite3() -> Result<PathBuf, String> {
    let module = match std::env::var_os("BETTER_SQLITE3") {
        Some(path) => PathBuf::from(path),
        None => peers().join("node_modules/better-sqlite3"),
    };
    if !module.join("build/Release/better_sqlite3.node").is_file() {
        let path = module.display();
        return Err(format!("{path} is not there: run scripts/fetch-peers.sh better-sqlite3"));
    }
    match std::process::Command::new("node").arg("--version").output() {
        Ok(output) if output.status.success() => Ok(module),
        _ => Err("node does not run".to_owned()),
    }
}

/// The folder of apsw, a driver of SQLite for Python that has its session extension, or why it
/// cannot be used here.
pub fn apsw() -> Result<PathBuf, String> {
    let folder = peers().join("apsw");
    let mut python = std::process::Command::new("python3");
    python.env("PYTHONPATH", &folder).args(["-c", "import apsw; apsw.Session"]);
    match python.output() {
        Ok(output) if output.status.success() => Ok(folder),
        _ => Err(format!("python3 finds no apsw in {}: run scripts/fetch-peers.sh", folder.display())),
    }
}

/// target/PROFILE/lsfast -> target/peers
fn peers() -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_lsfast")).ancestors().nth(2).expect("the target folder");
    target.join("peers")
}

/// A test without its peer proves nothing, so it fails and says what to do.
fn required(name: &str, variable: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "{variable} names {}, which is no file", path.display());
        return path;
    }
    let path = peers().join(name);
    assert!(
        path.is_file(),
        "{} is not there: run scripts/fetch-peers.sh (as scripts/test.sh does), or set {variable}",
        path.display()
    );
    path
}
