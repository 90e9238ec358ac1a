//! `lsfast man` and `lsfast completions`, from the same definition as `--help`. The exit codes and
//! the page of the config file come from `docs/`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Command};

use super::report::print_text;
use super::{examples, roff};
use crate::io::durable;

/// Write man pages, or print one.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The command whose page is printed, or `lsfast.yml` for the config file; without one, that of
    /// lsfast itself
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    pub command: Option<String>,
    /// Write all pages into this directory instead
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Print a completion script for a shell.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}

/// The page of the config file, and where it comes from.
const CONFIG_PAGE: &str = "lsfast.yml";
const CONFIG: &str = include_str!("../../docs/config.md");
/// The document that has the table of exit codes.
const LOGS: &str = include_str!("../../docs/logs.md");

/// What the page of lsfast itself has besides the help.
const ENVIRONMENT: &str = "\
## Environment

| name | meaning |
|---|---|
| `LSFAST_CONFIG`, `LITESTREAM_CONFIG` | the config file |
| `LITESTREAM_ACCESS_KEY_ID`, `LITESTREAM_SECRET_ACCESS_KEY` | the access key of replicas whose configuration has none |
| `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_PROFILE` ... | the same, as the AWS tools read them |
| `AWS_REGION`, `AWS_DEFAULT_REGION` | the region of replicas that have none |
| `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, `LITESTREAM_S3_ENDPOINT` | the endpoint of replicas that have none |
| `AWS_CA_BUNDLE`, `SSL_CERT_FILE` | trusted certificates in PEM |
| `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY` | proxies |
| `TZ` | the time zone of local times |

## Files

| path | meaning |
|---|---|
| `/etc/lsfast.yml`, `/etc/litestream.yml` | the config file, the first that exists |
| `/etc/default/lsfast` | variables of the systemd unit |
| `.NAME-lsfast` | local state of the database NAME, next to it |
";

/// Runs `lsfast man` for the command line `cli`.
pub(super) fn man(mut cli: Command, args: &ManArgs) -> anyhow::Result<ExitCode> {
    cli.build();
    if let Some(dir) = &args.dir {
        write_pages(&cli, dir)
            .with_context(|| format!("man pages cannot be written to {}", dir.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let command = match args.command.as_deref() {
        None => &cli,
        Some(CONFIG_PAGE) => {
            print_text(&config_page())?;
            return Ok(ExitCode::SUCCESS);
        }
        Some(name) => cli.find_subcommand(name).with_context(|| {
            let names: Vec<&str> = shown(&cli).map(Command::get_name).collect();
            format!("there is no command {name:?}; there are {}", names.join(", "))
        })?,
    };
    print_text(&page(&cli, command)?)?;
    Ok(ExitCode::SUCCESS)
}

fn shown(cli: &Command) -> impl Iterator<Item = &Command> {
    cli.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help")
}

/// The page of a command, or of lsfast itself.
fn page(cli: &Command, command: &Command) -> std::io::Result<String> {
    let name = command.get_name();
    let is_whole = name == cli.get_name();
    let mut out = Vec::new();
    // The examples come in a section of their own.
    clap_mangen::Man::new(command.clone().after_long_help(None::<&str>)).render(&mut out)?;
    let mut out = String::from_utf8_lossy(&out).into_owned();
    let examples = examples::of(name);
    if !examples.is_empty() {
        out.push_str(".SH EXAMPLES\n");
        for (what, line) in examples {
            out.push_str(&format!(".PP\n{}:\n", roff::escape(what)));
            roff::literal([*line].into_iter(), &mut out);
        }
    }
    out.push_str(".SH \"EXIT STATUS\"\n");
    let codes = exit_codes();
    let is_own = |of: &str| of.trim_matches('`') == name;
    for (of, code, meaning) in &codes {
        // What a command says of a code itself replaces what all say of it.
        let replaced = *of == "all" && codes.iter().any(|(of, own, _)| is_own(of) && own == code);
        let concerns = *of == "all" || of.split([' ', '`']).any(|word| word == name);
        if is_whole || (concerns && !replaced) {
            // `restore -f` and `replicate --exec` have codes of their own.
            let plain = *of == "all" || is_own(of);
            let tag = if plain { (*code).to_owned() } else { format!("{of} {code}") };
            roff::tagged(&tag, &[meaning], &mut out);
        }
    }
    if is_whole {
        out.push_str(&roff::body(ENVIRONMENT));
    }
    out.push_str(".SH \"SEE ALSO\"\n");
    let others = shown(cli).filter(|c| is_whole && c.get_name() != name);
    let mut see: Vec<String> = others.map(|c| format!("lsfast\\-{}(1)", c.get_name())).collect();
    if !is_whole {
        see.push("lsfast(1)".to_owned());
    }
    see.push("lsfast.yml(5)".to_owned());
    out.push_str(&format!("{}\n", see.join(", ")));
    Ok(out)
}

