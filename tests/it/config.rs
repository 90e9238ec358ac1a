//! Config files as people have them, and what becomes of them.
//!
//! `tests/config/good/NAME.yml` is explained as in `NAME.txt` beside it;
//! `tests/config/bad/NAME.yml` is refused with the message in `NAME.txt`. `LSFAST_BLESS=1` writes
//! the `.txt` files anew: read the difference before it is committed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use lsfast::config::file::{Config, default_paths};
use lsfast::config::{Ambiguity, EndpointUrl, Env, Kind, Origin, Overrides, Reading, TlsOptions};
use lsfast::store::s3::probe_endpoint::settle;

use crate::support::canned;

/// No output may hold this word: it stands in the place of every secret.
const SECRET: &str = "HUSH-HUSH";

fn env() -> Env {
    Env::new([
        ("HOME", "/home/me"),
        ("LITESTREAM_ACCESS_KEY_ID", "LSKEY0000000"),
        ("LITESTREAM_SECRET_ACCESS_KEY", SECRET),
        ("LITESTREAM_REPLICA_BUCKET", "app-backups"),
        ("R2_ACCOUNT", "0123456789abcdef0123456789abcdef"),
        ("R2_KEY", "R2KEY0000000"),
        ("R2_SECRET", SECRET),
        ("DATABASE_PATH", "/data/sqlite.db"),
        ("BUCKET_NAME", "still-water-1234"),
        ("EMPTY", ""),
    ])
    .in_directory("/srv")
}

/// What `fly storage create` sets, for the files that are called so.
fn env_of(name: &str) -> Env {
    if !name.starts_with("fly-") {
        return env();
    }
    Env::new([
        ("DATABASE_PATH", "/data/sqlite.db"),
        ("BUCKET_NAME", "still-water-1234"),
        ("AWS_ENDPOINT_URL_S3", "https://fly.storage.tigris.dev"),
        ("AWS_REGION", "auto"),
        ("AWS_ACCESS_KEY_ID", "tid_0000000000"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
    ])
}

fn files(folder: &str) -> Vec<(String, String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(folder);
    let mut found: Vec<_> = fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "yml"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_str().expect("UTF-8").to_owned();
            (name, fs::read_to_string(&path).expect("a config file"), path.with_extension("txt"))
        })
        .collect();
    found.sort();
    found
}

fn load(name: &str, text: &str) -> Result<Config, String> {
    Config::load(text, &format!("{name}.yml"), &Overrides::default(), &env_of(name), true)
        .map_err(|e| e.to_string())
}

/// Compares with the file, or writes it.
fn compare(wrong: &mut String, name: &str, found: &str, expected: &Path) {
    if std::env::var_os("LSFAST_BLESS").is_some() {
        fs::write(expected, found).expect("a golden file");
    }
    let text = fs::read_to_string(expected).unwrap_or_default();
    if text != found {
        *wrong += &format!("--- {name}\n{found}--- instead of\n{text}");
    }
    assert!(!found.contains(SECRET), "{name}: {found}");
}

