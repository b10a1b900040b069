//! Searches within bounds given as arguments, and says what it counted.
//!
//! `metropod-model [order=depth] [threads=N] [transitions=MAX] start=pair cuts=1 time=4 …`, see [`metropod_model::Bounds`].
//! Ends with 1 when something is wrong, with 2 when the arguments are.

use std::process::ExitCode;

use metropod_model::{Bounds, Order, check};

fn main() -> ExitCode {
    // What the shipped code asserts is reported as what is wrong, not as a panic.
    std::panic::set_hook(Box::new(|_| {}));
    let mut bounds = Bounds::default();
    let (mut order, mut threads, mut transitions) = (Order::Breadth, 1, usize::MAX);
    for argument in std::env::args().skip(1) {
        let taken = match argument.split_once('=') {
            Some(("order", "depth")) => {
                order = Order::Depth;
                Ok(())
            }
            Some(("order", "breadth")) => Ok(()),
            Some(("threads", count)) => count.parse().map(|count| threads = count).map_err(|_| ()),
            Some(("transitions", most)) => most.parse().map(|most| transitions = most).map_err(|_| ()),
            _ => bounds.set(&argument).map_err(|_| ()),
        };
        if taken.is_err() {
            eprintln!("{argument:?} is no bound");
            return ExitCode::from(2);
        }
    }
    let checked = check(bounds, order, threads, transitions);
    println!("{checked}");
    match &checked.wrong {
        None => ExitCode::SUCCESS,
        Some((_, actions)) => {
            for action in actions {
                println!("  {action:?}");
            }
            ExitCode::FAILURE
        }
    }
}
