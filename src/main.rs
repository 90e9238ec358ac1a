//! The `lsfast` program.

fn main() -> std::process::ExitCode {
    lsfast::run()
}
