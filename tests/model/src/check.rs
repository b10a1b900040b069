//! The search: stateright's, over [`World`].

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::action::{Action, SITUATIONS, possible};
use crate::bounds::Bounds;
use crate::oracle::Wrong;
use crate::world::{World, said};

/// In which order states are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Near ones first: a violation is found on a short path.
    Breadth,
    /// Far ones first: takes less memory.
    Depth,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Checked {
    /// Different states.
    pub states: usize,
    /// Actions carried out.
    pub transitions: usize,
    /// Actions on the longest path to a state that was looked at, by this order.
    pub depth: usize,
    /// Every state within the bounds was looked at.
    pub complete: bool,
    /// How long it took.
    pub took: Duration,
    /// Situations passed through.
    pub situations: Vec<&'static str>,
    /// What is wrong, and the actions that lead there.
    pub wrong: Option<(String, Vec<Action>)>,
}

/// The world within bounds, as stateright sees it.
struct Bounded(Bounds);

const SAFE: &str = "nothing is wrong";
const LIVE: &str = "both serve again once the faults are over";

impl Model for Bounded {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.0)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        // M3: what is wrong is an end.
        if world.wrong.is_none() {
            possible(world, actions);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        Some(world.after(action))
    }

    fn properties(&self) -> Vec<Property<Bounded>> {
        let mut properties = vec![
            Property::always(SAFE, |_: &Bounded, world: &World| world.wrong.is_none()),
            Property::always(LIVE, |model: &Bounded, world: &World| model.is_live(world)),
        ];
        properties.extend(SITUATIONS.iter().map(|(name, _)| {
            // A property takes no captures: the situation is found again by its name.
            Property {
                expectation: stateright::Expectation::Sometimes,
                name,
                condition: SOMETIMES[index(name)],
            }
        }));
        properties
    }
}

/// The place of a situation.
fn index(name: &str) -> usize {
    SITUATIONS.iter().position(|(other, _)| *other == name).expect("a situation")
}

const SOMETIMES: [fn(&Bounded, &World) -> bool; 8] = [
    |_, world| SITUATIONS[0].1(world),
    |_, world| SITUATIONS[1].1(world),
    |_, world| SITUATIONS[2].1(world),
    |_, world| SITUATIONS[3].1(world),
    |_, world| SITUATIONS[4].1(world),
    |_, world| SITUATIONS[5].1(world),
    |_, world| SITUATIONS[6].1(world),
    |_, world| SITUATIONS[7].1(world),
];
const _: () = assert!(SOMETIMES.len() == SITUATIONS.len());

impl Bounded {
    fn is_live(&self, world: &World) -> bool {
        if self.0.live == 0 || world.wrong.is_some() {
            return true;
        }
        let mut hasher = DefaultHasher::new();
        world.hash(&mut hasher);
        if !hasher.finish().is_multiple_of(u64::from(self.0.live)) {
            return true;
        }
        let mut calm = world.clone();
        let whole = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| calm.becomes_whole()));
        whole.unwrap_or(false)
    }
}

/// Searches within the bounds, until `transitions_max` actions are carried out or something is wrong.
pub fn check(bounds: Bounds, order: Order, threads: usize, transitions_max: usize) -> Checked {
    let began = Instant::now();
    // Where the way to the beginning is wrong already, there is nothing to search.
    if let Err(what) = begins(bounds) {
        let wrong = Some((format!("before the search begins: {what}"), Vec::new()));
        let (took, situations) = (began.elapsed(), Vec::new());
        return Checked { states: 0, transitions: 0, depth: 0, complete: false, took, situations, wrong };
    }
    let builder = Bounded(bounds)
        .checker()
        .threads(threads)
        .target_state_count(transitions_max)
        .finish_when(HasDiscoveries::AnyFailures);
    match order {
        Order::Breadth => report(builder.spawn_bfs().join(), began, transitions_max),
        Order::Depth => report(builder.spawn_dfs().join(), began, transitions_max),
    }
}

fn begins(bounds: Bounds) -> Result<World, String> {
    std::panic::catch_unwind(|| World::new(bounds)).map_err(|panic| said(&*panic))
}

fn report(checker: impl Checker<Bounded>, began: Instant, transitions_max: usize) -> Checked {
    let took = began.elapsed();
    let found = checker.discoveries();
    let wrong = [SAFE, LIVE].iter().find_map(|name| found.get(name).map(|path| (*name, path)));
    let wrong = wrong.map(|(name, path)| {
        let what = path.last_state().wrong.as_ref().map_or(name.to_owned(), Wrong::to_string);
        (what, path.clone().into_actions())
    });
    Checked {
        states: checker.unique_state_count(),
        transitions: checker.state_count(),
        // stateright counts the states of a path.
        depth: checker.max_depth().saturating_sub(1),
        complete: wrong.is_none() && checker.state_count() < transitions_max,
        took,
        situations: SITUATIONS
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| found.contains_key(name))
            .collect(),
        wrong,
    }
}

impl std::fmt::Display for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Checked { states, transitions, depth, took, .. } = self;
        let how = if self.complete { "complete" } else { "not complete" };
        let seconds = took.as_secs_f64();
        write!(f, "{states} states, {transitions} transitions, depth {depth}, {how}, {seconds:.1} s")?;
        if let Some((what, actions)) = &self.wrong {
            write!(f, "; WRONG after {} actions: {what}", actions.len())?;
        }
        write!(f, "; passed through: {}", self.situations.join(", "))
    }
}
