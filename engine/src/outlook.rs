//! What would happen to a pod if something were lost, and why it is as it is: the protocol's answers in users' words.

use std::collections::BTreeMap;

use metropod_protocol::{
    Alarm, ArrayId, Because, Cut, Decided, Decision, Epoch, Forecast, Machine, Stays, Why,
};

use crate::array::Array;
use crate::driver::now;
use crate::observe::{hex, side_status};
use crate::status::SideStatus;

/// Decisions that are told.
const DECISIONS_MAX: usize = 12;

/// Something that may be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lost {
    /// Every connection between the arrays.
    Link,
    /// This array, with its hosts.
    Array(String),
    /// The mediator, for both.
    Mediator,
    /// Link and mediator at once.
    LinkAndMediator,
}

/// One line of a forecast.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodForecast {
    /// If this is lost,
    pub lost: Lost,
    /// these arrays go on; `None`: it cannot be told from here. Two that are `either`: one of them.
    pub online: Option<Vec<String>>,
    /// One of `online` goes on, whichever is first.
    pub either: bool,
    /// Why, in a sentence.
    pub because: String,
}

/// What a configuration of the pod decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodDecision {
    /// The configuration's epoch.
    pub epoch: Epoch,
    /// Its place in the pod's log.
    pub index: u64,
    /// What was decided, in a sentence.
    pub decided: String,
}

/// Why a pod is as it is at one array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodExplanation {
    /// Whether hosts are served, as in the pod's status.
    pub status: SideStatus,
    /// The newest configuration.
    pub epoch: Epoch,
    /// Why hosts are served, held or refused, in a sentence.
    pub because: String,
    /// What changes it; `None`: nothing has to.
    pub until: Option<String>,
    /// The newest decisions, oldest first.
    pub decisions: Vec<PodDecision>,
}

impl Array {
    /// For each thing that may be lost, who goes on and why; `None`: there is no such pod here.
    pub fn forecast(&self, pod: &str) -> Option<Vec<PodForecast>> {
        let names = self.names();
        self.machine(pod, |machine| {
            let peer = machine.setup().peer;
            let lines = machine.forecast(now()).into_iter();
            // Without another array there is no link, and nothing that a mediator would decide.
            let lines = lines.filter(|line| peer.is_some() || line.cut == Cut::Own);
            lines.map(|line| names.line(machine, &line)).collect()
        })
    }

    /// Why a pod is as it is here; `None`: there is no such pod here.
    pub fn explain(&self, pod: &str) -> Option<PodExplanation> {
        let names = self.names();
        self.machine(pod, |machine| {
            let now = now();
            let status = machine.status(now);
            let (because, until) = names.why(machine, machine.explain(now));
            let decisions = machine.decisions(DECISIONS_MAX);
            PodExplanation {
                status: side_status(status.mine),
                epoch: status.epoch,
                because,
                until,
                decisions: decisions.iter().map(|decision| names.decision(decision)).collect(),
            }
        })
    }

    fn names(&self) -> Names {
        let mut names: BTreeMap<ArrayId, String> = self.peer_names().into_iter().collect();
        names.insert(self.inner().id, self.inner().name.clone());
        Names(names)
    }

    fn machine<T>(&self, pod: &str, look: impl FnOnce(&Machine) -> T) -> Option<T> {
        self.inner().driver.look(|array| {
            let mut pods = array.pods();
            let found = pods.find(|found| found.namespace().name.as_str().eq_ignore_ascii_case(pod))?;
            Some(look(found.machine()))
        })
    }
}

struct Names(BTreeMap<ArrayId, String>);

impl Names {
    fn of(&self, array: ArrayId) -> String {
        self.0.get(&array).cloned().unwrap_or_else(|| hex(&array.0))
    }

