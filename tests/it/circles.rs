//! Modules of one folder do not use each other in a circle.
//!
//! Within each folder of `src`, the files and folders form a graph: one uses another if any file in
//! it names anything in the other. A re-export counts as the place where the item is defined. Unit
//! tests do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module: the names of its folders and its own.
type Module = Vec<String>;

/// Files of modules, by module. `mod.rs` files only re-export, which `layers.rs` sees to.
struct Sources {
    files: BTreeMap<Module, (PathBuf, String)>,
}

fn src() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn is_face(path: &Path) -> bool {
    path.ends_with("mod.rs") || path.ends_with("lib.rs")
}

impl Sources {
    fn read() -> Sources {
        let mut files = BTreeMap::new();
        let mut waiting = vec![src()];
        while let Some(dir) = waiting.pop() {
            for entry in fs::read_dir(&dir).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    if !path.ends_with("tests") {
                        waiting.push(path);
                    }
                    continue;
                }
                let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
                let rust = path.extension().is_some_and(|e| e == "rs");
                if rust && name != "tests" && !name.ends_with("_tests") {
                    let text = fs::read_to_string(&path).expect("a source file");
                    files.insert(module_of(&path), (path, code(&text)));
                }
            }
        }
        Sources { files }
    }

    /// Where what `path` names is defined: the longest module of it, through re-exports.
    fn resolve(&self, path: &[String], depth: usize) -> Option<Module> {
        for n in (0..=path.len()).rev() {
            let Some((file, text)) = self.files.get(&path[..n]) else { continue };
            if n < path.len() && is_face(file) && depth < 8 {
                let exported = paths(text, &path[..n], true).into_iter().find(|p| p.last() == Some(&path[n]));
                if let Some(mut at) = exported {
                    at.extend_from_slice(&path[n + 1..]);
                    return self.resolve(&at, depth + 1);
                }
            }
            return (!is_face(file)).then(|| path[..n].to_vec());
        }
        None
    }
}

fn module_of(path: &Path) -> Module {
    let inside = path.strip_prefix(src()).expect("below src").with_extension("");
    let mut parts: Module = inside.iter().map(|p| p.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|p| ["mod", "lib"].contains(&p.as_str())) {
        parts.pop();
    }
    parts
}

/// The text without comments and without the module of unit tests at its end.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or("");
    text.lines().map(|line| line.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// The paths that the code of module `own` names from `crate`, `super` or `self`; in a face also
/// those that it names from its own children.
fn paths(code: &str, own: &[String], face: bool) -> Vec<Module> {
    let mut found = Vec::new();
    for (word, at) in words(code) {
        let before = code[..at].trim_end_matches(char::is_whitespace);
        if code[..at].ends_with("::") || code[..at].ends_with('$') {
            continue;
        }
        let rest = &code[at..];
        match word {
            "crate" => take(&[], &rest["crate".len()..], &mut found),
            "self" => take(own, &rest["self".len()..], &mut found),
            "super" => {
                let mut left = rest;
                let mut up = 0;
                while let Some(next) = left.strip_prefix("super::") {
                    left = next;
                    up += 1;
                }
                if up > 0 && up <= own.len() {
                    take_after(&own[..own.len() - up], left, &mut found);
                }
            }
            _ if face && before.ends_with("use") => take_after(own, rest, &mut found),
            _ => {}
        }
    }
    if !face {
        found.extend(through_modules(code, &found));
    }
    found
}

/// The paths that begin with a module that the code imports: `limits::X` after `use
/// crate::base::limits`.
fn through_modules(code: &str, imported: &[Module]) -> Vec<Module> {
    let is_module = |name: &&String| name.chars().all(|c| c.is_lowercase() || c.is_ascii_digit() || c == '_');
    let modules: BTreeMap<&str, &Module> =
        imported.iter().filter_map(|path| Some((path.last().filter(is_module)?.as_str(), path))).collect();
    let mut found = Vec::new();
    for (word, at) in words(code) {
        if let Some(path) = modules.get(word)
            && !code[..at].ends_with("::")
        {
            take(path, &code[at + word.len()..], &mut found);
        }
    }
    found
}

fn take(prefix: &[String], rest: &str, found: &mut Vec<Module>) {
    if let Some(rest) = rest.strip_prefix("::") {
        take_after(prefix, rest, found);
    }
}

/// Reads `a::b`, or `{a, b::c}`, after `prefix::`.
fn take_after(prefix: &[String], rest: &str, found: &mut Vec<Module>) {
    let rest = rest.trim_start();
    if let Some(group) = rest.strip_prefix('{') {
        let (mut depth, mut from) = (0, 0);
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                ',' if depth == 0 => {
                    take_after(prefix, &group[from..i], found);
                    from = i + 1;
                }
                '}' if depth == 0 => {
                    take_after(prefix, &group[from..i], found);
                    return;
                }
                '}' => depth -= 1,
                _ => {}
            }
        }
        return;
    }
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if name.is_empty() {
        return;
    }
    if name == "self" {
        found.push(prefix.to_vec());
        return;
    }
    let mut path = prefix.to_vec();
    path.push(name.clone());
    match rest[name.len()..].strip_prefix("::") {
        Some(rest) if rest.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '{') => {
            take_after(&path, rest, found);
        }
        _ => found.push(path),
    }
}

