//! Rows of the failure table as scenarios of real processes: what is lost in which order, and what both arrays then show.
//!
//! - W1: hosts of both sides read and write all the time, and the judge looks at every answer.
//! - W2: after each row everything is mended, both arrays come online, and both read the same.

use std::time::{Duration, Instant};

use crate::Side;
use crate::host::Hosts;
use crate::nemesis::Fault;
use crate::network::{Impairment, Link};
use crate::stage::Stage;

/// Between two looks at what the arrays show.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long an array may take to go on alone, to be told that it must not, or to come back.
const SOON: Duration = Duration::from_secs(6);
/// How long an election may take when there was one not long ago.
const ELECTED_SOON: Duration = Duration::from_secs(20);
/// How long what is shown has to last.
const LASTS: Duration = Duration::from_millis(600);

/// What an array may show; a dead or a frozen one is not asked.
type Shown = Option<&'static str>;
const ON: Shown = Some("online");
const HELD: Shown = Some("paused");
const OFF: Shown = Some("offline");

const CUT: Fault = Fault::Impair(Link::Mirror, Impairment::Cut);
const KILL_A: Fault = Fault::Kill(Side::A);
const KILL_B: Fault = Fault::Kill(Side::B);
const PATH_OF_A: Fault = Fault::Impair(Link::Mediator(Side::A), Impairment::Cut);
const PATH_OF_B: Fault = Fault::Impair(Link::Mediator(Side::B), Impairment::Cut);
const KILL_M: Fault = Fault::KillMediator;

/// A row: its name, and what happens.
pub struct Row {
    /// As in the table.
    pub id: &'static str,
    /// Whether A is preferred; else nobody is.
    prefers_a: bool,
    story: fn(&mut Scene) -> Result<(), String>,
}

const fn row(id: &'static str, story: fn(&mut Scene) -> Result<(), String>) -> Row {
    Row { id, prefers_a: true, story }
}

