//! The `metropod` binary.

fn main() -> std::process::ExitCode {
    metropod_server::cli::run()
}
