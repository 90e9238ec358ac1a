//! The `lsfast` program.

fn main() -> std::process::ExitCode {
    lsfast::cli::run()
}
