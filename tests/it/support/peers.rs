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

/// A test without its peer proves nothing, so it fails and says what to do.
fn required(name: &str, variable: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        let path = PathBuf::from(path);
        assert!(path.is_file(), "{variable} names {}, which is no file", path.display());
        return path;
    }
    // target/PROFILE/lsfast -> target/peers/NAME
    let target = Path::new(env!("CARGO_BIN_EXE_lsfast")).ancestors().nth(2).expect("the target folder");
    let path = target.join("peers").join(name);
    assert!(
        path.is_file(),
        "{} is not there: run scripts/fetch-peers.sh (as scripts/test.sh does), or set {variable}",
        path.display()
    );
    path
}
