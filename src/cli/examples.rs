//! Examples of the commands, for their help and their man pages.

use clap::Command;

/// Name of a command, and its examples: what each does, and the line to type.
const EXAMPLES: [(&str, &[(&str, &str)]); 30] = [
    (
        "replicate",
        &[
            (
                "Replicate one database until SIGTERM or Ctrl-C",
                "lsfast replicate /srv/app.db s3://my-bucket/app",
            ),
            ("Replicate all databases of the config file", "lsfast replicate --config /etc/lsfast.yml"),
            (
                "Restore what is missing, run the application, and end with it",
                "lsfast replicate --restore-if-db-not-exists --exec \"myapp --port 8080\" /srv/app.db s3://my-bucket/app",
            ),
            (
                "Store what is committed now, and end",
                "lsfast replicate --once /srv/app.db s3://my-bucket/app",
            ),
        ],
    ),
    (
        "restore",
        &[
            ("Restore the newest state", "lsfast restore -o /srv/app.db s3://my-bucket/app"),
            (
                "Restore the state of yesterday, 14:03",
                "lsfast restore -o old.db --timestamp \"yesterday 14:03\" s3://my-bucket/app",
            ),
            (
                "Take an existing, unused database back to 14:03, by the pages that differ",
                "lsfast restore --into app.db --timestamp 14:03 s3://my-bucket/app",
            ),
            (
                "Restore at the start of a container, if there is anything to restore",
                "lsfast restore --if-db-not-exists --if-replica-exists -o /srv/app.db s3://my-bucket/app",
            ),
            ("Keep a read-only copy up to date", "lsfast restore -f -o standby.db s3://my-bucket/app"),
        ],
    ),
    ("promote", &[("Make a standby an ordinary database", "lsfast promote standby.db")]),
    ("databases", &[("List what the config file names", "lsfast databases --config /etc/lsfast.yml")]),
    (
        "explain",
        &[
            ("Show what a URL means", "lsfast explain s3://my-bucket/app"),
            ("Show what a config file means", "lsfast explain --config /etc/litestream.yml"),
        ],
    ),
    ("points", &[("List the newest states, with their times", "lsfast points s3://my-bucket/app")]),
    (
        "log",
        &[
            ("Show the newest steps, with the rows that each changed", "lsfast log s3://my-bucket/app"),
            (
                "Find when rows of one table were deleted",
                "lsfast log --since \"3h ago\" --table orders s3://my-bucket/app",
            ),
        ],
    ),
    (
        "query",
        &[
            ("Ask the newest state", "lsfast query s3://my-bucket/app \"SELECT count(*) FROM orders\""),
            (
                "Print rows as they were two hours ago, for another program",
                "lsfast query s3://my-bucket/app --timestamp \"2h ago\" --csv \"SELECT * FROM orders\"",
            ),
        ],
    ),
    (
        "diff",
        &[
            ("Show the rows that changed since a time", "lsfast diff --from \"2h ago\" s3://my-bucket/app"),
            (
                "Write the SQL that brings deleted rows back",
                "lsfast diff --from 14:02 --to 14:04 --only deleted --undo s3://my-bucket/app > undo.sql",
            ),
        ],
    ),
    (
        "shell",
        &[
            ("Look around, at any time (.at \"2h ago\")", "lsfast shell s3://my-bucket/app"),
            (
                "Keep what is read for the next time",
                "lsfast shell --cache ~/.cache/lsfast s3://my-bucket/app",
            ),
        ],
    ),
    (
        "verify",
        &[
            ("Read a whole replica", "lsfast verify s3://my-bucket/app"),
            (
                "Compare a replica with the database as well",
                "lsfast verify --db /srv/app.db s3://my-bucket/app",
            ),
        ],
    ),
    (
        "repair",
        &[
            ("Show what would be done", "lsfast repair --dry-run --db /srv/app.db s3://my-bucket/app"),
            ("Do it", "lsfast repair --db /srv/app.db s3://my-bucket/app"),
        ],
    ),
    ("ltx", &[("List the files of a replica", "lsfast ltx s3://my-bucket/app")]),
    (
        "status",
        &[
            ("Ask the lsfast that replicates a database", "lsfast status /srv/app.db"),
            ("The same for programs", "lsfast status --json /srv/app.db"),
            ("For programs that read Litestream's", "lsfast status --json=litestream"),
        ],
    ),
    ("sync", &[("Wait until what is committed now is stored", "lsfast sync --wait /srv/app.db")]),
    (
        "register",
        &[("Replicate one more database", "lsfast register --replica s3://my-bucket/more /srv/more.db")],
    ),
    (
        "unregister",
        &[
            ("Show what would be done", "lsfast unregister --dry-run /srv/more.db"),
            ("Store what is committed, and end its replication", "lsfast unregister /srv/more.db"),
        ],
    ),
    ("stop", &[("Store what is committed, and pause a database", "lsfast stop /srv/app.db")]),
    ("start", &[("Go on with it", "lsfast start /srv/app.db")]),
    ("list", &[("For programs, at another socket", "lsfast list --json --socket /run/lsfast.sock")]),
    ("info", &[("For programs", "lsfast info --json")]),
    ("generations", &[("List what Litestream 0.3 has stored", "lsfast generations s3://my-bucket/old")]),
    ("snapshots", &[("List what Litestream 0.3 has stored", "lsfast snapshots s3://my-bucket/old")]),
    ("wal", &[("List what Litestream 0.3 has stored", "lsfast wal s3://my-bucket/old")]),
    ("reset", &[("Show what would be removed", "lsfast reset --dry-run /srv/app.db")]),
    (
        "bench",
        &[
            ("Measure with a temporary directory", "lsfast bench"),
            (
                "Measure with your bucket and a load like yours",
                "lsfast bench --rate 100 --rows 10 s3://my-bucket/scratch",
            ),
        ],
    ),
    (
        "doctor",
        &[
            ("Try everything that replication needs", "lsfast doctor /srv/app.db s3://my-bucket/app"),
            ("The same for the config file", "lsfast doctor --config /etc/lsfast.yml"),
        ],
    ),
    ("version", &[("For programs", "lsfast version --json")]),
    (
        "man",
        &[
            ("Read the page of a command", "lsfast man restore | man -l -"),
            ("Read the page of the config file", "lsfast man lsfast.yml | man -l -"),
        ],
    ),
    ("completions", &[("Complete in this shell", "source <(lsfast completions bash)")]),
];

