//! The page in a browser: nothing outside of the window, readable, current without a jump, and its
//! commands work. Skipped where there is no Chromium.

use std::net::SocketAddr;

use rusqlite::Connection;

use super::metrics::start;
use crate::support::browser::Browser;
use crate::support::process::{Process, until};
use crate::support::s3::{
    SECRET_KEY, {self},
};
use crate::support::{canned, http, lsfast, sqlite};

/// A process with a long list of databases: one that fails, one that does not exist, and others.
struct World {
    dir: tempfile::TempDir,
    addr: SocketAddr,
    apps: Vec<Connection>,
    process: Process,
}

const DATABASES: usize = 12;

impl World {
    fn new(more: &str) -> World {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (path, addr) = (dir.path().display().to_string(), canned::nobody());
        let mut text = format!("addr: {addr}\nverify-interval: 1s\nverify-rate: 100MiB\n{more}dbs:\n");
        let apps: Vec<_> = (0..DATABASES)
            .map(|n| {
                let name = format!("customer-with-a-name-that-is-not-short-{n:02}.db");
                text += &format!("- path: {path}/{name}\n  replica:\n    path: {path}/replicas/{n}\n");
                let app = sqlite::create(&dir.path().join(name), 4096);
                app.execute("INSERT INTO log VALUES(1, hex(randomblob(300)))", []).expect("a row");
                app
            })
            .collect();
        let url = s3::url(canned::nobody(), "unreachable");
        text += &format!(
            "- path: {path}/unreachable.db\n  replica:\n    url: {url}\n    access-key-id: x\n    secret-access-key: {SECRET_KEY}\n\
             - path: {path}/later.db\n  replica:\n    path: {path}/replicas/later\n"
        );
        let mut all = apps;
        all.push(sqlite::create(&dir.path().join("unreachable.db"), 4096));
        let config = dir.path().join("lsfast.yml");
        std::fs::write(&config, text).expect("a config file");
        let process = start(&config, &[]);
        process.wait_for_line("serving metrics");
        World { dir, addr, apps: all, process }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }
}