/// Command, code and meaning of each exit code.
fn exit_codes() -> Vec<(&'static str, &'static str, &'static str)> {
    let table = LOGS.split_once("\n## Exit codes\n").map_or("", |(_, rest)| rest);
    let table = table.split("\n## ").next().unwrap_or("");
    let mut of = "";
    let mut codes = Vec::new();
    for row in roff::rows(table).iter().skip(1) {
        if let [command, code, meaning] = row[..] {
            of = if command.is_empty() { of } else { command };
            codes.push((of, code, meaning));
        }
    }
    codes
}

/// `lsfast.yml(5)`.
fn config_page() -> String {
    let version = env!("CARGO_PKG_VERSION");
    let head = format!(
        ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n.TH lsfast.yml 5 \"\" \"lsfast {version}\"\n.SH NAME\n\
         lsfast.yml \\- databases that lsfast replicates, and where to\n.SH DESCRIPTION\n"
    );
    let see = ".SH \"SEE ALSO\"\nlsfast(1), lsfast\\-replicate(1), lsfast\\-explain(1), lsfast\\-doctor(1)\n";
    head + &roff::body(CONFIG) + see
}

fn write_pages(cli: &Command, dir: &std::path::Path) -> std::io::Result<()> {
    durable::create_dir_all(dir)?;
    for command in std::iter::once(cli).chain(shown(cli)) {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        durable::write(&dir.join(format!("{name}.1")), page(cli, command)?.as_bytes(), 0o644)?;
    }
    durable::write(&dir.join(format!("{CONFIG_PAGE}.5")), config_page().as_bytes(), 0o644)
}

/// Runs `lsfast completions` for the command line `cli`.
pub(super) fn completions(mut cli: Command, args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut out = Vec::new();
    clap_complete::generate(args.shell, &mut cli, "lsfast", &mut out);
    print_text(&String::from_utf8_lossy(&out))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::args::Cli;

    #[test]
    fn pages_have_exit_codes_examples_and_references() {
        let mut cli = examples::added_to(Cli::command());
        cli.build();
        let verify = page(&cli, cli.find_subcommand("verify").expect("a command")).expect("a page");
        for part in
            [".SH EXAMPLES", "lsfast verify s3://my\\-bucket/app", ".SH \"EXIT STATUS\"", "lsfast.yml(5)"]
        {
            assert!(verify.contains(part), "{part}:\n{verify}");
        }
        assert!(
            verify.contains(".TP\n5\nThe newest state can be restored, and is not that of the database.\n")
        );
        assert!(!verify.contains("An error, told in one line."), "verify says itself what 1 means");
        assert!(!verify.contains("SH EXTRA") && !verify.contains("restore \\-f"), "{verify}");
        let whole = page(&cli, &cli).expect("a page");
        assert!(
            whole.contains(".TP\n\\fBrestore \\-f\\fR 4\n") && whole.contains(".SH ENVIRONMENT"),
            "{whole}"
        );
        assert!(whole.contains("lsfast\\-doctor(1)"));
    }

    #[test]
    fn the_page_of_the_config_file_has_its_keys() {
        let page = config_page();
        for key in ["\\fBaccess\\-key\\-id\\fR\n", "\\fBmeta\\-path\\fR\n", ".SH REPLICA URLS\n"] {
            assert!(page.contains(key), "{key}:\n{page}");
        }
        assert!(!page.contains("](") && !page.contains("|---|"), "{page}");
    }
}
