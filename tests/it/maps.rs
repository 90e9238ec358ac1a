//! The documents name only what exists: modules, items, files, links, headings. Each invariant of
//! `docs/design/README.md` is cited by code and by a test, and each warning and error that the
//! program logs is explained in `docs/logs.md`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Crates of the language, and programs of this project that paths may begin with.
const OTHER_CRATES: [&str; 3] = ["std", "core", "counts"];

/// A path with one of these first is a file of this repository.
const FOLDERS: [&str; 9] =
    ["src/", "docs/", "tests/", "benches/", "fuzz/", "scripts/", ".cargo/", ".config/", ".github/"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `dir` whose names end so, with their text.
fn files_below(dir: &Path, end: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_path_buf()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(&dir).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    waiting.push(path);
                }
            } else if path.to_string_lossy().ends_with(end) {
                let text = fs::read_to_string(&path).expect("a text");
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

/// What a reader opens: the documents, and the map at the top of the library.
fn documents() -> Vec<(PathBuf, String)> {
    let mut found = files_below(&root().join("docs"), ".md");
    for name in ["README.md", "CONTRIBUTING.md", "SECURITY.md", "src/lib.rs"] {
        let path = root().join(name);
        let text = fs::read_to_string(&path).expect("a document");
        found.push((path, text));
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The longest pieces of `text` of these characters, without full stops and colons at their ends.
fn pieces<'a>(text: &'a str, also: &'static str) -> impl Iterator<Item = &'a str> {
    text.split(move |c: char| !is_word(c) && !also.contains(c))
        .map(|piece| piece.trim_end_matches(['.', ':']).trim_start_matches(':'))
        .filter(|piece| !piece.is_empty())
}

/// Whether `text` defines or re-exports `name`.
fn defines(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let alone = !text[at + name.len()..].starts_with(is_word) && !text[..at].ends_with(is_word);
        let line = text[..at].rsplit(['\n', ';']).next().unwrap_or("");
        let before = line.split_whitespace().last().unwrap_or("");
        let keyword = ["fn", "struct", "enum", "trait", "type", "const", "static", "mod"].contains(&before);
        // A variant, or a list of re-exports.
        let variant = line.starts_with("    ") && line.trim().is_empty();
        alone && (keyword || variant || line.trim_start().starts_with("pub use"))
    })
}

/// What is wrong with a path such as `store::s3::sign`, if anything.
fn wrong_module(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split("::").collect();
    let src = root().join("src");
    if parts[0].starts_with(|c: char| c.is_ascii_uppercase()) {
        let defined = |name: &str| files_below(&src, ".rs").iter().any(|(_, text)| defines(text, name));
        return parts.iter().find(|p| !defined(p)).map(|p| format!("{path}: nothing in src is called {p}"));
    }
    let parts = if ["crate", "lsfast"].contains(&parts[0]) { &parts[1..] } else { &parts[..] };
    let cargo = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let is_crate = |name: &str| {
        cargo.lines().any(|l| l.split([' ', '=']).next().is_some_and(|c| c.replace('-', "_") == name))
    };
    let tests = root().join("tests/it");
    let Some(home) = [src, tests].into_iter().find(|d| d.join(parts[0]).is_dir()) else {
        let other = OTHER_CRATES.contains(&parts[0]) || is_crate(parts[0]);
        return (!other).then(|| format!("{path}: there is no module {} in src or tests/it", parts[0]));
    };
    let mut at = home.join(parts[0]);
    for part in parts[1..].iter().filter(|p| !p.is_empty()) {
        let below = at.join(part);
        if below.is_dir() || below.with_extension("rs").is_file() {
            at = below;
            continue;
        }
        let text =
            [at.with_extension("rs"), at.join("mod.rs")].iter().find_map(|f| fs::read_to_string(f).ok());
        // What follows an item is a variant or a method of it.
        let found = text.is_some_and(|text| defines(&text, part));
        return (!found).then(|| format!("{path}: {part} is not in {}", at.display()));
    }
    None
}

/// Whether there is a file of this name. Capitals such as NAME or DATE stand for anything.
fn is_there(path: &str) -> bool {
    let (folder, name) = path.trim_end_matches('/').rsplit_once('/').unwrap_or(("", path));
    if root().join(path).exists() {
        return true;
    }
    let capitals = |c: char| c.is_ascii_uppercase();
    let Some(at) = name.find(capitals) else { return false };
    let (before, rest) = name.split_at(at);
    let after = rest.trim_start_matches(capitals);
    fs::read_dir(root().join(folder)).is_ok_and(|entries| {
        entries.flatten().any(|e| {
            let name = e.file_name();
            let name = name.to_string_lossy();
            name.starts_with(before) && name.ends_with(after)
        })
    })
}

/// The names of a text that do not exist.
fn wrong_names(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for path in pieces(text, ":").filter(|p| p.contains("::")) {
        if path.split("::").all(|part| !part.is_empty() && part.chars().all(is_word)) {
            wrong.extend(wrong_module(path));
        }
    }
    let sources: Vec<PathBuf> = ["src", "tests", "benches", "fuzz"]
        .iter()
        .flat_map(|d| files_below(&root().join(d), ".rs"))
        .map(|f| f.0)
        .collect();
    for piece in pieces(text, "/.-") {
        if FOLDERS.iter().any(|f| piece.starts_with(f)) {
            if !is_there(piece) {
                wrong.push(format!("{piece}: there is no such file"));
            }
        } else if piece.ends_with(".rs") && !sources.iter().any(|s| s.ends_with(piece)) && piece != ".rs" {
            wrong.push(format!("{piece}: there is no such source file"));
        }
    }
    wrong
}

#[test]
fn what_the_documents_name_exists() {
    let mut wrong = Vec::new();
    for (path, text) in documents() {
        let is_source = path.extension().is_some_and(|e| e == "rs");
        let text = if is_source { comments(&text, "//!") } else { text };
        wrong.extend(wrong_names(&text).into_iter().map(|w| format!("{}: {w}", path.display())));
    }
    // Comments of the program send their readers to documents.
    for (path, text) in files_below(&root().join("src"), ".rs") {
        for piece in pieces(&comments(&text, "//"), "/.-").filter(|p| p.starts_with("docs/")) {
            if !is_there(piece) {
                wrong.push(format!("{}: {piece}: there is no such file", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The lines that begin so, without that.
fn comments(text: &str, mark: &str) -> String {
    text.lines().filter_map(|l| l.trim_start().strip_prefix(mark)).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_name_that_does_not_exist_is_found() {
    let good = "`store::s3::sign` `base::limits::TURN_FRAMES`, `ltx::encode_file` `replicate::state::home::Point`. \
                `std::fs::read` `src/lib.rs`, docs/config.md. scripts/advisories-DATE.tar.gz plausible.rs `Guard::is_open`";
    assert_eq!(wrong_names(good), Vec::<String>::new());
    for bad in [
        "wal::watch",
        "base::limits::NO_SUCH_LIMIT",
        "store::s3::nothing",
        "spool::files",
        "src/nothing.rs",
        "docs/nothing.md",
        "scripts/nothing-DATE.tar.gz",
        "nothing_of_this_name.rs",
        "Guard::is_nothing",
    ] {
        assert_eq!(wrong_names(&format!("see `{bad}`.")).len(), 1, "{bad}");
    }
}

#[test]
fn tests_that_the_documents_name_exist() {
    let folders = ["src", "tests"];
    let sources = folders.iter().flat_map(|folder| files_below(&root().join(folder), ".rs"));
    let (paths, texts): (Vec<PathBuf>, Vec<String>) = sources.unzip();
    let is_test = |name: &str| texts.iter().any(|text| text.contains(&format!("fn {name}")));
    let is_module = |name: &str| {
        paths.iter().any(|path| path.iter().any(|part| part == name || part == format!("{name}.rs").as_str()))
    };
    let docs = fs::read_to_string(root().join("docs/reliability.md")).expect("docs/reliability.md");
    let filters = docs.split("test(").skip(1).filter_map(|rest| rest.split(')').next());
    let names: Vec<&str> =
        filters.map(|f| f.trim_matches(['/', '^', ':']).rsplit("::").next().unwrap_or("")).collect();
    let missing: Vec<&&str> = names.iter().filter(|name| !is_test(name) && !is_module(name)).collect();
    assert!(names.len() > 20, "only {} tests found", names.len());
    assert!(missing.is_empty(), "docs/reliability.md names tests that do not exist: {missing:?}");
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(text: &str) -> BTreeSet<String> {
    let heading = |l: &str| l.starts_with('#').then(|| l.trim_start_matches('#').trim().to_lowercase());
    text.lines()
        .filter_map(heading)
        .map(|h| {
            let kept = h.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn links_of_the_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    let mut links = 0;
    for (path, text) in documents() {
        let folder = path.parent().expect("a folder");
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split(')').next().unwrap_or("");
            if target.contains("://") {
                continue;
            }
            links += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { path.clone() } else { folder.join(file) };
            let found = fs::read_to_string(&file);
            let is_heading = |text: &String| anchor.is_empty() || anchors(text).contains(anchor);
            if !(file.is_dir() || found.is_ok_and(|text| is_heading(&text))) {
                wrong.push(format!("{}: {target} leads nowhere", path.display()));
            }
        }
    }
    assert!(links > 10, "only {links} links found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_map_of_the_library_has_each_layer() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).expect("the library");
    let rows = comments(&lib, "//! | `");
    let named: BTreeSet<&str> = rows.lines().filter_map(|l| l.split('`').next()).collect();
    let modules: BTreeSet<&str> =
        lib.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(named, modules);
}

/// What follows `- **I3** `, for each invariant of a text, on one line.
fn invariants(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().map(|l| l.strip_prefix("//! ").unwrap_or(l));
    let mut found: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in lines {
        if let Some((name, words)) = line.strip_prefix("- **I").and_then(|l| l.split_once("** ")) {
            found.push((format!("I{name}"), words.to_owned()));
            inside = true;
        } else if let Some(more) = line.strip_prefix("  ").filter(|_| inside) {
            let (_, words) = found.last_mut().expect("an invariant");
            words.push(' ');
            words.push_str(more.trim());
        } else {
            inside = false;
        }
    }
    found
}

#[test]
fn the_library_and_the_design_say_the_same_invariants() {
    let read = |name: &str| fs::read_to_string(root().join(name)).expect("a document");
    let design = invariants(&read("docs/design/README.md"));
    assert_eq!(design.len(), 7, "{design:?}");
    assert_eq!(invariants(&read("src/lib.rs")), design);
}

#[test]
fn each_dependency_has_its_line() {
    let read = |name: &str| fs::read_to_string(root().join(name)).expect("a file");
    let (cargo, docs) = (read("Cargo.toml"), read("docs/dependencies.md"));
    let section =
        |name: &str| cargo.split_once(name).and_then(|(_, rest)| rest.split("\n[").next()).unwrap_or("");
    let both = [section("\n[dependencies]\n"), section("\n[dev-dependencies]\n")].concat();
    let names = both.lines().filter_map(|l| Some(l.split_once(" = ")?.0));
    let missing: Vec<&str> = names.filter(|name| !docs.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/dependencies.md has no line for {}", missing.join(", "));
}

/// The invariants that the comments of a text cite: `I3` for `// I3: why`, `I1` and `I4` for `//
/// I1, I4: why`.
fn cited(text: &str) -> BTreeSet<String> {
    let comments =
        text.lines().filter_map(|l| l.split_once("//")).map(|(_, c)| c.trim_start_matches(['/', '!', ' ']));
    let names = comments.filter_map(|c| c.split_once(':')).flat_map(|(names, _)| names.split(", "));
    let is_name = |n: &&str| n.len() == 2 && n.starts_with('I') && n.ends_with(|c: char| c.is_ascii_digit());
    names.filter(is_name).map(str::to_owned).collect()
}

#[test]
fn each_invariant_is_cited_by_code_and_by_a_test() {
    let design = fs::read_to_string(root().join("docs/design/README.md")).expect("the design");
    let names: BTreeSet<String> = invariants(&design).into_iter().map(|(name, _)| name).collect();
    let (mut by_code, mut by_tests) = (BTreeSet::new(), BTreeSet::new());
    for (path, text) in files_below(&root().join("src"), ".rs") {
        let (code, tests) = text.split_once("#[cfg(test)]\nmod tests {").unwrap_or((&text, ""));
        let is_test = path.iter().any(|p| p == "tests" || p == "tests.rs");
        (if is_test { &mut by_tests } else { &mut by_code }).extend(cited(code));
        by_tests.extend(cited(tests));
    }
    let tests = files_below(&root().join("tests"), ".rs");
    let others = tests.iter().filter(|(path, _)| !path.ends_with("maps.rs"));
    others.for_each(|(_, text)| by_tests.extend(cited(text)));
    assert_eq!(by_code, names, "cited by code (left) and in docs/design/README.md (right)");
    assert_eq!(by_tests, names, "cited by tests (left) and in docs/design/README.md (right)");
}

#[test]
fn citations_are_found() {
    let text = "x; // I3: why\n/// I1, I4: both\n// I think: not\nlet i = I9;\n// see I5";
    assert_eq!(cited(text).into_iter().collect::<Vec<_>>(), ["I1", "I3", "I4"]);
}

/// The texts that a source file logs as warnings or errors, without what is filled in.
fn logged(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for mark in ["tracing::warn!(", "tracing::error!("] {
        for (at, _) in text.match_indices(mark) {
            found.extend(message(&text[at + mark.len()..]));
        }
    }
    found
}

/// The first argument of a macro that is a text: what comes before it are fields.
fn message(arguments: &str) -> Option<String> {
    let (mut depth, mut begins) = (0, true);
    let mut rest = arguments.chars();
    while let Some(c) = rest.next() {
        match c {
            '"' => {
                let mut text = String::new();
                while let Some(c) = rest.next().filter(|c| *c != '"') {
                    match c {
                        // The line goes on after the spaces of the next
                        // one, or a character is escaped.
                        '\\' => match rest.next()? {
                            '\n' => rest = rest.as_str().trim_start().chars(),
                            other => text.push(other),
                        },
                        c => text.push(c),
                    }
                }
                if begins && depth == 0 {
                    return Some(text);
                }
                begins = false;
            }
            ',' if depth == 0 => begins = true,
            '(' | '[' | '{' => depth += 1,
            ')' if depth == 0 => return None,
            ')' | ']' | '}' => depth -= 1,
            c if c.is_whitespace() => {}
            _ => begins = false,
        }
    }
    None
}

/// The parts of a text between what is filled in, long enough to be looked for.
fn fixed_parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(['{', '}']).step_by(2).map(str::trim).filter(|part| part.len() >= 10)
}

#[test]
fn each_warning_and_error_is_explained() {
    let docs = fs::read_to_string(root().join("docs/logs.md")).expect("docs/logs.md");
    let mut wrong = Vec::new();
    let mut count = 0;
    for (path, text) in files_below(&root().join("src"), ".rs") {
        // Tests of a file come last in it.
        let program = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
        for logged in logged(program) {
            count += 1;
            let missing = fixed_parts(&logged).find(|part| !docs.contains(part));
            wrong.extend(missing.map(|part| format!("{}: docs/logs.md lacks {part:?}", path.display())));
        }
    }
    assert!(count > 50, "only {count} warnings and errors found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The messages that `docs/logs.md` lists: the first cells of its tables, without the level.
fn listed(docs: &str) -> Vec<&str> {
    let rows = docs.lines().filter_map(|l| l.strip_prefix("| "));
    let cells = rows.filter_map(|row| {
        let message = ["info | ", "warn | ", "error | "].iter().find_map(|level| row.strip_prefix(level));
        message.or_else(|| row.starts_with('`').then_some(row))?.split(" | ").next()
    });
    cells.flat_map(|cell| cell.trim_matches('`').split("`, `")).collect()
}

#[test]
fn each_message_that_is_explained_exists() {
    let docs = fs::read_to_string(root().join("docs/logs.md")).expect("docs/logs.md");
    let docs = docs.split("## Exit codes").next().and_then(|d| d.split_once("## At the start"));
    let (_, docs) = docs.expect("the headings");
    let sources = files_below(&root().join("src"), ".rs").into_iter().map(|(_, text)| {
        // Texts that are broken over lines, as the compiler joins them.
        let lines = text.split("\\\n").enumerate().map(|(i, l)| if i == 0 { l } else { l.trim_start() });
        lines.collect::<String>().replace("\\\"", "\"")
    });
    let sources = sources.collect::<String>();
    let is_filled_in = |word: &str| {
        [
            "DB",
            "URL",
            "OUT",
            "KEY",
            "FILE",
            "FILE:LINE",
            "OTHER",
            "HOST",
            "BUCKET",
            "WHAT",
            "PATH",
            "N",
            "N)",
            "M",
            "VERSION",
        ]
        .contains(&word)
    };
    let mut wrong = Vec::new();
    let messages = listed(docs);
    for message in &messages {
        // Words in capitals and dots stand for what is filled in, as may what a semicolon parts.
        let mut parts = vec![String::new()];
        for (i, word) in message.split(' ').enumerate() {
            let (word, ends) = word.strip_suffix(';').map_or((word, false), |w| (w, true));
            if word.contains("...") || is_filled_in(word.trim_matches([':', ','])) {
                parts.push(String::new());
            } else if let Some(part) = parts.last_mut() {
                let space = if i == 0 || part.is_empty() { "" } else { " " };
                part.push_str(space);
                part.push_str(word);
                if ends {
                    parts.push(String::new());
                }
            }
        }
        let long = parts.iter().filter(|p| p.len() >= 12);
        wrong.extend(
            long.filter(|p| !sources.contains(p.as_str())).map(|p| format!("{message}: {p:?} is not in src")),
        );
    }
    assert!(messages.len() > 90, "only {} messages found", messages.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn texts_of_the_log_are_read_as_they_are_written() {
    let text = "tracing::warn!(db = %path.display(), kind = \"x\", error = f(\"y\", z), \"{what} is \\\"so\\\"; \\\n  go on\", w);";
    assert_eq!(logged(text), ["{what} is \"so\"; go on"]);
    assert_eq!(
        fixed_parts("{what} cannot be had; trying {x} again").collect::<Vec<_>>(),
        ["cannot be had; trying"]
    );
}