/// All of them. Those with a pre-election are apart: the next one waits until the last is 16 s ago.
pub const ROWS: &[Row] = &[
    row("F07", f07),
    Row {
        prefers_a: false,
        ..row("F01", |scene| {
            scene.begin(CUT)?;
            scene.expect_one()
        })
    },
    row("F02", |scene| {
        scene.begin(CUT)?;
        scene.expect([ON, OFF])
    }),
    row("F04", f04),
    row("F05", |scene| {
        scene.begin(KILL_A)?;
        scene.expect([None, ON])
    }),
    row("F06", |scene| {
        scene.begin(KILL_A)?;
        scene.begin(PATH_OF_A)?;
        scene.expect([None, ON])
    }),
    row("F20", |scene| {
        scene.elect()?;
        scene.begin(CUT)?;
        scene.expect([ON, OFF])
    }),
    row("F12", |scene| {
        scene.begin(Fault::Impair(Link::Mirror, Impairment::CutFrom(Side::A)))?;
        scene.expect([ON, OFF])
    }),
    row("F23", |scene| {
        scene.begin(KILL_M)?;
        scene.begin(CUT)?;
        scene.expect([HELD, HELD])
    }),
    row("F24", |scene| {
        scene.begin(KILL_M)?;
        scene.begin(CUT)?;
        scene.expect([HELD, HELD])?;
        scene.end(CUT)?;
        scene.expect([ON, ON])
    }),
    row("F26", |scene| {
        scene.begin(PATH_OF_A)?;
        scene.pass(1000);
        scene.begin(CUT)?;
        scene.expect([HELD, ON])?;
        scene.end(PATH_OF_A)?;
        scene.expect([OFF, ON])
    }),
    row("F30", |scene| {
        scene.part()?;
        scene.begin(KILL_A)?;
        scene.lasts([None, OFF], Duration::from_secs(3))
    }),
    row("F21", |scene| {
        scene.elect()?;
        scene.begin(KILL_B)?;
        scene.expect([ON, None])
    }),
    row("F31", |scene| {
        scene.part()?;
        scene.begin(KILL_A)?;
        scene.pass(500);
        scene.end(KILL_A)?;
        scene.expect([ON, OFF])?;
        scene.end(CUT)?;
        scene.expect([ON, ON])
    }),
    row("F36", |scene| {
        scene.begin(Fault::PowerLoss { mediator: true })?;
        scene.pass(300);
        scene.end(Fault::PowerLoss { mediator: true })?;
        scene.expect([ON, ON])
    }),
    row("F37", |scene| {
        scene.begin(CUT)?;
        scene.pass(200 + scene.dice % 500);
        scene.begin(KILL_A)?;
        // On, unless the mediator had stored A's grant.
        scene.expect_any(Side::B, &["online", "offline"])
    }),
    row("F38", |scene| {
        scene.part()?;
        scene.pass(1000);
        scene.end(CUT)?;
        scene.pass(scene.dice % 400);
        scene.begin(CUT)?;
        scene.expect_any(Side::A, &["online"])
    }),
    row("F39", |scene| {
        scene.part()?;
        scene.pass(1000);
        scene.end(CUT)?;
        scene.pass(scene.dice % 100);
        scene.begin(KILL_A)?;
        scene.expect_any(Side::B, &["online", "offline"])
    }),
    row("F22", |scene| {
        scene.elect()?;
        scene.begin(KILL_A)?;
        scene.expect([None, OFF])?;
        scene.end(KILL_M)?;
        scene.lasts([None, OFF], Duration::from_secs(2))
    }),
    row("F59", |scene| {
        scene.elect_by(Fault::FreezeMediator)?;
        scene.begin(CUT)?;
        scene.expect([ON, OFF])
    }),
    row("F60", |scene| {
        scene.begin(Fault::Freeze(Side::A))?;
        scene.expect([None, ON])?;
        scene.pass(1000);
        scene.end(Fault::Freeze(Side::A))?;
        scene.expect([ON, ON])
    }),
    row("F88", |scene| {
        scene.begin(PATH_OF_B)?;
        scene.begin(CUT)?;
        scene.pass(150 + scene.dice % 300);
        scene.begin(PATH_OF_A)?;
        scene.end(PATH_OF_B)?;
        scene.end(CUT)?;
        scene.expect([ON, ON])?;
        scene.end(PATH_OF_A)?;
        scene.whole()?;
        scene.begin(KILL_A)?;
        scene.expect([None, ON])
    }),
    row("F91", |scene| {
        let sequencer = scene.stage.sequencer()?;
        scene.begin(Fault::Kill(sequencer))?;
        scene.end(Fault::Kill(sequencer))?;
        scene.expect([ON, ON])
    }),
    row("F93", |scene| {
        scene.part()?;
        scene.pass(500);
        scene.end(CUT)?;
        scene.pass(scene.dice % 300);
        let side = Side::BOTH[(scene.dice % 2) as usize];
        scene.begin(Fault::Kill(side))?;
        scene.pass(200);
        scene.end(Fault::Kill(side))?;
        scene.expect([ON, ON])
    }),
];

fn f04(scene: &mut Scene) -> Result<(), String> {
    for _ in 0..5 {
        scene.begin(CUT)?;
        scene.pass(60);
        scene.end(CUT)?;
        scene.expect([ON, ON])?;
    }
    Ok(())
}

fn f07(scene: &mut Scene) -> Result<(), String> {
    scene.elect()?;
    scene.lasts([ON, ON], LASTS)?;
    scene.end(KILL_M)?;
    scene.whole()
}

/// What a row happens to.
pub struct Scene<'a> {
    /// All that runs.
    pub stage: &'a mut Stage,
    hosts: &'a Hosts,
    open: Vec<Fault>,
    /// A number of this try.
    dice: u64,
}