/// What a script of the test needs: elements outside of the window, and contrasts too low to read.
const TOOLS: &str = r"
window.outside = () => {
  const width = document.documentElement.clientWidth;
  const wide = [...document.querySelectorAll('body *')].filter((e) => {
    const box = e.getBoundingClientRect();
    return box.width > 0 && (box.right > width + 1 || box.left < -1) && !e.closest('svg');
  });
  const scrolls = document.documentElement.scrollWidth > width;
  return wide.map((e) => e.outerHTML.slice(0, 100)).concat(scrolls ? ['the page scrolls to the side'] : []);
};
window.faint = () => {
  const rgb = (text) => text.match(/[\d.]+/g).map(Number);
  const light = (c) => {
    const [r, g, b] = c.slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (e) => {
    for (let at = e; at; at = at.parentElement) {
      const c = rgb(getComputedStyle(at).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const texts = [...document.querySelectorAll('body *')].filter((e) =>
    e.getBoundingClientRect().width > 0 && !e.closest('svg') && [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()));
  const ratio = (e) => {
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  return texts.filter((e) => ratio(e) < 4.5).map((e) => `${ratio(e).toFixed(1)} ${e.outerHTML.slice(0, 100)}`);
};
1";

#[test]
fn the_page_fits_every_window_stays_current_and_has_commands_that_work() {
    let Some(mut browser) = Browser::start() else { return };
    let world = World::new("");
    browser.open(&world.url("/"));
    let ready =
        "document.querySelectorAll('tr.well').length === 12 && document.querySelector('tr.fail') !== null";
    until("the page to show all databases", || (browser.eval(ready) == true).then_some(()));
    browser.eval(TOOLS);
    for (width, name) in [(400, "400"), (1280, "1280"), (1900, "1900")] {
        for colours in ["light", "dark"] {
            browser.view((width, 900), colours);
            let (outside, faint) = (browser.eval("outside()"), browser.eval("faint()"));
            assert_eq!(outside, serde_json::json!([]), "{width} {colours}");
            assert_eq!(faint, serde_json::json!([]), "{width} {colours}");
            browser.picture(&format!("page-{name}-{colours}.png"));
        }
    }
    // The worst first, and a summary.
    let first = browser
        .eval("[...document.querySelectorAll('tbody tr')].map((r) => r.className + ' ' + r.innerText)");
    let rows: Vec<&str> = first.as_array().expect("rows").iter().filter_map(|r| r.as_str()).collect();
    assert_eq!(rows.len(), DATABASES + 2);
    assert!(rows[0].starts_with("fail ") && rows[0].contains("unreachable.db"), "{rows:?}");
    assert!(rows[1].starts_with("late ") && rows[1].contains("later.db"), "{rows:?}");
    let summary = browser.eval("[...document.querySelectorAll('.tiles li')].slice(0, 3).map((t) => t.innerText.replace(/\\s+/g, ' '))");
    assert_eq!(summary, serde_json::json!(["1 failing", "1 to look at", "12 well"]));

    // It stays current: the rows are the same elements, and the window does not move.
    browser.view((400, 300), "light");
    browser.eval("window.kept = document.querySelectorAll('tr.well')[5]; scrollTo(0, 700); 1");
    let refreshed = |browser: &mut Browser| {
        let count = |browser: &mut Browser| browser.eval("Number(live.dataset.refreshed || 0)").as_f64();
        let before = count(browser);
        until("two refreshes", || (count(browser) >= before.map(|n| n + 2.0)).then_some(()));
    };
    world.apps[DATABASES].execute("INSERT INTO log VALUES(1, 'x')", []).expect("a row");
    refreshed(&mut browser);
    let behind = "document.querySelector('tr.fail').innerText.includes('commit')";
    until("the new lag to show", || (browser.eval(behind) == true).then_some(()));
    assert_eq!(browser.eval("[scrollY, document.contains(kept)]"), serde_json::json!([700, true]));
    let search = "const box = document.getElementById('find'); box.value = 'SHORT-03'; box.dispatchEvent(new Event('input')); 1";
    browser.eval(search);
    let visible = "[...document.querySelectorAll('tbody tr')].filter((r) => !r.hidden).length";
    assert_eq!(browser.eval(visible), 1);
    refreshed(&mut browser);
    assert_eq!(browser.eval(visible), 1, "what is found stays found");

    // The page of a database.
    let link = browser
        .eval("[...document.querySelectorAll('tbody tr')].find((r) => !r.hidden).querySelector('a').href");
    browser.open(link.as_str().expect("a link"));
    let points = "document.querySelectorAll('.points tbody tr').length > 0 && document.body.innerText.includes('sound')";
    until("restore points and a proof", || (browser.eval(points) == true).then_some(()));
    browser.eval(TOOLS);
    for (width, colours) in [(400, "light"), (400, "dark"), (1280, "light"), (1900, "dark")] {
        browser.view((width, 900), colours);
        let (outside, faint) = (browser.eval("outside()"), browser.eval("faint()"));
        assert_eq!((&outside, &faint), (&serde_json::json!([]), &serde_json::json!([])), "{width} {colours}");
        browser.picture(&format!("database-{width}-{colours}.png"));
    }
    browser.eval("document.querySelector('button[data-copy]').click(); 1");
    let told = "document.querySelector('button[data-copy]').textContent !== 'Copy'";
    until("the button to answer", || (browser.eval(told) == true).then_some(()));
    let command = browser.eval("document.querySelector('.points code').textContent");
    let command = command.as_str().expect("a command");
    assert_eq!(browser.eval("document.querySelector('button[data-copy]').dataset.copy"), command);
    let program = env!("CARGO_BIN_EXE_lsfast");
    let command = command.strip_prefix("lsfast ").expect("a command of lsfast");
    let output = std::process::Command::new("sh")
        .args(["-c", &format!("exec {program} {command}")])
        .current_dir(world.dir.path())
        .output()
        .expect("sh runs");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    let source = world.dir.path().join("customer-with-a-name-that-is-not-short-03.db");
    assert_eq!(sqlite::dump_hash(&world.dir.path().join("restored.db")), sqlite::dump_hash(&source));

    // A process that is gone is said; what was known stays.
    let World { mut process, .. } = world;
    process.signal("KILL");
    process.wait();
    until("the page to say so", || {
        (browser.eval("!stale.hidden").as_bool()? && browser.eval(points) == true).then_some(())
    });
    browser.complaints.retain(|c| !c.contains("ERR_CONNECTION_REFUSED") && !c.contains("favicon"));
    assert_eq!(browser.complaints, Vec::<String>::new());
}

/// With `addr-token`, nothing but `/healthz` is answered without it, and it is never shown.
#[test]
fn a_token_opens_the_page() {
    const TOKEN: &str = "t0ken-of-the-page";
    let world = World::new(&format!("addr-token: {TOKEN}\n"));
    let ask = |path: &str, header: &str| http::with_headers(world.addr, path, header).expect("an answer");
    for path in ["/", "/metrics", "/status", "/readyz", "/db?path=x", "/page.js"] {
        for wrong in ["", "Authorization: Bearer wrong\r\n"] {
            let (head, body) = ask(path, wrong);
            assert!(
                head.starts_with("HTTP/1.1 401") && head.contains("www-authenticate: Basic"),
                "{path}: {head}"
            );
            assert!(!body.windows(6).any(|w| w == b"lsfast") || body.len() < 200, "{path}");
        }
    }
    assert!(ask("/healthz", "").0.starts_with("HTTP/1.1 200"));
    let right = format!("Authorization: Bearer {TOKEN}\r\n");
    let (head, body) = ask("/metrics", &right);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let log = world.process.output();
    for text in [String::from_utf8_lossy(&body).into_owned(), log] {
        assert!(!text.contains(TOKEN), "{text}");
    }
    // A page may load its own parts only, and is in no frame.
    let (head, _) = ask("/", &right);
    let policy = head.lines().find(|l| l.starts_with("content-security-policy:")).expect("a policy");
    for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");

    // A variable without a value must not open the page to everyone.
    let config = world.dir.path().join("empty.yml");
    std::fs::write(&config, "addr: :0\naddr-token: ''\ndbs: []\n").expect("a config file");
    let mut command = lsfast::command(["explain", "--config"]);
    command.arg(&config);
    let output = lsfast::run(command);
    let message = lsfast::stderr(&output);
    assert!(!output.status.success() && message.contains("addr-token"), "{message}");
}

/// Several requests on one connection, and compressed where the client takes it.
#[test]
fn a_connection_stays_open_and_large_answers_are_compressed() {
    use std::io::{BufRead as _, BufReader, Read as _, Write as _};
    let world = World::new("");
    let stream = std::net::TcpStream::connect(world.addr).expect("a connection");
    stream.set_read_timeout(Some(crate::support::process::DEADLINE)).expect("a timeout");
    let mut reader = BufReader::new(stream);
    let mut lengths = Vec::new();
    for encoding in ["", "Accept-Encoding: gzip\r\n", "Accept-Encoding: gzip;q=0\r\n"] {
        write!(reader.get_mut(), "GET /metrics HTTP/1.1\r\nHost: localhost\r\n{encoding}\r\n")
            .expect("a request");
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).expect("a head") > 0, "closed after {head}");
        }
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(head.contains("content-encoding: gzip"), encoding.ends_with("gzip\r\n"), "{head}");
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).expect("a length");
        let mut body = vec![0; length.parse().expect("a number")];
        reader.read_exact(&mut body).expect("a body");
        lengths.push(body.len());
    }
    // Metrics are added until the database is followed, so the last answer is the longest.
    assert!(lengths[1] * 2 < lengths[2], "{lengths:?}");
}
