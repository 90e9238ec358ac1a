//! Litestream's control requests, sent by Litestream's own program and by ours.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::case::Case;
use crate::support::process::{Process, until};
use crate::support::sqlite::{
    Workload, {self},
};
use crate::support::{lsfast, peers};

struct Control {
    case: Case,
    socket: PathBuf,
}

impl Control {
    /// A process with a socket and these databases.
    fn start(databases: &[&str], more: &str) -> (Control, Process) {
        let case = Case::new();
        let dir = case.dir.path().display();
        let mut text = format!("socket: {{enabled: true, path: {dir}/all.sock}}\n{more}dbs:\n");
        for name in databases {
            Workload::new(1).run(&sqlite::create(&case.path(name), 4096), 3);
            text += &format!("- path: {dir}/{name}\n  replica:\n    path: {dir}/to-{name}\n");
        }
        if databases.is_empty() {
            text = text.replace("dbs:\n", "dbs: []\n");
        }
        std::fs::write(case.path("lsfast.yml"), text).expect("a file");
        let mut command = lsfast::command(["replicate", "-log-level", "debug", "-config"]);
        command.arg(case.path("lsfast.yml"));
        let process = Process::start("lsfast replicate", command);
        let control = Control { socket: case.path("all.sock"), case };
        until("the socket", || UnixStream::connect(&control.socket).ok());
        for name in databases {
            control.case.place.wait_for_txid(&format!("to-{name}"), 0, 1);
        }
        (control, process)
    }

