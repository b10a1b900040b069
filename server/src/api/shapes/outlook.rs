//! Shapes of forecasts and explanations.

use metropod::{Lost, PodDecision, PodExplanation, PodForecast};
use serde::{Deserialize, Serialize};

use super::EpochShape;

/// Answer of `pod forecast`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForecastShape {
    /// The pod.
    pub pod: String,
    /// A line for each thing that may be lost.
    pub cuts: Vec<CutShape>,
}

/// What happens if something is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CutShape {
    /// `link | array | mediator | link_and_mediator`.
    pub lost: String,
    /// Which array, for `array`.
    pub array: Option<String>,
    /// `both | one | either | nobody | unknown`.
    pub outcome: String,
    /// Who goes on; of two that are `either`, one.
    pub online: Vec<String>,
    /// Why.
    pub because: String,
}

/// Answer of `pod explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplanationShape {
    /// The pod.
    pub pod: String,
    /// The array that answers, and that this is about.
    pub array: String,
    /// As in `pod list`.
    pub status: String,
    /// Newest configuration.
    pub epoch: EpochShape,
    /// Why.
    pub because: String,
    /// What changes it; null: nothing has to.
    pub until: Option<String>,
    /// The newest decisions, oldest first.
    pub decisions: Vec<DecisionShape>,
}

/// A configuration of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionShape {
    /// Its epoch.
    pub epoch: EpochShape,
    /// Its place in the pod's log.
    pub index: u64,
    /// What it decided.
    pub decided: String,
}

impl ForecastShape {
    pub(crate) fn new(pod: String, lines: Vec<PodForecast>) -> ForecastShape {
        ForecastShape { pod, cuts: lines.into_iter().map(CutShape::from).collect() }
    }
}

impl From<PodForecast> for CutShape {
    fn from(line: PodForecast) -> CutShape {
        let (lost, array) = match line.lost {
            Lost::Link => ("link", None),
            Lost::Array(name) => ("array", Some(name)),
            Lost::Mediator => ("mediator", None),
            Lost::LinkAndMediator => ("link_and_mediator", None),
        };
        let outcome = match &line.online {
            None => "unknown",
            Some(_) if line.either => "either",
            Some(online) => match online[..] {
                [] => "nobody",
                [_] => "one",
                _ => "both",
            },
        };
        CutShape {
            lost: lost.to_owned(),
            array,
            outcome: outcome.to_owned(),
            online: line.online.unwrap_or_default(),
            because: line.because,
        }
    }
}

impl ExplanationShape {
    pub(crate) fn new(pod: String, array: String, why: PodExplanation) -> ExplanationShape {
        ExplanationShape {
            pod,
            array,
            status: why.status.word().to_owned(),
            epoch: why.epoch.into(),
            because: why.because,
            until: why.until,
            decisions: why.decisions.into_iter().map(DecisionShape::from).collect(),
        }
    }
}

impl From<PodDecision> for DecisionShape {
    fn from(decision: PodDecision) -> DecisionShape {
        DecisionShape { epoch: decision.epoch.into(), index: decision.index, decided: decision.decided }
    }
}
