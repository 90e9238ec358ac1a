//! What the documents show can be typed, and how they and the program say it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Phrases that readers of English stumble over, or that are not about programs.
const NOT_HERE: [&str; 11] = [
    "so many of",
    "so long as",
    "so often",
    "somebody",
    "nobody",
    "whoever",
    "anew",
    "trying on",
    "is said in the log",
    "is said once",
    "a database like any other",
];

/// Phrases that neither a comment nor a text of the program has: messages, log lines, help.
const NOT_IN_SOURCE: [&str; 10] = [
    "so many",
    "so long",
    "so often",
    "somebody",
    "nobody",
    "whoever",
    "anew",
    "trying on",
    "is said",
    "at all events",
];

/// Phrases that no text of the program has, either.
const NOT_IN_TEXTS: [&str; 4] = ["anybody", "everybody", "stands", "cannot be had"];

/// Flags of other programs that the documents show.
const FLAGS_OF_OTHERS: [&str; 9] = [
    "unix-socket",
    "port",
    "release",
    "path",
    "locked",
    "now",
    "from",
    "from-literal",
    "no-install-recommends",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files_below(dir: &Path, end: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_below(&path, end));
        } else if path.to_string_lossy().ends_with(end) {
            let text = fs::read_to_string(&path).expect("a text");
            found.push((path, text));
        }
    }
    found
}

fn documents() -> Vec<(PathBuf, String)> {
    let mut found = files_below(&root().join("docs"), ".md");
    for name in ["README.md", "CONTRIBUTING.md", "SECURITY.md"] {
        let path = root().join(name);
        let text = fs::read_to_string(&path).expect("a document");
        found.push((path, text));
    }
    found
}

/// The text without code, on one line, so that a phrase may be broken anywhere.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let lines = text.lines().filter(|line| {
        fenced ^= line.starts_with("```");
        !fenced && !line.starts_with("    ")
    });
    let joined = lines.collect::<Vec<_>>().join(" ");
    // Every other piece is in backquotes.
    let words = joined.split('`').step_by(2).collect::<String>();
    words.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

fn phrases(text: &str) -> Vec<&'static str> {
    found(&prose(text), &NOT_HERE)
}

