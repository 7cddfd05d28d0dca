//! The `hailer` program.

fn main() -> std::process::ExitCode {
    hailer::cli::run()
}