/// Runs a row, and mends what it broke. `Err`: what was not as it should be.
pub fn run(row: &Row, stage: &mut Stage, hosts: &Hosts, dice: u64) -> Result<(), String> {
    stage.prefer(row.prefers_a.then_some(Side::A))?;
    let mut scene = Scene { stage, hosts, open: Vec::new(), dice };
    let outcome = (row.story)(&mut scene).map_err(|said| format!("{}: {said}", row.id));
    for fault in std::mem::take(&mut scene.open) {
        fault.end(scene.stage, hosts)?;
    }
    outcome
}

impl Scene<'_> {
    fn begin(&mut self, fault: Fault) -> Result<(), String> {
        self.open.push(fault);
        fault.begin(self.stage, self.hosts)
    }

    fn end(&mut self, fault: Fault) -> Result<(), String> {
        self.open.retain(|open| *open != fault);
        fault.end(self.stage, self.hosts)
    }

    fn pass(&self, ms: u64) {
        std::thread::sleep(Duration::from_millis(ms));
    }

    /// M is lost, and A is pre-elected.
    fn elect(&mut self) -> Result<(), String> {
        self.elect_by(KILL_M)
    }

    fn elect_by(&mut self, fault: Fault) -> Result<(), String> {
        self.begin(fault)?;
        self.within(ELECTED_SOON, "A is pre-elected", |scene| {
            let elected = Side::BOTH.map(|side| scene.stage.pre_elected(side));
            if elected == [Some(Side::A); 2] { Ok(()) } else { Err(format!("{elected:?}")) }
        })
    }

    /// L is lost, and A goes on.
    fn part(&mut self) -> Result<(), String> {
        self.begin(CUT)?;
        self.expect([ON, OFF])
    }

    /// Both online, the right at the mediator.
    fn whole(&self) -> Result<(), String> {
        self.stage.wait_whole().map(drop)
    }

    /// Both come to show this, and go on doing so for a while. (An array serves reads until its lease is over, and only
    /// then goes on alone.)
    fn expect(&self, shown: [Shown; 2]) -> Result<(), String> {
        self.until(&format!("{shown:?}"), |scene| {
            scene.compare(shown)?;
            scene.lasts(shown, LASTS)
        })
    }

    /// Exactly one comes to be online.
    fn expect_one(&self) -> Result<(), String> {
        self.until("one of both online", |scene| {
            let found = Side::BOTH.map(|side| scene.stage.status(side).unwrap_or_default());
            let mut sorted = found.clone();
            sorted.sort();
            if sorted == ["offline", "online"] { Ok(()) } else { Err(format!("{found:?}")) }
        })
    }

    fn expect_any(&self, side: Side, any: &[&str]) -> Result<(), String> {
        self.until(&format!("{any:?} at {}", side.name()), |scene| {
            let found = scene.stage.status(side)?;
            if any.contains(&found.as_str()) { Ok(()) } else { Err(found) }
        })
    }

    fn lasts(&self, shown: [Shown; 2], span: Duration) -> Result<(), String> {
        let begin = Instant::now();
        while begin.elapsed() < span {
            self.compare(shown).map_err(|found| format!("{shown:?} did not last: {found}"))?;
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    fn compare(&self, shown: [Shown; 2]) -> Result<(), String> {
        for (side, shown) in Side::BOTH.into_iter().zip(shown) {
            let Some(shown) = shown else { continue };
            let found = self.stage.status(side)?;
            if found != shown {
                return Err(format!("{} is {found}", side.name()));
            }
        }
        Ok(())
    }

    fn until(&self, what: &str, holds: impl Fn(&Scene) -> Result<(), String>) -> Result<(), String> {
        self.within(SOON, what, holds)
    }

    fn within(
        &self,
        span: Duration,
        what: &str,
        holds: impl Fn(&Scene) -> Result<(), String>,
    ) -> Result<(), String> {
        let begin = Instant::now();
        loop {
            let Err(found) = holds(self) else { return Ok(()) };
            if begin.elapsed() > span {
                return Err(format!("expected {what} within {} s, found {found}", span.as_secs()));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}
