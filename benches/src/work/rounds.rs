//! Ways of doing one thing in alternating rounds.
//!
//! Every round runs every way once; odd rounds run them backwards, so that drift of the machine hits all alike. Round 0
//! warms code and files and is not kept.

use std::io;

use super::progress;
use crate::drive::Driven;
use crate::fio::RandomRun;
use crate::latency::Latency;
use crate::report::Figure;

/// What one way gave in one round.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub figure: f64,
    pub latency: Latency,
    pub p99_us: Option<f64>,
    pub cpu_us: Option<f64>,
}

type Run<'a> = Box<dyn FnMut(u64) -> io::Result<Option<Round>> + 'a>;

/// One way: what it is called, and how a round of it goes; `None`: its tool is missing.
pub(super) struct Way<'a> {
    figure: Figure,
    run: Run<'a>,
}

impl<'a> Way<'a> {
    pub(super) fn new(
        name: &str,
        unit: &'static str,
        base: Option<usize>,
        run: impl FnMut(u64) -> io::Result<Option<Round>> + 'a,
    ) -> Way<'a> {
        Way { figure: Figure::new(name, unit, base), run: Box::new(run) }
    }
}

impl Round {
    pub(super) fn figure(figure: f64) -> Round {
        Round { figure, ..Round::default() }
    }

    /// Requests per second of a driven plan.
    pub(super) fn rate(driven: &Driven) -> Round {
        Round { figure: driven.rate(), ..Round::median(driven) }
    }

    /// Median latency of a driven plan, in microseconds.
    pub(super) fn median(driven: &Driven) -> Round {
        Round { cpu_us: Some(driven.cpu_us()), ..Round::of(&driven.latency) }
    }

    /// Median of latencies, in microseconds.
    pub(super) fn of(latency: &Latency) -> Round {
        Round {
            figure: latency.percentile_us(50.0),
            p99_us: Some(latency.percentile_us(99.0)),
            latency: latency.clone(),
            cpu_us: None,
        }
    }

    /// fio's rate.
    pub(super) fn fio_rate(run: RandomRun) -> Round {
        Round { p99_us: Some(run.p99_us), ..Round::figure(run.per_second) }
    }

    /// fio's median latency, in microseconds.
    pub(super) fn fio_median(run: RandomRun) -> Round {
        Round { p99_us: Some(run.p99_us), ..Round::figure(run.p50_us) }
    }
}

/// Runs them.
pub(super) fn alternate(question: &str, rounds: u64, mut ways: Vec<Way<'_>>) -> io::Result<Vec<Figure>> {
    for round in 0..=rounds {
        let mut order: Vec<usize> = (0..ways.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let way = &mut ways[index];
            let Some(result) = (way.run)(round)? else { continue };
            if round > 0 {
                way.figure.samples.push(result.figure);
                way.figure.latency.add(&result.latency);
                way.figure.p99_us.extend(result.p99_us);
                way.figure.cpu_us.extend(result.cpu_us);
            }
        }
        progress(format_args!("{question}: round {round} of {rounds}"));
    }
    Ok(ways.into_iter().map(|way| way.figure).collect())
}