/// The phrases of a list that a text in small letters has as whole words.
fn found(prose: &str, list: &[&'static str]) -> Vec<&'static str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let has = |phrase: &&str| {
        prose.match_indices(*phrase).any(|(at, _)| {
            !prose[..at].ends_with(is_word) && !prose[at + phrase.len()..].starts_with(is_word)
        })
    };
    list.iter().copied().filter(has).collect()
}

/// The comments of a source file, and its string literals, in small letters and with single
/// spaces, so that a phrase may be broken over lines.
fn comments_and_literals(source: &str) -> (String, String) {
    let (mut comments, mut literals) = (String::new(), String::new());
    let mut rest = source;
    while let Some(at) = rest.find(['/', '"', '\'']) {
        let before = &rest[..at];
        rest = &rest[at..];
        if let Some(comment) = rest.strip_prefix("//") {
            let (line, more) = comment.split_once('\n').unwrap_or((comment, ""));
            comments.extend([line.trim_start_matches(['/', '!']), " "]);
            rest = more;
        } else if rest.starts_with('"') {
            let hashes = before.len() - before.trim_end_matches('#').len();
            let is_raw = before[..before.len() - hashes].ends_with('r');
            let (literal, more) = if is_raw {
                rest[1..].split_once(&format!("\"{}", "#".repeat(hashes))).expect("the end of a raw literal")
            } else {
                let mut escaped = false;
                let end = rest[1..].find(|c| {
                    let ends = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    ends
                });
                let end = 1 + end.expect("the end of a literal");
                (&rest[1..end], &rest[end + 1..])
            };
            literals.extend([literal, " | "]);
            rest = more;
        } else {
            // A character that is a quote; a lifetime is only stepped over.
            let quotes = ["'\"'", "'\\\"'", "'\\''", "'/'"];
            let length = quotes.iter().find(|q| rest.starts_with(**q)).map_or(1, |q| q.len());
            rest = &rest[length..];
        }
    }
    let plain = |text: String| {
        let joined = text.replace("\\\n", " ").replace("\\n", " ");
        joined.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
    };
    (plain(comments), plain(literals))
}

#[test]
fn the_program_is_in_plain_words() {
    let mut wrong = Vec::new();
    let mut literals_seen = 0;
    for (path, text) in files_below(&root().join("src"), ".rs") {
        if path.iter().any(|part| part == "tests") || path.to_string_lossy().ends_with("tests.rs") {
            continue;
        }
        // Tests of a file come last in it.
        let program = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
        let (comments, literals) = comments_and_literals(program);
        literals_seen += literals.matches(" | ").count();
        let of_comments = found(&comments, &NOT_IN_SOURCE).into_iter().map(|p| (p, "a comment"));
        let lists = [&NOT_IN_SOURCE[..], &NOT_IN_TEXTS];
        let of_texts = lists.into_iter().flat_map(|l| found(&literals, l)).map(|p| (p, "a text"));
        let of_both = of_comments.chain(of_texts);
        wrong.extend(of_both.map(|(p, place)| format!("{}: {p:?} in {place}", path.display())));
    }
    assert!(literals_seen > 3_000, "only {literals_seen} literals found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn comments_and_literals_are_told_apart() {
    let source = "/// One \n// two's\nlet c = '\"'; f(\"Three \\\n    \\\"four\\\" // five\", r#\"six \"7\"\"#); // \"eight\"";
    let (comments, literals) = comments_and_literals(source);
    assert_eq!(comments, "one two's \"eight\"");
    assert_eq!(literals, "three \\\"four\\\" // five | six \"7\" |");
}

#[test]
fn documents_are_in_plain_words() {
    let wrong: Vec<String> = documents()
        .iter()
        .flat_map(|(path, text)| phrases(text).into_iter().map(|p| format!("{}: {p:?}", path.display())))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(phrases("x\nNobody\nknows `somebody`.\n    whoever\n"), ["nobody"]);
}

/// The long flags of all commands, as their arguments are declared.
fn flags() -> BTreeSet<String> {
    let mut flags: BTreeSet<String> = ["help", "version"].map(str::to_owned).into();
    for (_, text) in files_below(&root().join("src/cli"), ".rs") {
        for declared in text.split("#[arg(").skip(1) {
            let (argument, rest) = declared.split_once(")]\n").expect("the end of an attribute");
            let name = rest.split(':').next().and_then(|n| n.split_whitespace().last()).unwrap_or("");
            if argument.split([',', ' ']).any(|word| word == "long") {
                flags.insert(name.replace('_', "-"));
            }
        }
    }
    flags
}

/// The commands, as they are named after the variants of the enum.
fn commands() -> BTreeSet<String> {
    let cli = fs::read_to_string(root().join("src/cli/args.rs")).expect("the command line");
    let (_, after) = cli.split_once("pub enum Command {").expect("the commands");
    let body = after.split("\n}").next().unwrap_or("");
    let variants = body.lines().filter_map(|l| l.trim().split_once('(')).map(|(name, _)| name.to_lowercase());
    variants.filter(|name| name.chars().all(char::is_alphabetic)).collect()
}

#[test]
fn commands_and_flags_of_the_documents_exist() {
    let (flags, commands) = (flags(), commands());
    assert!(flags.len() > 40 && commands.len() > 15, "{flags:?} {commands:?}");
    let mut wrong = Vec::new();
    let reference = ["README.md", "docs/config.md", "docs/logs.md", "docs/metrics.md", "docs/security.md"];
    let reference = reference.map(|name| {
        let path = root().join(name);
        let text = fs::read_to_string(&path).expect("a document");
        (path, text)
    });
    for (path, text) in reference.into_iter().chain(files_below(&root().join("docs/guide"), ".md")) {
        let name = path.display();
        for flag in text.split("--").skip(1) {
            let flag: String = flag.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            let flag = flag.trim_end_matches('-');
            if flag.len() > 1 && !flags.contains(flag) && !FLAGS_OF_OTHERS.contains(&flag) {
                wrong.push(format!("{name}: no command has --{flag}"));
            }
        }
        for line in text.lines() {
            for shown in
                [line.strip_prefix("    lsfast "), line.split("`lsfast ").nth(1)].into_iter().flatten()
            {
                let command: String = shown.chars().take_while(char::is_ascii_lowercase).collect();
                if !command.is_empty() && !commands.contains(&command) {
                    wrong.push(format!("{name}: there is no command lsfast {command}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
