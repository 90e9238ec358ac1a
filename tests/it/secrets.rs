//! No output of any command shows a secret, at the most talkative level.

use std::process::Command;

use crate::support::fault::{FaultServer, s3_error};
use crate::support::lsfast;
use crate::support::process::Process;
use crate::support::s3::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};
use crate::support::sqlite::{
    Workload, {self},
};

const TOKEN: &str = "the-session-token-that-no-output-may-show";
const CUSTOMER_KEY: &str = "a-customer-key-nobody-may-see-00";

fn shows_nothing(what: &str, text: &str) {
    for secret in [SECRET_KEY, TOKEN, CUSTOMER_KEY] {
        assert!(!text.contains(secret), "{what} shows a secret:\n{text}");
    }
    assert!(!text.contains("Signature="), "{what} shows a signature:\n{text}");
}

fn run(what: &str, command: Command) -> String {
    let output = lsfast::run(command);
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), lsfast::stderr(&output));
    shows_nothing(what, &text);
    text
}

#[test]
fn no_command_shows_a_secret_at_level_trace() {
    // I7: in the output of these commands, also when they fail.
    let s3 = S3Server::start();
    let faults = FaultServer::start(Some(s3.addr));
    let dir = tempfile::tempdir().expect("a temporary folder");
    let db = dir.path().join("app.db");
    let connection = sqlite::create(&db, 4096);
    let config = dir.path().join("lsfast.yml");
    let write = |more: &str| {
        let text = format!(
            "access-key-id: {ACCESS_KEY}\nsecret-access-key: {SECRET_KEY}\ndbs:\n  - path: {}\n    replica:\n      type: s3\n      \
             bucket: {BUCKET}\n      path: db\n      endpoint: http://{}\n      region: us-east-1\n      sse-customer-key: \
             {CUSTOMER_KEY}\n{more}",
            db.display(),
            faults.addr
        );
        std::fs::write(&config, text).expect("a file");
    };
    write("");
    let command = |args: &[&str]| {
        let mut command = lsfast::command(args);
        command.args(["--log-level", "trace", "--config"]).arg(&config);
        command
    };
    faults.push("GET", s3_error(503, "SlowDown"));
    for (status, code) in [(403, "AccessDenied"), (503, "SlowDown"), (400, "InvalidRequest")] {
        faults.push("PUT", s3_error(status, code));
    }
    let process = Process::start("lsfast replicate", command(&["replicate"]));
    process.wait_for_line("image stored");
    Workload::new(1).run(&connection, 20);
    shows_nothing("replicate", &process.stop());
    let db = db.display().to_string();
    let out = dir.path().join("out.db").display().to_string();
    for args in [
        &["explain"][..],
        &["explain", "--json"],
        &["doctor"],
        &["doctor", "--json"],
        &["databases"],
        &["restore", "-o", &out, &db],
        &["restore", "-dry-run", &db],
        &["points", &db],
        &["verify", &db],
    ] {
        run(&args.join(" "), command(args));
    }

    // A URL without its scheme, with keys.
    run("a mistyped URL", command(&["points", &format!("{ACCESS_KEY}:{SECRET_KEY}@host/bucket")]));

    // What is wrong with the file or the keys is said without them.
    write("      unknown-key: x\n");
    assert!(run("an unknown key", command(&["databases"])).contains("unknown-key"));
    write(&format!("      secret-access-key: {SECRET_KEY}\n"));
    run("a key beside another", command(&["databases"]));
    write(&format!(
        "      session-token: {TOKEN}\n      access-key-id: other\n      secret-access-key: {SECRET_KEY}\n"
    ));
    run("a key that is not known", command(&["restore", "-o", &out, "-force", &db]));

    let mut by_environment = lsfast::command(["restore", "-o", &out, "-force", "--log-level", "trace"]);
    by_environment
        .arg(format!("s3://{BUCKET}/db?endpoint=http://{}&region=us-east-1", faults.addr))
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .env("AWS_SESSION_TOKEN", TOKEN);
    run("keys of the environment", by_environment);
}
