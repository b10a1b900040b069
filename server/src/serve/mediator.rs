//! Running a mediator until it is told to end.

use crate::cli::{Failure, MediatorOptions, print_json};

use super::ending::ending;
use super::{ReadyLine, runtime};

/// Carries out `metropod mediator`.
pub fn run(options: MediatorOptions) -> Result<(), Failure> {
    let runtime = runtime()?;
    let config = metropod::mediator::Config { directory: options.data, listen: options.listen };
    #[allow(unused_mut, reason = "ending a handle may or may not change it")]
    let mut mediator = metropod::mediator::serve(config)?;
    print_json(&ReadyLine { listen: mediator.address(), api: None, nbd: None })?;
    runtime.block_on(ending(options.until_stdin_closes))?;
    runtime.shutdown_background();
    mediator.stop();
    Ok(())
}