/// The words of `code` and where they begin.
fn words(code: &str) -> impl Iterator<Item = (&str, usize)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.split(move |c| !is_word(c)).filter(|w| !w.is_empty()).map(move |w| {
        let at = w.as_ptr() as usize - code.as_ptr() as usize;
        (w, at)
    })
}

/// Which of the children of each folder use which others.
fn uses(sources: &Sources) -> BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> {
    let mut graphs: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (own, (file, text)) in &sources.files {
        if is_face(file) {
            continue;
        }
        let used: BTreeSet<Module> =
            paths(text, own, false).iter().filter_map(|p| sources.resolve(p, 0)).collect();
        for other in used.iter().filter(|other| *other != own) {
            let shared = own.iter().zip(other).take_while(|(a, b)| a == b).count();
            if let (Some(a), Some(b)) = (own.get(shared), other.get(shared)) {
                graphs
                    .entry(own[..shared].to_vec())
                    .or_default()
                    .entry(a.clone())
                    .or_default()
                    .insert(b.clone());
            }
        }
    }
    graphs
}

/// A shortest way from each name back to itself, if there is one.
fn circles(graph: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let reach = |from: &String| {
        let (mut seen, mut waiting) = (BTreeSet::new(), vec![from]);
        while let Some(at) = waiting.pop() {
            for next in graph.get(at).into_iter().flatten() {
                if seen.insert(next.clone()) {
                    waiting.push(next);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<_, _> = graph.keys().map(|name| (name.clone(), reach(name))).collect();
    reached.iter().filter(|(name, seen)| seen.contains(*name)).map(|(name, _)| name.clone()).collect()
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    let sources = Sources::read();
    let graphs = uses(&sources);
    assert!(graphs.len() > 5, "only {} folders found", graphs.len());
    let mut wrong = Vec::new();
    for (folder, graph) in &graphs {
        let circle = circles(graph);
        if circle.is_empty() || OPEN.contains(&folder.join("::").as_str()) {
            continue;
        }
        for name in &circle {
            let to: Vec<_> = graph[name].iter().filter(|n| circle.contains(*n)).collect();
            wrong.push(format!("src/{}: {name} uses {to:?}", folder.join("/")));
        }
    }
    assert!(wrong.is_empty(), "modules in a circle:\n{}", wrong.join("\n"));
}

/// Folders whose modules still do.
const OPEN: [&str; 0] = [];

#[test]
fn folders_that_have_no_circle_are_not_listed_as_having_one() {
    let graphs = uses(&Sources::read());
    let clean: Vec<_> = OPEN
        .iter()
        .filter(|folder| {
            let path: Module = folder.split("::").map(str::to_owned).collect();
            graphs.get(&path).is_none_or(|graph| circles(graph).is_empty())
        })
        .collect();
    assert!(clean.is_empty(), "take these out of OPEN: {clean:?}");
}

#[test]
fn paths_are_read_as_they_are_written() {
    let own: Module = ["a", "b"].map(str::to_owned).to_vec();
    let read =
        |code: &str| -> Vec<String> { paths(code, &own, false).iter().map(|p| p.join("::")).collect() };
    assert_eq!(read("use crate::x::{self, y::Z, w};"), ["x", "x::y::Z", "x::w"]);
    assert_eq!(read("let a = super::c::d();"), ["a::c::d"]);
    assert_eq!(read("use super::super::q::R;"), ["q::R"]);
    assert_eq!(read("use super::c; fn f() -> c::d::E { x::c::g() }"), ["a::c", "a::c::d::E"]);
    assert_eq!(read("fn f(self) { self.x }"), [] as [&str; 0]);
    assert_eq!(
        paths("pub use run::{A, B};", &own, true).iter().map(|p| p.join("::")).collect::<Vec<_>>(),
        ["a::b::run::A", "a::b::run::B"]
    );
    let graph = |edges: &[(&str, &str)]| {
        let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (a, b) in edges {
            graph.entry((*a).to_owned()).or_default().insert((*b).to_owned());
        }
        circles(&graph)
    };
    assert!(graph(&[("a", "b"), ("b", "c")]).is_empty());
    assert_eq!(graph(&[("a", "b"), ("b", "c"), ("c", "b")]).len(), 2);
}
