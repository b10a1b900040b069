//! Tables of `pod forecast` and `pod explain`.

use crate::api::shapes::{CutShape, ExplanationShape, ForecastShape};

use super::table::Table;

pub(super) fn forecast(forecast: &ForecastShape) -> Table {
    let mut table = Table::new(["IF LOST", "GOES ON", "BECAUSE"]);
    for cut in &forecast.cuts {
        table.row([lost(cut), goes_on(cut), cut.because.clone()]);
    }
    table
}

fn lost(cut: &CutShape) -> String {
    match (cut.lost.as_str(), &cut.array) {
        ("array", Some(array)) => format!("array {array}"),
        ("link_and_mediator", _) => "link and mediator".to_owned(),
        (other, _) => other.to_owned(),
    }
}

fn goes_on(cut: &CutShape) -> String {
    match cut.outcome.as_str() {
        "nobody" => "nobody".to_owned(),
        "unknown" => "unknown".to_owned(),
        "either" => cut.online.join(" or "),
        _ => cut.online.join(" and "),
    }
}

pub(super) fn explanation(why: &ExplanationShape) -> Table {
    let mut table = Table::of_values();
    table.value("pod", &why.pod);
    table.value("array", &why.array);
    table.value("status", &why.status);
    table.value("because", &why.because);
    if let Some(until) = &why.until {
        table.value("until", until);
    }
    table.value("epoch", format_args!("{}.{}", why.epoch.era, why.epoch.number));
    for decision in &why.decisions {
        let epoch = format!("decided in {}.{}", decision.epoch.era, decision.epoch.number);
        table.value(&epoch, &decision.decided);
    }
    table
}
