//! Running a mediator until it is told to end.

use metropod::mediator::MediatorConfig;

use crate::cli::{Failure, MediatorOptions, print_json};

use super::ending::Ending;
use super::{Exposure, ReadyLine, runtime, warn_if_reachable};

/// Carries out `metropod mediator`.
pub fn run(options: MediatorOptions) -> Result<(), Failure> {
    let runtime = runtime()?;
    warn_if_reachable("the mediator's port", options.listen, Exposure::InTheClear);
    let config = MediatorConfig { listen: options.listen, ..MediatorConfig::new(&options.data) };
    let mut mediator = metropod::mediator::serve(config)?;
    let mut ending = runtime.block_on(async { Ending::listen(options.until_stdin_closes) })?;
    print_json(&ReadyLine { listen: mediator.address(), api: None, nbd: None })?;
    tracing::info!(listen = %mediator.address(), id = ?mediator.id(), "mediator is ready");
    runtime.block_on(ending.wait());
    runtime.shutdown_background();
    mediator.stop();
    Ok(())
}
