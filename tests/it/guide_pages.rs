//! The guide (`docs/guide`), followed as a reader follows it: each `sh` block of each page runs, in
//! order, in one shell for the page, against SeaweedFS behind TLS with an authority of the test's
//! own. The names of the guide's providers lead there by `--resolve`.
//!
//! A comment in front of a block says what a reader knows from the text around it:
//!
//! | comment | meaning |
//! |---|---|
//! | `<!-- not run: REASON -->` | needs what a test has not, such as systemd or an account |
//! | `<!-- file: PATH -->` | the block, of any language, is the content of this file |
//! | `<!-- runs on -->` | one command that runs until `<!-- ends -->`, or to the end of the page |
//! | `<!-- until: TEXT -->` | repeated until its output has TEXT |
//! | `<!-- prints: TEXT -->` | its output has TEXT |
//! | `<!-- fails: CODE -->` | ends with this exit code |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::process::Process;
use crate::support::tls::TlsServer;
use crate::support::weed::{ACCESS_KEY, SECRET_KEY, Weed};
use crate::support::{http, lsfast, peers};

/// Folders of the guide that are below the folder of the test here.
const FOLDERS: [&str; 5] = ["/srv/", "/etc/", "/data/", "/var/lib/", "/mnt/"];

/// Endpoints of the guide. The bucket stands before them, or behind.
const ENDPOINTS: [&str; 8] = [
    "s3.us-east-1.amazonaws.com",
    "s3.eu-central-1.amazonaws.com",
    "nyc3.digitaloceanspaces.com",
    "0123456789abcdef0123456789abcdef.r2.cloudflarestorage.com",
    "s3.us-west-004.backblazeb2.com",
    "fsn1.your-objectstorage.com",
    "minio.example.com",
    "garage.example.com",
];
/// The bucket of all of them.
const BUCKET: &str = "my-bucket";

/// A fenced block of a page.
#[derive(Debug, PartialEq)]
struct Block {
    /// Number of the line of the fence.
    line: usize,
    language: String,
    text: String,
    /// What the comments in front of it say, as name and value.
    marks: Vec<(String, String)>,
    /// Whether what runs on is ended before it.
    ends: bool,
}

impl Block {
    fn mark(&self, name: &str) -> Option<&str> {
        self.marks.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    fn runs(&self) -> bool {
        self.language == "sh" && self.mark("not run").is_none() && self.mark("file").is_none()
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide")
}

fn page(name: &str) -> String {
    fs::read_to_string(folder().join(name)).unwrap_or_else(|e| panic!("docs/guide/{name}: {e}"))
}

/// The blocks of a page. Panics where a comment is misspelt.
fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let (mut marks, mut ends): (Vec<(String, String)>, bool) = (Vec::new(), false);
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if let Some(comment) = line.strip_prefix("<!-- ").and_then(|l| l.strip_suffix(" -->")) {
            let (name, value) = comment.split_once(": ").unwrap_or((comment, ""));
            match name {
                "ends" => ends = true,
                "not run" | "file" | "runs on" | "until" | "prints" | "fails" => {
                    marks.push((name.to_owned(), value.to_owned()));
                }
                _ => panic!("line {}: what does <!-- {comment} --> mean?", at + 1),
            }
        } else if let Some(language) = line.strip_prefix("```") {
            let body: Vec<&str> = lines.by_ref().map(|(_, l)| l).take_while(|l| *l != "```").collect();
            found.push(Block {
                line: at + 1,
                language: language.to_owned(),
                text: body.join("\n") + "\n",
                marks: std::mem::take(&mut marks),
                ends: std::mem::take(&mut ends),
            });
        } else if !line.is_empty() && !marks.is_empty() {
            panic!("line {}: a block follows its comments at once", at + 1);
        }
    }
    found
}

