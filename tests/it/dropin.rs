//! Spellings that users of Litestream and of shells bring with them.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::support::case::Case;
use crate::support::process::Process;
use crate::support::sqlite::{
    Workload, {self},
};
use crate::support::{lsfast, peers};

/// What a command prints, which must end with this exit code.
fn printed<I: AsRef<OsStr>>(code: i32, args: impl IntoIterator<Item = I>) -> String {
    let output = lsfast::run(lsfast::command(args));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}{}", lsfast::stderr(&output));
    text
}

fn replicated(case: &Case, name: &str, replica: &str) {
    Workload::new(1).run(&sqlite::create(&case.path(name), 4096), 5);
    let mut command = lsfast::command(["replicate", "-once"]);
    command.arg(case.path(name)).arg(replica);
    let output = lsfast::run(command);
    assert!(output.status.success(), "{}", lsfast::stderr(&output));
}

/// The URL had to be given again, although this host knew it.
#[test]
fn commands_find_the_replica_that_a_database_was_last_replicated_to() {
    let case = Case::new();
    // A directory by its path alone, with a character that a URL would encode.
    let replica = case.path("a copy%").display().to_string();
    replicated(&case, "app.db", &replica);
    assert!(case.path("a copy%/ltx/0").is_dir());
    let db = case.path("app.db").display().to_string();
    for command in ["verify", "points", "ltx"] {
        let text = printed(0, [command, &db]);
        assert!(text.contains("0000000000000001"), "{command}: {text}");
    }
    let out = case.path("out.db").display().to_string();
    printed(0, ["restore", "-o", &out, &db]);
    assert_eq!(sqlite::dump_hash(Path::new(&out)), sqlite::dump_hash(&case.path("app.db")));
    // The same by the path of the directory.
    printed(0, ["restore", "-force", "-o", &out, &replica]);
    let output = lsfast::run(lsfast::command(["replicate", "-once", &db, &db]));
    assert_eq!(output.status.code(), Some(1));
    assert!(lsfast::stderr(&output).contains("is a file: a replica is a directory"));
}

#[test]
fn a_replica_is_verified_against_a_database_that_no_file_names_and_all_of_a_file_at_once() {
    let case = Case::new();
    for name in ["one", "two"] {
        replicated(&case, &format!("{name}.db"), &case.path(&format!("to-{name}")).display().to_string());
    }
    let path = |name: &str| case.path(name).display().to_string();
    let text = printed(0, ["verify", &path("one.db"), &format!("file://{}", path("to-one"))]);
    assert!(text.contains("pages are equal"), "{text}");
    let entry = |name: &str| {
        format!(
            "- path: {}\n  replica:\n    path: {}\n",
            path(&format!("{name}.db")),
            path(&format!("to-{name}"))
        )
    };
    std::fs::write(case.path("lsfast.yml"), format!("dbs:\n{}{}", entry("one"), entry("two")))
        .expect("a file");
    let config = path("lsfast.yml");
    let text = printed(0, ["verify", "-all", "-config", &config]);
    assert_eq!(text.matches("sound: ").count(), 2, "{text}");
    let object = printed(0, ["verify", "-all", "-json", "-config", &config]);
    let object: serde_json::Value = serde_json::from_str(&object).expect("JSON");
    assert_eq!(object["replicas"].as_array().expect("replicas").len(), 2);
    // The worst counts.
    let file = case
        .place
        .names("to-two", 0)
        .first()
        .map(|name| case.path("to-two/ltx/0").join(name))
        .expect("a file");
    std::fs::write(file, b"cut").expect("a file");
    let text = printed(4, ["verify", "-all", "-config", &config]);
    assert!(text.contains("sound: ") && text.contains("newest state lost: "), "{text}");
}

/// A script that reads Litestream's JSON reads ours. Each command is asked of both programs.
#[test]
fn json_has_the_fields_of_litestream_where_they_are_asked_for() {
    let case = Case::new();
    let path = |name: &str| case.path(name).display().to_string();
    let (db, out, config) = (path("app.db"), path("out.db"), path("lsfast.yml"));
    replicated(&case, "app.db", &path("replica"));
    std::fs::write(&config, format!("dbs:\n- path: {db}\n  replica:\n    path: {}\n", path("replica")))
        .expect("a file");
    let read = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).expect("JSON");
    let ask = |command: &[&str]| {
        let ours = [&["-config", &config, "-json=litestream"], &command[1..]].concat();
        let ours = printed(0, [&command[..1], &ours].concat());
        let _ = std::fs::remove_file(&out);
        let theirs = [&["-config", &config, "-json"], &command[1..]].concat();
        let output = Command::new(peers::litestream()).arg(command[0]).args(theirs).output();
        let output = output.expect("Litestream");
        assert!(output.status.success(), "{}", lsfast::stderr(&output));
        (read(ours.as_bytes()), read(&output.stdout))
    };
    for command in [&["databases"][..], &["ltx", &db], &["ltx", "-level", "all", &db]] {
        let (ours, theirs) = ask(command);
        assert!(ours == theirs && ours[0].is_object(), "{ours}\n{theirs}");
    }
    let (mut ours, mut theirs) = ask(&["restore", "-o", &out, &db]);
    for answer in [&mut ours, &mut theirs] {
        let duration = answer.as_object_mut().and_then(|fields| fields.remove("duration_ms"));
        assert!(duration.is_some_and(|ms| ms.is_u64()), "{answer}");
    }
    assert_eq!(ours, theirs);
    // What it calls local are files that it keeps next to the database.
    let (ours, theirs) = ask(&["status"]);
    let txid = ours[0]["local_txid"].clone();
    assert_eq!(
        (&ours[0]["status"], txid),
        (&"ok".into(), format!("{:016x}", case.place.last_txid("replica", 0)).into())
    );
    let fields = |answer: &serde_json::Value| {
        answer[0].as_object().expect("an object").keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(fields(&ours), fields(&theirs));
    assert_eq!(
        (&ours[0]["database"], &ours[0]["wal_size"]),
        (&theirs[0]["database"], &theirs[0]["wal_size"])
    );
}

#[test]
fn flags_variables_and_times_of_others_are_understood() {
    let case = Case::new();
    let replica = case.path("replica").display().to_string();
    replicated(&case, "app.db", &replica);
    let all = printed(0, ["ltx", "-level", "all", &replica]);
    assert_eq!(all, printed(0, ["ltx", &replica]));
    assert!(printed(0, ["version", "-verbose"]).contains("SQLite options: "));
    let out = case.path("out.db").display().to_string();
    let seconds =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs() + 5;
    for time in ["now", &seconds.to_string(), "0s"] {
        printed(0, ["restore", "-force", "-o", &out, "-timestamp", time, &replica]);
    }
    printed(1, ["restore", "-force", "-o", &out, "-timestamp", "10m", &replica]);
    // The process id, and the level of the log.
    let config = case.path("lsfast.yml");
    let (db, to) = (case.path("app.db"), case.path("by"));
    std::fs::write(
        &config,
        format!("dbs:\n- path: {}\n  replica:\n    path: {}/$PID\n", db.display(), to.display()),
    )
    .expect("a file");
    let mut command = lsfast::command(["replicate", "-config"]);
    command.arg(&config).env("LOG_LEVEL", "debug").env("PID", "7");
    let process = Process::start("lsfast replicate", command);
    process.wait_for_line("level=debug");
    let id = process.id();
    case.place.wait_for_txid(&format!("by/{id}"), 0, 1);
    process.stop();
}
