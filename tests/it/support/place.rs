//! Where a replica lives in a test, said in the words of each program.

use std::path::{Path, PathBuf};

use super::s3::{
    S3Server, {self},
};
use super::weed::{
    Weed, {self},
};
use super::{http, process};

/// A place for replicas, named by a prefix each.
pub enum Place {
    /// Below a directory.
    Dir(PathBuf),
    /// In SeaweedFS.
    Weed(Weed),
    /// In the S3 server of this process.
    S3s(S3Server),
}

impl Place {
    /// The URL that lsfast takes.
    pub fn url(&self, prefix: &str) -> String {
        match self {
            Place::Dir(dir) => format!("file://{}", dir.join(prefix).display()),
            Place::Weed(weed) => format!(
                "s3://{}/{prefix}?endpoint={}&region=us-east-1&force-path-style=true",
                weed::BUCKET,
                weed.endpoint()
            ),
            Place::S3s(server) => format!("{}&region=us-east-1&force-path-style=true", server.url(prefix)),
        }
    }

    /// The replica in Litestream's configuration file.
    pub fn litestream_yaml(&self, prefix: &str) -> String {
        match self {
            Place::Dir(dir) => format!("type: file\npath: {}", dir.join(prefix).display()),
            Place::Weed(weed) => s3_yaml(weed::BUCKET, prefix, &weed.endpoint()),
            Place::S3s(server) => s3_yaml(s3::BUCKET, prefix, &format!("http://{}", server.addr)),
        }
    }

    /// Credentials, for both programs.
    pub fn env(&self) -> Vec<(String, String)> {
        let keys = match self {
            Place::Dir(_) => return Vec::new(),
            Place::Weed(_) => (weed::ACCESS_KEY, weed::SECRET_KEY),
            Place::S3s(_) => (s3::ACCESS_KEY, s3::SECRET_KEY),
        };
        [("AWS_ACCESS_KEY_ID", keys.0), ("AWS_SECRET_ACCESS_KEY", keys.1)]
            .map(|(name, value)| (String::from(name), String::from(value)))
            .to_vec()
    }

    /// Names of the LTX files of a level, in order.
    pub fn names(&self, prefix: &str, level: u8) -> Vec<String> {
        let mut names = match self {
            Place::Dir(dir) => files(&dir.join(prefix).join("ltx").join(level.to_string())),
            Place::S3s(server) => files(&server.bucket_dir().join(prefix).join(format!("{level:04x}"))),
            Place::Weed(weed) => {
                let folder = format!("{prefix}/{level:04x}/");
                let path = format!("/{}?list-type=2&max-keys=1000&prefix={folder}", weed::BUCKET);
                let (status, body) = http::request(weed.address(), "GET", &path, b"").expect("an answer");
                assert_eq!(status, 200);
                let body = String::from_utf8(body).expect("UTF-8");
                assert!(body.contains("<IsTruncated>false"), "more than one page of names");
                let keys = body.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
                keys.filter_map(|(key, _)| key.strip_prefix(&folder)).map(String::from).collect()
            }
        };
        names.retain(|n| Path::new(n).extension().is_some_and(|e| e == "ltx"));
        names.sort();
        names
    }

    /// The largest TXID of a level, 0 for none.
    pub fn last_txid(&self, prefix: &str, level: u8) -> u64 {
        let max = |name: &String| name.get(17..33).and_then(|hex| u64::from_str_radix(hex, 16).ok());
        self.names(prefix, level).iter().filter_map(max).max().unwrap_or(0)
    }

    /// Waits until a level reaches a TXID.
    pub fn wait_for_txid(&self, prefix: &str, level: u8, txid: u64) {
        process::until(&format!("level {level} to reach TXID {txid}"), || {
            (self.last_txid(prefix, level) >= txid).then_some(())
        });
    }
}

fn s3_yaml(bucket: &str, prefix: &str, endpoint: &str) -> String {
    format!(
        "type: s3\nbucket: {bucket}\npath: {prefix}\nendpoint: {endpoint}\nregion: us-east-1\nforce-path-style: true"
    )
}

fn files(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.map(|e| e.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
}