/// The text of a block, with the folders and keys of the test in the place of those of the guide.
fn here(text: &str, dir: &Path) -> String {
    let mut text = text.replace("YOUR_ACCESS_KEY", ACCESS_KEY).replace("YOUR_SECRET_KEY", SECRET_KEY);
    for folder in FOLDERS {
        // `file:///srv/x`, `/srv/x`, but not `/home/srv/x`.
        let marked = text.replace(&format!("//{folder}"), &format!("//\0{folder}"));
        let mut out = String::new();
        let mut rest = marked.as_str();
        while let Some(at) = rest.find(folder) {
            let before = rest[..at].chars().last();
            out.push_str(rest[..at].trim_end_matches('\0'));
            if before.is_none_or(|c| c == '\0' || " \n\"'=(`:".contains(c)) {
                let _ = write!(out, "{}", dir.display());
            }
            out.push_str(folder);
            rest = &rest[at + folder.len()..];
        }
        out.push_str(rest);
        text = out;
    }
    text
}

/// What a page's script begins with. A failed command ends it, with what was printed last.
const BEGIN: &str = r#"set -eu
exec 4>&1
running=
end_running() {
  [ -n "$running" ] || return 0
  # `lsfast promote` may have ended it.
  kill -TERM $running 2>/dev/null || true
  wait $running || { echo "what runs on ended with $?"; exit 1; }
  running=
}
at_end() {
  code=$?
  exec >&4 2>&4
  [ -z "$running" ] || kill -KILL $running || true
  [ $code = 0 ] || cat out.log running.log || true
  exit $code
}
trap at_end EXIT
# For a minute at most.
repeat_until() {
  tries=0
  until "$@"; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] || { echo "not so after a minute: $*"; exit 1; }
    sleep 0.1
  done
}
block_prints() { bash -eu block.sh >out.log 2>&1 && grep -qF -- "$1" out.log; }
# The first line of a replica comes once the lock of its database is held.
started() {
  grep -qE 'msg=following|waiting for the database|resuming from|storing an image|compar|newest state' running.log
}
"#;

/// The page as one script. It prints `BLOCK line` before each block.
fn script(blocks: &[Block], dir: &Path) -> String {
    let mut out = String::from(BEGIN);
    let file = |path: &str, text: &str| format!("cat > '{path}' <<'END_OF_FILE'\n{text}END_OF_FILE\n");
    for block in blocks {
        if block.ends {
            out.push_str("end_running\n");
        }
        let text = here(&block.text, dir);
        if let Some(path) = block.mark("file") {
            let path = here(path, dir);
            let _ = writeln!(out, "mkdir -p \"$(dirname '{path}')\"");
            out.push_str(&file(&path, &text));
            continue;
        }
        if !block.runs() {
            continue;
        }
        let _ = writeln!(out, "echo BLOCK {} >&4", block.line);
        if block.mark("runs on").is_some() {
            let command = text.trim_end().replace("\\\n", " ");
            assert!(!command.contains('\n'), "line {}: one command can run on", block.line);
            let _ = writeln!(out, "end_running\n( exec {command} ) >running.log 2>&1 &\nrunning=$!");
            out.push_str("repeat_until started\n");
        } else if let Some(wanted) = block.mark("until") {
            out.push_str(&file("block.sh", &text));
            let _ = writeln!(out, "repeat_until block_prints '{wanted}'");
        } else if let Some(code) = block.mark("fails") {
            out.push_str(&file("block.sh", &text));
            let _ = writeln!(out, "code=0; bash -eu block.sh >out.log 2>&1 || code=$?; [ $code = {code} ]");
        } else {
            let _ = writeln!(out, "exec >out.log 2>&1\n{text}exec >&4 2>&4");
        }
        if let Some(wanted) = block.mark("prints") {
            let _ = writeln!(
                out,
                "grep -qF -- '{wanted}' out.log || {{ echo 'it does not print: {wanted}'; exit 1; }}"
            );
        }
    }
    out.push_str("end_running\necho 'END OF PAGE'\n");
    out
}

