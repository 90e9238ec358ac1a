//! `lsfast man` and `lsfast completions`, from the same definition as `--help`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Command};

use super::report::print_text;
use crate::io::durable;

/// Write man pages, or print one.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The command whose page is printed; without one, that of lsfast itself
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

/// Runs `lsfast man` for the command line `cli`.
pub(super) fn man(mut cli: Command, args: &ManArgs) -> anyhow::Result<ExitCode> {
    cli.build();
    if let Some(dir) = &args.dir {
        write_pages(&cli, dir)
            .with_context(|| format!("man pages cannot be written to {}", dir.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let command = match &args.command {
        None => &cli,
        Some(name) => cli.find_subcommand(name).with_context(|| {
            let names: Vec<&str> = shown(&cli).map(Command::get_name).collect();
            format!("there is no command {name:?}; there are {}", names.join(", "))
        })?,
    };
    print_text(&String::from_utf8_lossy(&page(command)?))?;
    Ok(ExitCode::SUCCESS)
}

fn shown(cli: &Command) -> impl Iterator<Item = &Command> {
    cli.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help")
}

fn page(command: &Command) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut out)?;
    Ok(out)
}

fn write_pages(cli: &Command, dir: &std::path::Path) -> std::io::Result<()> {
    durable::create_dir_all(dir)?;
    for command in std::iter::once(cli).chain(shown(cli)) {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        durable::write(&dir.join(format!("{name}.1")), &page(command)?, 0o644)?;
    }
    Ok(())
}

/// Runs `lsfast completions` for the command line `cli`.
pub(super) fn completions(mut cli: Command, args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut out = Vec::new();
    clap_complete::generate(args.shell, &mut cli, "lsfast", &mut out);
    print_text(&String::from_utf8_lossy(&out))?;
    Ok(ExitCode::SUCCESS)
}