    fn line(&self, machine: &Machine, line: &Forecast) -> PodForecast {
        let setup = machine.setup();
        let me = self.of(setup.me);
        let peer = setup.peer.map_or_else(|| me.clone(), |peer| self.of(peer));
        let both = || vec![me.clone(), peer.clone()];
        PodForecast {
            lost: match line.cut {
                Cut::Link => Lost::Link,
                Cut::Peer => Lost::Array(peer.clone()),
                Cut::Own => Lost::Array(me.clone()),
                Cut::Mediator => Lost::Mediator,
                Cut::LinkAndMediator => Lost::LinkAndMediator,
            },
            online: match line.stays {
                Stays::Both | Stays::One => Some(both()),
                Stays::Only(array) => Some(vec![self.of(array)]),
                Stays::Nobody => Some(Vec::new()),
                Stays::Unknown => None,
            },
            either: line.stays == Stays::One,
            because: because(line.because, line.cut).to_owned(),
        }
    }

    /// Why, and until when.
    fn why(&self, machine: &Machine, why: Why) -> (String, Option<String>) {
        let peer = machine.setup().peer.map_or_else(|| "the other array".to_owned(), |peer| self.of(peer));
        let to_come = |text: &str| Some(text.replace("PEER", &peer));
        match why {
            Why::Sole => ("it is the only array that has the pod".to_owned(), None),
            Why::Filling { peer_in_session: true } => {
                (format!("it has the pod; {peer} is being filled from it"), to_come("PEER is level: both serve then"))
            }
            Why::Filling { peer_in_session: false } => (
                format!("it has the pod; {peer} is to have it too and cannot be reached"),
                to_come("PEER can be reached: it is filled by itself"),
            ),
            Why::Mirrored => (format!("it and {peer} are mirrored: each write is durable on both"), None),
            Why::LeaseStillRuns => (
                format!("it serves on the lease that {peer} gave it, which is about to run out"),
                to_come("the link is back, or the lease is over and it is decided who goes on"),
            ),
            Why::WentOnAlone { peer_in_session: true } => (
                format!("it went on alone; {peer} is being brought level"),
                to_come("PEER is level: both serve again by themselves"),
            ),
            Why::WentOnAlone { peer_in_session: false } => (
                format!("it went on alone, and {peer} cannot be reached"),
                to_come("PEER can be reached: it is brought level by itself"),
            ),
            Why::AwaitsPeersLease => (
                format!("it is about to go on alone, once {peer} has surely stopped"),
                to_come("the lease that it gave PEER is over, a fraction of a second"),
            ),
            Why::Behind { peer_in_session: true, first_time: true } => {
                (format!("it is being filled from {peer}"), to_come("it is level: both serve then"))
            }
            Why::Behind { peer_in_session: true, first_time: false } => (
                format!("{peer} went on without it; it is being brought level"),
                to_come("it is level: both serve then"),
            ),
            Why::Behind { peer_in_session: false, .. } => (
                format!("its copy is behind that of {peer}, which cannot be reached"),
                to_come("PEER can be reached: then it is brought level by itself"),
            ),
            Why::Stopped(alarm) => (stopped(alarm).to_owned(), to_come("somebody decides which copy stays")),
            Why::PeerIsPreElected => (
                format!("{peer} is pre-elected: it alone may go on without the other"),
                to_come("PEER can be reached"),
            ),
            Why::AnotherWentOn { holder, epoch } => {
                let holder = holder.map_or_else(|| peer.clone(), |holder| self.of(holder));
                (format!("{holder} went on alone in epoch {}.{}", epoch.era, epoch.number), to_come("PEER can be reached"))
            }
            Why::Refused => (
                "the mediator refused it: another array went on, or its register is not the one that is known here"
                    .to_owned(),
                to_come("PEER can be reached"),
            ),
            Why::DiskStuck => (
                "its disk does not finish what it was given".to_owned(),
                to_come("the disk answers, and the link or the mediator is there"),
            ),
            Why::AwaitsPeer => {
                (format!("{peer} was lost a moment ago and may be back at once"), to_come("a fraction of a second has passed"))
            }
            Why::AsksMediator => (
                format!("{peer} is lost, and the mediator was asked whether it may go on alone"),
                to_come("the mediator answers, or PEER is back"),
            ),
            Why::MediatorUnreachable => (
                format!("neither {peer} nor the mediator can be reached: the other may have gone on"),
                to_come("PEER or the mediator can be reached"),
            ),
            Why::WrongMediator => (
                format!("{peer} is lost, and another mediator answers than the one that decides for this pod"),
                to_come("PEER can be reached, or the pod's own mediator"),
            ),
            Why::NobodyEntitled => (
                format!("{peer} was lost in the instant in which the right to go on alone was being moved"),
                to_come("PEER can be reached, or the right turns out to be this array's own"),
            ),
            Why::SessionSettles => {
                (format!("it and {peer} have just found each other and compare what they have"), to_come("that is done"))
            }
        }
    }