/// Follows a page.
fn follow(name: &str) {
    let text = page(name);
    let blocks = blocks(&text);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let bin = dir.path().join("bin");
    for folder in ["bin", "srv", "etc", "data", "var/lib", "mnt"] {
        fs::create_dir_all(dir.path().join(folder)).expect("a folder");
    }
    let names_one = |b: &Block| ["s3://", "https://", "bucket:"].iter().any(|part| b.text.contains(part));
    let of_s3 = blocks.iter().any(|b| (b.runs() || b.mark("file").is_some()) && names_one(b));
    let store = of_s3.then(|| {
        let weed = Weed::start_for(&ENDPOINTS.join(","));
        let (status, _) =
            http::request(weed.address(), "PUT", &format!("/{BUCKET}"), b"").expect("an answer");
        assert_eq!(status, 200);
        let names: Vec<String> =
            ENDPOINTS.iter().flat_map(|e| [(*e).to_owned(), format!("{BUCKET}.{e}")]).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let tls = TlsServer::start(weed.address(), &names, &rustls::version::TLS13);
        (weed, tls)
    });
    // lsfast as the reader has it, but for where the names lead.
    let mut wrapper = format!("#!/bin/sh\nexec \"{}\"", env!("CARGO_BIN_EXE_lsfast"));
    if let Some((_, tls)) = &store {
        let _ = write!(wrapper, " --ca-cert \"{}\"", tls.ca().display());
        for endpoint in ENDPOINTS {
            for name in [endpoint.to_owned(), format!("{BUCKET}.{endpoint}")] {
                let _ = write!(wrapper, " --resolve={name}=127.0.0.1:{}", tls.addr.port());
            }
        }
    }
    let program = |name: &str, text: String| {
        fs::write(bin.join(name), text).expect("a file");
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).expect("a mode");
    };
    program("lsfast", wrapper + " \"$@\"\n");
    if text.contains("litestream ") {
        program("litestream", format!("#!/bin/sh\nexec \"{}\" \"$@\"\n", peers::litestream().display()));
    }
    fs::write(dir.path().join("page.sh"), script(&blocks, dir.path())).expect("a file");

    let mut command = Command::new("bash");
    command.arg("page.sh").current_dir(dir.path()).env_clear();
    let path = std::env::var("PATH").expect("a path of programs");
    command.env("PATH", format!("{}:{path}", bin.display())).env("HOME", dir.path());
    if store.is_some() {
        command.env("LITESTREAM_ACCESS_KEY_ID", ACCESS_KEY).env("LITESTREAM_SECRET_ACCESS_KEY", SECRET_KEY);
    }
    let mut process = Process::start(name, command);
    let status = process.wait();
    let output = process.output();
    assert!(status.success() && output.ends_with("END OF PAGE"), "docs/guide/{name}: {status}\n{output}");
}

