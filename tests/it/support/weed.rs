//! SeaweedFS as an S3 server of the test's own, on ports and in a folder of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::process::Process;
use super::{http, peers};

/// Access key that the server accepts.
pub const ACCESS_KEY: &str = "AKIDWEED";
/// Its secret.
pub const SECRET_KEY: &str = "weed-secret";
/// The bucket that is there from the start.
pub const BUCKET: &str = "backups";

/// One that takes an object does so within some seconds.
const READY: Duration = Duration::from_secs(20);

/// A running server. Ends with the test.
#[derive(Debug)]
pub struct Weed {
    process: Process,
    s3: SocketAddr,
    ports: Vec<u16>,
    _dir: TempDir,
}

impl Weed {
    /// Starts a server and waits until it has stored an object.
    pub fn start() -> Weed {
        Weed::start_with(None)
    }

    /// As [`start`](Weed::start), where buckets are also found in the host name: `BUCKET.domain`.
    pub fn start_for(domain: &str) -> Weed {
        Weed::start_with(Some(domain))
    }

    fn start_with(domain: Option<&str>) -> Weed {
        // Between choosing free ports and their use somebody else may take one: then
        // others are tried. Now
        // and then one comes up and never takes an object.
        let mut said = String::new();
        for _ in 0..5 {
            match Weed::try_start(domain) {
                Ok(weed) => return weed,
                Err(output) => said = output,
            }
        }
        panic!("weed does not get ready, five times over:\n{said}");
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.s3)
    }

    /// Address of the S3 port. Unsigned requests may do everything, so that a test can look and
    /// meddle.
    pub fn address(&self) -> SocketAddr {
        self.s3
    }

    /// What it said, if it ended or did not get ready.
    fn try_start(domain: Option<&str>) -> Result<Weed, String> {
        let begun = Instant::now();
        let dir = tempfile::tempdir().expect("a temporary folder");
        let keys = serde_json::json!({ "identities": [
            { "name": "tester",
              "credentials": [{ "accessKey": ACCESS_KEY, "secretKey": SECRET_KEY }],
              "actions": ["Admin", "Read", "Write", "List", "Tagging"] },
            { "name": "anonymous", "actions": ["Admin", "Read", "Write", "List"] } ] });
        let config = dir.path().join("s3.json");
        std::fs::write(&config, keys.to_string()).expect("the keys");
        let data = dir.path().join("data");
        std::fs::create_dir(&data).expect("a folder");
        let ports = free_ports(8);
        let mut command = Command::new(peers::weed());
        command.args(["-logtostderr=true", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]);
        command.args(["-master.telemetry=false", "-master.electionTimeout=1s", "-volume.max=0"]);
        command.args(["-master.volumeSizeLimitMB=64", "-filer", "-s3", "-s3.iam=false"]);
        command.args(["-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0"]);
        command.arg(format!("-dir={}", data.display()));
        command.arg(format!("-s3.config={}", config.display()));
        command.arg(format!("-filer.localSocket={}", dir.path().join("filer.sock").display()));
        command.args(domain.map(|d| format!("-s3.domainName={d}")));
        let names = ["master", "volume", "filer", "s3"]
            .iter()
            .flat_map(|n| [format!("{n}.port"), format!("{n}.port.grpc")]);
        for (name, port) in names.zip(&ports) {
            command.arg(format!("-{name}={port}"));
        }
        let s3 = SocketAddr::from((Ipv4Addr::LOCALHOST, ports[6]));
        let process = Process::start("weed", command);
        let mut weed = Weed { process, s3, ports, _dir: dir };
        let done =
            |path: &str| http::request(s3, "PUT", path, b"ready?").is_ok_and(|(status, _)| status == 200);
        let bucket = format!("/{BUCKET}");
        let object = format!("/{BUCKET}/ready");
        let mut bucket_made = false;
        while weed.process.runs() {
            bucket_made = bucket_made || done(&bucket);
            if bucket_made && done(&object) {
                http::request(s3, "DELETE", &object, b"").expect("an answer");
                return Ok(weed);
            }
            if begun.elapsed() > READY {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(weed.process.output())
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        // It makes sockets outside of its folder, named by port. The process itself ends
        // with its field.
        for port in &self.ports {
            for part in ["master-grpc", "volume-grpc", "filer-grpc", "s3-grpc", "s3"] {
                _ = std::fs::remove_file(format!("/tmp/seaweedfs-{part}-{port}.sock"));
            }
        }
    }
}

/// Ports that were free a moment ago.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port")).collect();
    listeners.iter().map(|l| l.local_addr().expect("an address").port()).collect()
}
