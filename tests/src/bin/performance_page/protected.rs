//! What a guard costs, and what its parts do by themselves.

use std::fmt::{Error, Write as _};

use crate::numbers::{duration, grouped, none, ratio};
use crate::{Figures, OURS};

const BY_HAND: &str = "by hand";
const WITH_TIMEOUTS: &str = "by hand, with timeouts";

/// A protected operation against the same wired by hand.
pub(crate) fn guard(figures: &Figures) -> Result<String, Error> {
    let mut text = String::from(
        "| | tasks | against by hand | target | against by hand, with timeouts | target | by hand took |\n\
         | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for case in figures.cases("") {
        let (bare, with_timeouts) = if case.starts_with("plain") {
            ("0.8", "0.4")
        } else {
            ("1.0", "")
        };
        for tasks in figures.sizes(case) {
            let ours = figures.get(case, OURS, tasks);
            let base = figures.get(case, BY_HAND, tasks);
            writeln!(
                text,
                "| {case} | {tasks} | **{}** | {bare} | **{}** | {with_timeouts} | {} |",
                ratio(ours, base),
                ratio(ours, figures.get(case, WITH_TIMEOUTS, tasks)),
                base.map_or_else(none, |it| duration(it.p50)),
            )?;
        }
    }
    Ok(text)
}

/// Each part against the crate that does the same.
pub(crate) fn parts(figures: &Figures) -> Result<String, Error> {
    let mut text = format!(
        "| | how many | against | {OURS} | target | the other took |\n\
         | --- | --- | --- | --- | --- | --- |\n"
    );
    for case in figures.cases("") {
        for count in figures.sizes(case) {
            let contenders = figures.contenders(case, count);
            let (ours, others): (Vec<&str>, Vec<&str>) =
                contenders.iter().partition(|it| it.starts_with(OURS));
            for (subject, other) in ours
                .iter()
                .flat_map(|subject| others.iter().map(move |other| (*subject, *other)))
            {
                let variant = subject.strip_prefix(OURS).unwrap_or_default();
                let base = figures.get(case, other, count);
                writeln!(
                    text,
                    "| {case}{variant} | {} | {other} | **{}** | {} | {} |",
                    grouped(count),
                    ratio(figures.get(case, subject, count), base),
                    if variant.is_empty() {
                        target(case, other, count)
                    } else {
                        ""
                    },
                    base.map_or_else(none, |it| duration(it.p50)),
                )?;
            }
        }
    }
    Ok(text)
}

/// What a part may take at most of what the other takes.
fn target(case: &str, other: &str, count: usize) -> &'static str {
    match (case.split(',').next().unwrap_or(case), other) {
        ("1", "governor") => "1.0",
        ("1", "failsafe") => "0.6",
        ("checkout", "deadpool") if count == 50 => "0.7",
        ("checkout", "deadpool") => "1.0",
        _ => "",
    }
}