macro_rules! pages {
    ($($test:ident = $page:literal,)*) => {
        /// Pages that have a test.
        const PAGES: &[&str] = &[$($page),*];
        $(#[test] fn $test() { follow($page); })*
    };
}

pages! {
    the_first_replica = "first-replica.md",
    the_stores = "stores.md",
    the_commands_in_use = "usage.md",
    the_containers = "containers.md",
    the_unit_of_systemd = "systemd.md",
    the_applications = "frameworks.md",
    the_way_from_litestream_and_back = "litestream.md",
    the_runbook = "runbook.md",
    the_way_back_from_a_mistake = "recover.md",
    the_monitoring = "monitoring.md",
    the_messages = "troubleshooting.md",
    the_questions = "faq.md",
}

#[test]
fn each_page_is_in_the_summary_and_each_that_has_commands_is_followed() {
    let summary = fs::read_to_string(folder().join("../SUMMARY.md")).expect("docs/SUMMARY.md");
    let mut commands = 0;
    for entry in fs::read_dir(folder()).expect("a folder") {
        let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
        assert!(summary.contains(&format!("(guide/{name})")), "{name} is not in docs/SUMMARY.md");
        let blocks = blocks(&page(&name));
        commands += blocks.iter().filter(|b| b.runs()).count();
        let indented = page(&name).lines().any(|l| l.starts_with("    lsfast "));
        assert!(!indented, "{name}: commands are in fenced blocks, so that they are followed");
        let followed = PAGES.contains(&name.as_str());
        assert!(followed || !blocks.iter().any(Block::runs), "no test follows {name}");
        for block in blocks.iter().filter(|b| b.language == "sh") {
            let reason = block.mark("not run");
            assert!(reason.is_none_or(|r| r.len() > 10), "{name}:{}: why is it not run?", block.line);
        }
        // What is not run has a name, so that nothing escapes by its language.
        let known =
            ["sh", "sql", "yaml", "text", "json", "python", "ruby", "php", "js", "dockerfile", "ini", "toml"];
        for block in &blocks {
            assert!(known.contains(&block.language.as_str()), "{name}:{}: {:?}", block.line, block.language);
        }
    }
    assert!(commands > 30, "only {commands} blocks of commands found");
}

/// The folders, config files, replicas and outputs that a text of commands names.
fn places(text: &str) -> BTreeSet<String> {
    let part = |text: &str| -> String {
        text.chars().take_while(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect()
    };
    let mut found = BTreeSet::new();
    // Without comments.
    let text: String =
        text.lines().map(|l| l.split(" #").next().unwrap_or_default().to_owned() + "\n").collect();
    for prefix in ["/srv/", "/data/", "/mnt/backup/", "/etc/", "my-bucket", " -o "] {
        for (at, _) in text.match_indices(prefix) {
            let mut rest = &text[at + prefix.len()..];
            if prefix == "my-bucket" {
                // The host, if there is one, and the slash after it.
                let Some(slash) =
                    rest.find('/').filter(|n| rest[..*n].chars().all(|c| c != ' ' && c != '\n'))
                else {
                    continue;
                };
                rest = &rest[slash + 1..];
            }
            let name = part(rest);
            if !name.is_empty() {
                found.insert(format!("{prefix}{name}"));
            }
        }
    }
    found
}

/// A page began with the database and the replica that the one before had left.
#[test]
fn no_two_pages_use_the_same_places() {
    let mut users: BTreeMap<String, &str> = BTreeMap::new();
    for &name in PAGES {
        let text = page(name);
        for block in blocks(&text).iter().filter(|b| b.runs() || b.mark("file").is_some()) {
            for place in places(&format!("{}\n{}", block.text, block.mark("file").unwrap_or_default())) {
                let user = *users.entry(place.clone()).or_insert(name);
                assert_eq!(user, name, "{name}:{}: {place} is of another page", block.line);
            }
        }
    }
    assert!(users.len() > 20, "{users:?}");
}

#[test]
fn the_runbook_has_a_place_for_each_alert() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = fs::read_to_string(root.join("packaging/monitoring/alerts.yml")).expect("the rules");
    let runbook = page("runbook.md");
    let mut alerts = 0;
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().expect("a name");
        assert!(runbook.contains(&format!("\n### {name}\n\n")), "docs/guide/runbook.md lacks {name}");
        let place = format!("runbook: docs/guide/runbook.md#{}\n", name.to_lowercase());
        assert!(rule.contains(&place), "{name}: its annotation is not {place}");
        alerts += 1;
    }
    assert!(alerts > 10, "{alerts} alerts");
}

#[test]
fn a_command_that_fails_or_prints_other_things_is_found() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let run = |page: &str| {
        let text = script(&blocks(page), dir.path());
        let mut command = Command::new("bash");
        command.arg("-c").arg(text).current_dir(dir.path());
        let output = lsfast::run(command);
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("END OF PAGE")
    };
    assert!(run("```sh\ntrue\n```\n"));
    assert!(!run("```sh\nfalse\n```\n"));
    assert!(!run("```sh\nfalse\ntrue\n```\n"));
    assert!(run("<!-- not run: it fails here -->\n```sh\nfalse\n```\n"));
    assert!(run("<!-- prints: word -->\n```sh\necho word\n```\n"));
    assert!(!run("<!-- prints: word -->\n```sh\necho other\n```\n"));
    assert!(run("<!-- fails: 3 -->\n```sh\nexit 3\n```\n"));
    assert!(!run("<!-- fails: 3 -->\n```sh\nexit 4\n```\n"));
    assert!(run("<!-- file: a/b -->\n```yaml\nx\n```\n\n```sh\ntest -s a/b\n```\n"));
}

#[test]
fn folders_of_the_guide_become_those_of_the_test() {
    let dir = Path::new("/tmp/t");
    let text = here("cp /srv/a file:///srv/b \"/etc/c\" x=/data/d /home/data/e", dir);
    assert_eq!(text, "cp /tmp/t/srv/a file:///tmp/t/srv/b \"/tmp/t/etc/c\" x=/tmp/t/data/d /home/data/e");
}
