//! The `metropod` binary.

// Many threads allocate here and free there; the C library keeps an arena for each (docs/decisions/0030).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    metropod_server::cli::run()
}
