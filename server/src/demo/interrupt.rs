//! Ctrl-C in the demo: the story ends between two steps, so that its children are ended and its files removed in order.
//!
//! - I1: a second one ends the program at once; the children end because their stdin closes, the files stay.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::serve::Ending;

/// Signals are the process's, so there is one of this.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Exit status of I1: as a shell has it for SIGINT.
const STATUS_AT_ONCE: i32 = 130;

/// The demo was asked to end.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(super) struct Interrupted;

/// Listens for SIGINT and SIGTERM from now on.
pub(super) fn listen() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut ending = runtime.block_on(async { Ending::listen(false) })?;
    std::thread::Builder::new().name("metropod-interrupt".into()).spawn(move || {
        runtime.block_on(ending.wait());
        INTERRUPTED.store(true, Ordering::Release);
        runtime.block_on(ending.wait());
        std::process::exit(STATUS_AT_ONCE);
    })?;
    Ok(())
}

/// Says so if the demo was asked to end.
pub(super) fn check() -> Result<(), Interrupted> {
    if INTERRUPTED.load(Ordering::Acquire) { Err(Interrupted) } else { Ok(()) }
}