#[test]
fn good_files_are_understood() {
    let corpus = files("good");
    assert!(corpus.len() >= 30, "{}", corpus.len());
    let mut wrong = String::new();
    for (name, text, expected) in corpus {
        let config = load(&name, &text).unwrap_or_else(|e| panic!("{e}"));
        let mut found: String = config.explain().iter().map(|l| format!("{l}\n")).collect();
        if let Some(line) = config.secret_line {
            found += &format!("secret in line {line}\n");
        }
        compare(&mut wrong, &name, &found, &expected);
        assert!(!format!("{config:?}").contains(SECRET), "{name}");
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn bad_files_are_refused_with_their_line_and_column() {
    let corpus = files("bad");
    assert!(corpus.len() >= 20, "{}", corpus.len());
    let mut wrong = String::new();
    for (name, text, expected) in corpus {
        let error = load(&name, &text).map(|c| format!("{:?}", c.explain())).expect_err(&name);
        let place = format!("{name}.yml:");
        let numbers = error.strip_prefix(&place).unwrap_or_else(|| panic!("{error}")).splitn(3, ':');
        let numbers: Vec<u32> = numbers.take(2).map(|n| n.parse().expect("a number")).collect();
        assert!(numbers.iter().all(|n| *n > 0), "{error}");
        compare(&mut wrong, &name, &format!("{error}\n"), &expected);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_secret_is_in_no_message_wherever_the_file_breaks() {
    // Every good file, broken in many places.
    let mut broken = 0;
    for (name, text, _) in files("good").into_iter().chain(files("bad")) {
        let cuts = (0..text.len()).step_by(7).filter(|at| text.is_char_boundary(*at));
        for at in cuts {
            let (head, tail) = text.split_at(at);
            for variant in [
                head.to_owned(),
                format!("{head}\"{tail}"),
                format!("{head}: {tail}"),
                format!("{head}\n\t{tail}"),
            ] {
                if let Err(e) = load(&name, &variant) {
                    assert!(!e.contains(SECRET), "{e}\n{variant}");
                    broken += 1;
                }
            }
        }
    }
    assert!(broken > 1_000, "{broken}");
}

#[test]
fn variables_stay_as_they_are_when_the_user_says_so() {
    let text = "dbs:\n  - path: /data/$X/${Y:-z}.db\n    replica:\n      path: /backup\n";
    let of = |expand| Config::load(text, "x.yml", &Overrides::default(), &env(), expand);
    let config = of(false).expect("no expansion");
    assert_eq!(config.databases[0].path.value, Path::new("/data/$X/${Y:-z}.db"));
    let e = of(true).expect_err("an unset variable").to_string();
    assert!(e.starts_with("x.yml:2:11: path: the variable X is not set"), "{e}");
}

#[test]
fn a_database_of_a_directory_has_places_of_its_own() {
    let text = "dbs:\n  - dir: /data\n    pattern: '*.db'\n    recursive: true\n    meta-path: /state\n    replicas:\n      \
                - url: s3://bucket/base?region=eu-west-1\n      - path: /backup\n  - path: /other/x.db\n    replica:\n      \
                path: /backup-x\n";
    let config = Config::load(text, "x.yml", &Overrides::default(), &env(), true).expect("a config");
    let found = config.database(Path::new("/data/eu/a.db"), &env()).expect("a name").expect("a database");
    assert_eq!(found.path.value, Path::new("/data/eu/a.db"));
    assert_eq!(found.meta_path.as_ref().expect("a state").value, Path::new("/state/eu/.a.db-lsfast"));
    let Kind::S3(s3) = &found.replicas[0].location.kind else { panic!("{found:?}") };
    assert_eq!(
        (s3.prefix.as_str(), found.replicas[0].location.url.as_str()),
        ("base/eu/a.db", "s3://bucket/base/eu/a.db")
    );
    let Kind::File(path) = &found.replicas[1].location.kind else { panic!() };
    assert_eq!(path, Path::new("/backup/eu/a.db"));
    for (path, is_there) in [
        ("/other/x.db", true),
        ("../other/./x.db", true),
        ("/data/a.sqlite", false),
        ("/data/a.db-wal", false),
        ("/data/.a.db-lsfast/b.db", false),
        ("/data", false),
        ("/other/y.db", false),
    ] {
        let found = config.database(Path::new(path), &env()).expect("a name");
        assert_eq!(found.is_some(), is_there, "{path}");
    }
    assert_eq!(config.names(), ["/other/x.db", "/data/*.db"]);
}

#[test]
fn an_ambiguous_url_in_a_file_can_be_settled() {
    let text = "dbs:\n  - path: /a.db\n    replica:\n      url: s3://litestream.example.com/qt.db\n";
    let mut flags = Overrides::default();
    let e = Config::load(text, "x.yml", &flags, &env(), true).expect_err("two readings");
    let ambiguity = e.ambiguity().expect("readings");
    flags.settle(ambiguity, 1);
    let config = Config::load(text, "x.yml", &flags, &env(), true).expect("one reading");
    let location = &config.databases[0].replicas[0].location;
    assert_eq!(location.url, "s3://litestream/qt.db");
}

#[test]
fn where_the_config_file_is_looked_for() {
    let shown = |flag: Option<&str>, env: &Env| {
        let found = default_paths(flag.map(Path::new), env);
        found.iter().map(|c| format!("{} {:?}", c.path.display(), c.named_by)).collect::<Vec<_>>()
    };
    let vars = Env::new([("LSFAST_CONFIG", "/a.yml"), ("LITESTREAM_CONFIG", "/b.yml")]).in_directory("/w");
    assert_eq!(shown(Some("c.yml"), &vars), ["/w/c.yml Some(Flag(\"config\"))"]);
    assert_eq!(shown(None, &vars), ["/a.yml Some(Env(\"LSFAST_CONFIG\"))"]);
    let vars = Env::new([("LITESTREAM_CONFIG", "/b.yml")]);
    assert_eq!(shown(None, &vars), ["/b.yml Some(Env(\"LITESTREAM_CONFIG\"))"]);
    assert_eq!(shown(None, &Env::default()), ["/etc/lsfast.yml None", "/etc/litestream.yml None"]);
}

#[test]
fn a_file_with_secrets_that_everybody_can_read_is_worth_a_warning() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("lsfast.yml");
    let open = || Config::open(Some(&path), &Overrides::default(), &env(), true);
    let e = open().expect_err("no file").to_string();
    assert_eq!(e, format!("{}: there is no such file, though the flag --config names it", path.display()));
    let vars = Env::new([("LITESTREAM_CONFIG", path.to_str().expect("UTF-8"))]);
    let e = Config::open(None, &Overrides::default(), &vars, true).expect_err("no file");
    assert!(e.to_string().ends_with("though the environment (LITESTREAM_CONFIG) names it"), "{e}");

    let warned = |text: &str, mode| {
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        let config = open().expect("a config").expect("named");
        config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let literal = "access-key-id: x\nsecret-access-key: HUSH-HUSH\n";
    let found = warned(literal, 0o644);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("lsfast.yml:2: this line holds a secret") && found[0].contains("chmod o-r"),
        "{found:?}"
    );
    assert!(warned(literal, 0o640).is_empty());
    assert!(warned("secret-access-key: $LITESTREAM_SECRET_ACCESS_KEY\n", 0o644).is_empty());
    let origin = Origin::File { path: "x".into(), line: 1 };
    assert!(origin.is_explicit());
}

/// A reading that asks the server at `address`.
fn reading(address: std::net::SocketAddr, bucket: Option<&str>) -> Reading {
    let endpoint = EndpointUrl::parse(&format!("http://{address}"), "endpoint").expect("an address");
    Reading { meaning: String::new(), url: String::new(), endpoint, bucket: bucket.map(str::to_owned) }
}

#[tokio::test]
async fn a_probe_settles_only_what_one_server_proves_and_all_others_deny() {
    let denied = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>no</Message></Error>";
    let absent = "<?xml version=\"1.0\"?><Error><Code>NoSuchBucket</Code><Message>no</Message></Error>";
    let s3 = || canned::plain(canned::answer("403 Forbidden", &["Server: MinIO"], denied));
    let other = || canned::plain(canned::answer("404 Not Found", &["Server: AmazonS3"], absent));
    let web = || canned::plain(canned::answer("200 OK", &["Server: nginx"], "<html></html>"));
    let settled = async |readings: Vec<Reading>| {
        let ambiguity = Ambiguity { url: "s3://x.y".to_owned(), readings };
        settle(&ambiguity, &TlsOptions::default(), &[]).await
    };
    let b = Some("b");
    assert_eq!(settled(vec![reading(web(), b), reading(s3(), b), reading(other(), b)]).await, Some(1));
    // That nobody answers may pass.
    assert_eq!(settled(vec![reading(canned::nobody(), b), reading(s3(), b)]).await, None);
    assert_eq!(settled(vec![reading(s3(), b), reading(s3(), b)]).await, None);
    assert_eq!(settled(vec![reading(web(), b), reading(canned::nobody(), b)]).await, None);
    assert_eq!(settled(vec![reading(s3(), b), reading(web(), None)]).await, None);
}

/// A host of the name of the bucket may be there, and be out of order.
#[tokio::test]
async fn a_host_that_says_nothing_leaves_a_bucket_to_aws_and_to_no_other() {
    let denied = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>no</Message></Error>";
    let s3 = canned::answer("403 Forbidden", &["Server: AmazonS3"], denied);
    let (aws_at, _) = canned::tls("s3.amazonaws.com", s3.clone());
    let answers = [format!("s3.amazonaws.com={aws_at}").parse().expect("an answer")];
    let dead = [format!("s3.amazonaws.com={}", canned::nobody()).parse().expect("an answer")];
    let aws = || {
        let endpoint = EndpointUrl::parse("https://s3.amazonaws.com", "endpoint").expect("an address");
        Reading { meaning: String::new(), url: String::new(), endpoint, bucket: Some("my.bucket".to_owned()) }
    };
    let tls = TlsOptions { skip_verify: true, ca_cert: None };
    // Nothing is accepted here: the kernel takes the connection, and that is all.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let closing = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let closing_at = closing.local_addr().expect("an address");
    std::thread::spawn(move || closing.incoming().for_each(drop));
    let silent = [canned::nobody(), mute.local_addr().expect("an address"), closing_at];
    for host in silent {
        let ambiguity =
            Ambiguity { url: "s3://my.bucket/p".to_owned(), readings: vec![reading(host, Some("p")), aws()] };
        assert_eq!(settle(&ambiguity, &tls, &answers).await, Some(1), "{host}");
        assert_eq!(settle(&ambiguity, &tls, &dead).await, None, "{host}");
    }
    // What speaks leaves it open, and a server of S3 may be the right one although AWS is silent.
    for (said, which) in [("HTTP/1.1 x\r\n\r\n".to_owned(), &answers), (s3, &dead)] {
        let host = canned::plain(said);
        let ambiguity =
            Ambiguity { url: "s3://my.bucket/p".to_owned(), readings: vec![reading(host, Some("p")), aws()] };
        assert_eq!(settle(&ambiguity, &tls, which).await, None);
    }
}