    fn decision(&self, decision: &Decision) -> PodDecision {
        let decided = match decision.decided {
            Decided::Founded(array) => format!("the pod was made at {}", self.of(array)),
            Decided::Granted(array) => format!("{} went on alone, by the mediator's grant", self.of(array)),
            Decided::WentOn(array) => format!("{} went on alone, by its own right", self.of(array)),
            Decided::Joined { by, array } => {
                format!("{} joined, brought level by {}, which keeps the right", self.of(array), self.of(by))
            }
            Decided::PreElected(array) => format!("{} was pre-elected", self.of(array)),
            Decided::HandedBack => "the right went back to the mediator".to_owned(),
            Decided::Switched(array) => format!("{} orders from here on", self.of(array)),
        };
        PodDecision { epoch: decision.epoch, index: decision.index.0, decided }
    }
}

fn because(because: Because, cut: Cut) -> &'static str {
    match because {
        Because::OnlyCopyInSync => match cut {
            Cut::Own => "no other array has the pod",
            _ => "its copy is the only one in sync, and it asks nobody",
        },
        Because::OtherCopyBehind => "no other copy is in sync: data that is behind is never served",
        Because::PreElected => "it is pre-elected, and asks nobody",
        Because::PreElectedIsLost => {
            "the array that is lost is the pre-elected one: the other never goes on without its word"
        }
        Because::Preferred => "both ask the mediator, and the preferred array has a head start",
        Because::FirstToAsk => "both ask the mediator, which lets the first go on; no array is preferred",
        Because::AsksMediator => {
            "it asks the mediator; the other is lost, does not reach it, or has a disk that lags"
        }
        Because::NobodyAsksMediator => {
            "nobody can ask the mediator: both pause until the link or the mediator is back"
        }
        Because::RegisterInDoubt => {
            "the mediator's register is not as the pod's log says, after a race that was not finished; it is healed in session"
        }
        Because::StillMirrored => match cut {
            Cut::Mediator => {
                "nothing else is lost; without a mediator one array is pre-elected after a second"
            }
            _ => "nothing that is needed is lost",
        },
        Because::PreElectedIsUnfit => {
            "the pre-elected array's disk does not keep up, and the other never goes on without its word"
        }
        Because::NeedsNoMediator => "nothing that is needed is lost: an array is pre-elected",
        Because::Stopped => "the copies contradict each other; see `metropod pod explain`",
        Because::Moving => "the right or the membership is being moved this moment; ask again",
        Because::NotInSession => "the arrays do not hear each other; see `metropod pod explain`",
    }
}

fn stopped(alarm: Alarm) -> &'static str {
    match alarm {
        Alarm::SplitBrain => "both arrays went on alone, so that neither copy can be taken for the right one",
        Alarm::CommittedWouldBeCut => "following the other array would lose what was acknowledged here",
        _ => "the two copies contradict each other",
    }
}
