//! The rules of the house that a compiler does not hold: layers, islands of `unsafe`, length of
//! files.

use std::fs;
use std::path::{Path, PathBuf};

/// A module may use those before it in this list, never those after it.
const LAYERS: [&str; 13] = [
    "base",
    "io",
    "config",
    "wal",
    "sqlite",
    "ltx",
    "legacy",
    "store",
    "restore",
    "view",
    "replicate",
    "observe",
    "cli",
];

/// Files and folders below `src` that may hold `unsafe`, each with its reason at its top.
const ISLANDS: [&str; 6] =
    ["io/sys", "io/uring", "view/vfs/extension", "view/vfs/sys", "wal/checksum", "wal/shm"];

/// Longer files want to be folders.
const LINES_MAX: usize = 500;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below `dir` with their text, in order of their names.
fn rust_files(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_path_buf()];
    while let Some(dir) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    waiting.push(path);
                }
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).expect("a source file");
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

/// The text without `//` comments, newlines kept.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The names that directly follow `prefix` in `text`: `a` for `crate::a::b`, `a` and `c` for
/// `crate::{a::b, c}`.
fn names_after(text: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in text.match_indices(prefix) {
        if text[..at].chars().next_back().is_some_and(|c| is_word(c) || c == ':' || c == '$') {
            continue;
        }
        let rest = &text[at + prefix.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut name_expected = true;
            for (i, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => name_expected = true,
                    c if is_word(c) && name_expected => {
                        names.push(group[i..].chars().take_while(|c| is_word(*c)).collect());
                        name_expected = false;
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            names.push(rest.chars().take_while(|c| is_word(*c)).collect());
        }
    }
    names
}

/// The layers that a file of `layer` uses and must not. `depth` is the number of folders and files
/// from `src` to its module: 1 for `wal/mod.rs`, 2 for `wal/tail.rs`.
fn wrong_uses(layer: &str, depth: usize, text: &str) -> Vec<String> {
    let rank = |name: &str| LAYERS.iter().position(|l| *l == name);
    let own = rank(layer).expect("a known layer");
    let code = without_comments(text);
    let mut names = names_after(&code, "crate::");
    // One `super::` more for the module of unit tests.
    for length in [depth, depth + 1] {
        names.extend(names_after(&code, &"super::".repeat(length)));
    }
    names.retain(|name| rank(name).is_some_and(|r| r > own));
    names
}

#[test]
fn layers_use_only_those_above_them() {
    let src = root().join("src");
    let mut wrong = Vec::new();
    let mut checked = 0;
    for (path, text) in rust_files(&src) {
        let inside = path.strip_prefix(&src).expect("below src");
        let parts: Vec<&str> = inside.iter().map(|p| p.to_str().expect("UTF-8")).collect();
        let layer = parts[0].trim_end_matches(".rs");
        if ["lib", "main"].contains(&layer) {
            continue;
        }
        if !LAYERS.contains(&layer) {
            wrong.push(format!("src/{} is in no layer", inside.display()));
            continue;
        }
        let depth = parts.len() - usize::from(parts.len() > 1 && parts.ends_with(&["mod.rs"]));
        for name in wrong_uses(layer, depth, &text) {
            wrong.push(format!("src/{} uses crate::{name}, which is below {layer}", inside.display()));
        }
        checked += 1;
    }
    assert!(checked > 5, "only {checked} files found");
    assert!(wrong.is_empty(), "layers, top to bottom: {}\n{}", LAYERS.join(", "), wrong.join("\n"));
}

#[test]
fn the_layer_check_sees_every_way_to_say_it() {
    let none: Vec<String> = Vec::new();
    assert_eq!(wrong_uses("wal", 2, "use crate::base::Pgno;\n// crate::cli\nuse super::format;"), none);
    assert_eq!(wrong_uses("wal", 2, "use crate::store::Store;"), ["store"]);
    assert_eq!(wrong_uses("wal", 2, "let x = crate::cli::run();"), ["cli"]);
    assert_eq!(
        wrong_uses("wal", 2, "use crate::{base::{Txid, cli}, ltx::Header,\n restore};"),
        ["ltx", "restore"]
    );
    assert_eq!(wrong_uses("wal", 1, "use super::ltx::Header;"), ["ltx"]);
    assert_eq!(wrong_uses("wal", 2, "use super::super::ltx::Header;"), ["ltx"]);
    assert_eq!(wrong_uses("wal", 2, "mod tests { use super::super::super::observe; }"), ["observe"]);
    assert_eq!(wrong_uses("cli", 2, "use crate::{base, restore, observe};"), none);
}

/// The declarations of the library that do not say who may see their module: each has to be there
/// twice, closed for the program and open for tests.
fn open_modules(lib: &str) -> Vec<&str> {
    let lines: Vec<&str> = lib.lines().collect();
    let declares = |pair: &&[&str]| pair[1].ends_with(';') && pair[1].split(' ').any(|word| word == "mod");
    let right = |pair: &&[&str]| match pair[0] {
        r#"#[cfg(not(feature = "internals"))]"# => pair[1].starts_with("mod "),
        r#"#[cfg(feature = "internals")]"# => pair[1].starts_with("pub mod "),
        _ => false,
    };
    lines.windows(2).filter(declares).filter(|pair| !right(pair)).map(|pair| pair[1]).collect()
}

#[test]
fn the_program_is_built_with_closed_modules() {
    let read = |name: &str| fs::read_to_string(root().join(name)).expect("a file");
    assert_eq!(open_modules(&read("src/lib.rs")), [""; 0]);
    assert_eq!(
        open_modules("use x;\npub mod a;\n#[cfg(feature = \"internals\")]\nmod b;"),
        ["pub mod a;", "mod b;"]
    );
    let cargo = read("Cargo.toml");
    let users: Vec<&str> = cargo.lines().filter(|line| line.contains("\"internals\"")).collect();
    assert_eq!(users.len(), 1, "only tests and benches open the modules: {users:?}");
    let tests = cargo.split_once("\n[dev-dependencies]\n").and_then(|(_, rest)| rest.split("\n[").next());
    assert!(tests.is_some_and(|tests| tests.contains(users[0])), "{users:?}");
}

#[test]
fn unsafe_stays_on_its_islands() {
    let src = root().join("src");
    let mut wrong = Vec::new();
    for (path, text) in rust_files(&src) {
        let inside = path.strip_prefix(&src).expect("below src").to_str().expect("UTF-8");
        let code = without_comments(&text);
        let has = has_word(&code, "unsafe") || code.contains("allow(unsafe_code)");
        let island = ISLANDS
            .iter()
            .any(|i| inside.strip_prefix(i).is_some_and(|rest| rest.starts_with('/') || rest == ".rs"));
        if has && !island {
            wrong.push(format!("src/{inside} holds unsafe code, but only {} may", ISLANDS.join(", ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether `word` stands alone somewhere in `code`.
fn has_word(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

#[test]
fn no_file_wants_a_table_of_contents() {
    let mut wrong = Vec::new();
    for folder in ["src", "tests", "benches", "fuzz"] {
        for (path, text) in rust_files(&root().join(folder)) {
            let lines = text.lines().count();
            if lines > LINES_MAX {
                wrong.push(format!("{} has {lines} lines, at most {LINES_MAX}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_folder_is_a_module_with_a_face_that_defines_nothing() {
    let mut wrong = Vec::new();
    for (path, text) in rust_files(&root().join("src")) {
        let inside = path.strip_prefix(root()).expect("below the root").display();
        if path.components().any(|c| c.as_os_str() == "tests") {
            continue;
        }
        if !path.ends_with("mod.rs") {
            if path.with_extension("").is_dir() {
                wrong.push(format!("{inside} belongs into the folder of its name"));
            }
            continue;
        }
        for line in definitions(&text) {
            wrong.push(format!("{inside} defines something: {line}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The lines that are neither declarations of modules, nor re-exports, nor docs, nor attributes.
fn definitions(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut open = false;
    for line in text.lines() {
        let code = line.trim();
        if code.is_empty() || code.starts_with("//") || code.starts_with('#') {
            continue;
        }
        let rest = code.strip_prefix("pub").map_or(code, |rest| {
            let inside = rest.strip_prefix('(').and_then(|r| r.split_once(')'));
            inside.map_or(rest, |(_, rest)| rest).trim_start()
        });
        let begins = (rest.starts_with("mod ") && rest.ends_with(';')) || rest.starts_with("use ");
        if !open && !begins {
            found.push(line);
        }
        open = (open || begins) && !code.ends_with(';');
    }
    found
}

#[test]
fn definitions_are_seen() {
    assert_eq!(definitions("//! Docs.\n\nmod a;\npub(crate) mod b;\npub use a::{\n    B, C,\n};\n"), [""; 0]);
    assert_eq!(definitions("mod a;\nconst X: u8 = 1;\n"), ["const X: u8 = 1;"]);
    assert_eq!(definitions("pub(super) fn f() {}\n"), ["pub(super) fn f() {}"]);
}

/// Comments wrap at this column.
const COMMENT_COLUMNS: usize = 100;

#[test]
fn comments_wrap() {
    let mut wrong = Vec::new();
    for folder in ["src", "tests", "benches", "fuzz"] {
        for (path, text) in rust_files(&root().join(folder)) {
            for (i, line) in text.lines().enumerate() {
                // A table and a link cannot be broken.
                let comment = line.trim_start().strip_prefix("//");
                let table = comment.is_some_and(|c| c.trim_start_matches(['/', '!', ' ']).starts_with('|'));
                let long = line.chars().count() > COMMENT_COLUMNS && !line.contains("://");
                if comment.is_some() && long && !table {
                    wrong.push(format!("{}:{}", path.display(), i + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "comments over {COMMENT_COLUMNS} columns:\n{}", wrong.join("\n"));
}
