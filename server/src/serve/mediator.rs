//! Running a mediator until it is told to end.

use metropod::mediator::MediatorConfig;

use crate::cli::{Failure, MediatorOptions, print_json};

use super::ending::ending;
use super::{ReadyLine, runtime};

/// Carries out `metropod mediator`.
pub fn run(options: MediatorOptions) -> Result<(), Failure> {
    let runtime = runtime()?;
    let config = MediatorConfig { listen: options.listen, ..MediatorConfig::new(&options.data) };
    let mut mediator = metropod::mediator::serve(config)?;
    print_json(&ReadyLine { listen: mediator.address(), api: None, nbd: None })?;
    tracing::info!(listen = %mediator.address(), id = ?mediator.id(), "mediator is ready");
    let ended = runtime.block_on(ending(options.until_stdin_closes));
    runtime.shutdown_background();
    mediator.stop();
    Ok(ended?)
}