    /// What one of the two programs prints as JSON.
    fn ask(&self, mut program: Command, command: &str, args: &[&str]) -> Result<Value, String> {
        program.env_clear().arg(command).arg("-json").arg("-socket").arg(&self.socket).args(args);
        let output = program.output().expect("it starts");
        match output.status.success() {
            true => Ok(serde_json::from_slice(&output.stdout).expect("JSON")),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    fn path(&self, name: &str) -> String {
        self.case.path(name).display().to_string()
    }
}

fn litestream() -> Command {
    Command::new(peers::litestream())
}

fn ours() -> Command {
    Command::new(env!("CARGO_BIN_EXE_lsfast"))
}

/// One request as a client of any kind sends it. Returns the status code and the body.
fn post(socket: &std::path::Path, path: &str, body: &str) -> (u16, String) {
    receive(send(socket, path, body))
}

fn send(socket: &std::path::Path, path: &str, body: &str) -> UnixStream {
    let mut stream = UnixStream::connect(socket).expect("a socket");
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).expect("a request");
    stream
}

fn receive(mut stream: UnixStream) -> (u16, String) {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer[9..12].parse().expect("a status");
    (status, answer.split_once("\r\n\r\n").expect("a body").1.to_owned())
}

/// The whole life of a database, by Litestream's program and then by ours.
#[test]
fn a_client_of_litestream_registers_syncs_stops_starts_and_unregisters() {
    let (it, mut process) = Control::start(&["named.db"], "");
    for (n, program) in [litestream as fn() -> Command, ours].into_iter().enumerate() {
        let name = format!("new{n}.db");
        let (db, replica) = (it.path(&name), format!("file://{}", it.path(&format!("to-{name}"))));
        let connection = sqlite::create(&it.case.path(&name), 4096);
        let mut work = Workload::new(2);
        work.run(&connection, 3);
        for status in ["registered", "already_registered"] {
            let said = it.ask(program(), "register", &["-replica", &replica, &db]).expect("registered");
            assert_eq!((&said["status"], &said["db_path"]), (&status.into(), &db.clone().into()));
            assert_eq!(said["replica"], replica.as_str());
        }
        // What is committed before the request is stored when it is answered.
        for _ in 0..15 {
            work.run(&connection, 1);
            let said = it.ask(program(), "sync", &["-wait", &db]).expect("synced");
            assert_eq!(said["txid"], said["replica_txid"], "{said}");
            it.case.until_restored_as(&format!("to-{name}"), &name);
        }
        let said = it.ask(program(), "sync", &[&db]).expect("synced");
        assert!(said["duration_ms"].is_u64() && said.get("replica_txid").is_none(), "{said}");
        let list = it.ask(program(), "list", &[]).expect("a list");
        let found =
            list["databases"].as_array().expect("databases").iter().find(|d| d["path"] == db.as_str());
        let found = found.expect("the database");
        assert!(found["status"] == "replicating" && found["last_sync_at"].is_string(), "{found}");
        let info = it.ask(program(), "info", &[]).expect("the process");
        assert_eq!(info["database_count"], 2, "{info}");
        assert!(info["pid"].is_u64() && info["uptime_seconds"].is_u64(), "{info}");

        work.run(&connection, 2);
        for status in ["stopped", "already_stopped"] {
            let said = it.ask(program(), "stop", &[&db]).expect("stopped");
            assert_eq!((&said["status"], &said["state"]), (&status.into(), &"stopped".into()));
            assert!(said["txid"].as_u64().expect("a TXID") > 0);
        }
        it.case.until_restored_as(&format!("to-{name}"), &name);
        let refused = it.ask(program(), "sync", &["-wait", &db]).expect_err("stopped");
        assert!(refused.contains("database not open"), "{refused}");
        for status in ["started", "already_running"] {
            let said = it.ask(program(), "start", &[&db]).expect("started");
            assert_eq!((&said["status"], &said["state"]), (&status.into(), &"running".into()));
        }
        work.run(&connection, 2);
        it.ask(program(), "sync", &["-wait", &db]).expect("synced");
        it.case.until_restored_as(&format!("to-{name}"), &name);
        work.run(&connection, 2);
        for status in ["unregistered", "already_unregistered"] {
            let said = it.ask(program(), "unregister", &[&db]).expect("unregistered");
            assert_eq!(said["status"], status, "{said}");
        }
        it.case.until_restored_as(&format!("to-{name}"), &name);
        let refused = it.ask(program(), "sync", &[&db]).expect_err("unknown");
        assert!(refused.contains("database not found"), "{refused}");
        for command in ["start", "stop"] {
            let refused = it.ask(program(), command, &[&db]).expect_err("unknown");
            assert!(refused.contains("database not found"), "{refused}");
        }
        let refused =
            it.ask(program(), "register", &["-replica", "ftp://host/x", &db]).expect_err("a wrong URL");
        assert!(refused.contains("invalid replica url"), "{refused}");
    }
    assert!(process.runs());
    process.signal("TERM");
    assert!(process.wait().success(), "{}", process.output());
}

/// The answers themselves, as a client without Litestream's program sees them.
#[test]
fn answers_have_the_status_codes_and_fields_of_litestream() {
    let (it, process) = Control::start(&["app.db"], "");
    let (db, all) = (it.path("app.db"), &it.socket);
    let body = |more: &str| format!("{{\"path\":\"{db}\"{more}}}");
    // The image may still be on its way.
    assert_eq!(post(all, "/sync", &body(",\"wait\":true,\"timeout\":60")).0, 200);
    let (status, text) = post(all, "/sync", &body(",\"wait\":true,\"timeout\":60"));
    assert_eq!(status, 200, "{text}");
    assert!(text.starts_with("{\"status\":\"no_change\",\"path\":") && text.ends_with("}\n"), "{text}");
    let (status, text) = post(all, "/stop", &body(""));
    assert!(
        status == 200 && text.contains("\"status\":\"stopped\"") && text.contains("\"txid\":1"),
        "{text}"
    );
    assert_eq!(post(all, "/sync", &body("")).0, 409);
    let (status, text) = post(all, "/start", &body(""));
    assert!(status == 200 && text.contains("\"status\":\"started\""), "{text}");
    assert_eq!(post(all, "/sync", "{\"path\":\"/no/such.db\"}").0, 404);
    assert_eq!(post(all, "/stop", "{\"path\":\"/no/such.db\"}").0, 500);
    for (path, body, why) in [
        ("/sync", "{}", "path required"),
        ("/register", "{\"path\":\"/a.db\"}", "replica_url required"),
        ("/register", "{\"path\":\"/a.db\",\"replica_url\":\"s3://\"}", "invalid replica url"),
        ("/stop", "no JSON", "invalid request body"),
    ] {
        let (status, text) = post(all, path, body);
        assert_eq!(status, 400, "{text}");
        let said: Value = serde_json::from_str(&text).expect("JSON");
        assert!(said["error"].as_str().expect("a reason").starts_with(why), "{text}");
    }
    // The socket next to the database serves it alone, and changes nothing.
    let own = it.case.path(".app.db-lsfast/socket");
    until("the socket of the database", || UnixStream::connect(&own).ok());
    assert_eq!(post(&own, "/sync", &body(",\"wait\":true")).0, 200);
    assert_eq!(post(&own, "/sync", "{\"path\":\"/no/such.db\"}").0, 404);
    for command in ["/stop", "/start", "/unregister", "/register"] {
        assert_eq!(post(&own, command, &body("")).0, 403, "{command}");
    }
    use std::os::unix::fs::PermissionsExt as _;
    for socket in [all, &own] {
        let mode = std::fs::metadata(socket).expect("a socket").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", socket.display());
    }
    process.stop();
}

/// How often the threads of a process had to be woken, because they had given up the processor.
fn wakes(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let status = threads.flatten().filter_map(|t| std::fs::read_to_string(t.path().join("status")).ok());
    let count = |text: String| {
        let line = text.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:").map(str::to_owned));
        line.expect("a count").trim().parse::<u64>().expect("a number")
    };
    status.map(count).sum()
}

/// Commit wait: each of many waits costs no batch of its own.
#[test]
fn a_thousand_waits_share_a_batch_and_none_forces_one_where_nothing_is_to_be_stored() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("more descriptors");
    let (it, process) = Control::start(&["app.db"], "");
    let db = it.path("app.db");
    let connection = sqlite::open(&it.case.path("app.db"));
    let body = format!("{{\"path\":\"{db}\",\"wait\":true,\"timeout\":100}}");
    let wait = |n: usize| {
        let before = wakes(process.id());
        let all: Vec<_> = (0..n).map(|_| send(&it.socket, "/sync", &body)).collect();
        for stream in all {
            let (status, text) = receive(stream);
            assert_eq!(status, 200, "{text}");
        }
        wakes(process.id()) - before
    };
    wait(1);
    let before = it.case.place.last_txid("to-app.db", 0);
    wait(1_000);
    assert_eq!(it.case.place.last_txid("to-app.db", 0), before, "nothing was committed");
    Workload::new(7).run(&connection, 1);
    let woken = wait(1_000);
    let after = it.case.place.last_txid("to-app.db", 0);
    assert!((before + 1..=before + 2).contains(&after), "{before} to {after}");
    // A connection, its request, the database's loop, and the answer may each wake a thread.
    assert!(woken < 6_000, "1,000 waits woke threads {woken} times");
    it.case.until_restored_as("to-app.db", "app.db");
    process.stop();
}

#[test]
fn a_process_begins_without_a_database_where_its_socket_can_name_some() {
    let (it, process) = Control::start(&[], "");
    let connection = sqlite::create(&it.case.path("new.db"), 4096);
    Workload::new(3).run(&connection, 3);
    it.ask(ours(), "register", &["-replica", &it.path("to-new"), &it.path("new.db")]).expect("registered");
    it.ask(ours(), "sync", &["-wait", &it.path("new.db")]).expect("synced");
    it.case.until_restored_as("to-new", "new.db");
    it.ask(ours(), "unregister", &[&it.path("new.db")]).expect("unregistered");
    process.stop();
}