/// The command line `cli` with examples at the end of each `--help`.
pub(super) fn added_to(cli: Command) -> Command {
    // One by one, each would move to the end of the list.
    cli.mut_subcommands(|command| {
        let examples = of(command.get_name());
        if examples.is_empty() {
            return command;
        }
        let lines = examples.iter().map(|(what, line)| format!("\n  {what}:\n      {line}"));
        command.after_long_help(format!("Examples:{}", lines.collect::<String>()))
    })
}

/// The examples of a command.
pub(super) fn of(name: &str) -> &'static [(&'static str, &'static str)] {
    EXAMPLES.iter().find(|(command, _)| *command == name).map_or(&[], |(_, examples)| examples)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::args::Cli;

    #[test]
    fn each_example_is_a_command_line() {
        let lines = EXAMPLES.iter().flat_map(|(name, examples)| examples.iter().map(move |e| (name, e.1)));
        for (name, line) in lines {
            let line = line.trim_start_matches("source <(").trim_end_matches(')');
            let line = line.split(" | ").next().expect("a command").split(" > ").next().expect("a command");
            let words = shell_words::split(line).expect("words");
            let command = added_to(Cli::command());
            let words = crate::cli::flags::normalise(&command, words.into_iter().map(Into::into));
            let matches = command.try_get_matches_from(words).unwrap_or_else(|e| panic!("{line}: {e}"));
            assert_eq!(matches.subcommand_name(), Some(*name), "{line}");
        }
    }

    #[test]
    fn help_ends_with_examples() {
        for command in Cli::command().get_subcommands() {
            assert!(!of(command.get_name()).is_empty(), "{} has no example", command.get_name());
        }
        let mut restore = added_to(Cli::command()).find_subcommand("restore").expect("a command").clone();
        let help = restore.render_long_help().to_string();
        assert!(help.trim_end().ends_with("lsfast restore -f -o standby.db s3://my-bucket/app"), "{help}");
    }
}
