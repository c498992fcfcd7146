//! What supervision costs.

use std::fmt::{Error, Write as _};

use crate::numbers::{duration, grouped, none, ratio, ratios};
use crate::{APART, Figures, OURS};

const HAND_WRITTEN: &str = "hand-written";
const RACTOR: &str = "ractor";
const OTHERS: [&str; 2] = ["kameo", APART];

pub(crate) fn tables(figures: &Figures) -> Result<String, Error> {
    let mut text = String::new();
    restarts(&mut text, figures)?;
    growth(&mut text, figures)?;
    whole_fleets(&mut text, figures)?;
    memory(&mut text, figures)?;
    Ok(text)
}

/// From the order to crash until the new run is up, against the supervisor written by hand.
fn restarts(text: &mut String, figures: &Figures) -> Result<(), Error> {
    writeln!(
        text,
        "From the order to crash until the next run is up, against the hand-written supervisor (p50 / p99):\n\n\
         | | children | {OURS} | target, p50 | {} | {} | {HAND_WRITTEN} took |\n\
         | --- | --- | --- | --- | --- | --- | --- |",
        OTHERS[0], OTHERS[1]
    )?;
    for case in figures.cases("restart") {
        for children in figures.sizes(case) {
            let base = figures.get(case, HAND_WRITTEN, children);
            let against = |contender| {
                let base = figures.beside(contender, case, HAND_WRITTEN, children);
                ratios(figures.get(case, contender, children), base)
            };
            writeln!(
                text,
                "| {case} | {} | **{}** | 1.25 | {} | {} | {} |",
                grouped(children),
                against(OURS),
                against(OTHERS[0]),
                against(OTHERS[1]),
                base.map_or_else(none, |it| duration(it.p50)),
            )?;
        }
    }
    writeln!(text)
}

/// What many siblings cost, against none.
fn growth(text: &mut String, figures: &Figures) -> Result<(), Error> {
    writeln!(
        text,
        "The most siblings against none (p50):\n\n\
         | | children | {OURS} | target | {HAND_WRITTEN} | {} | {} |\n\
         | --- | --- | --- | --- | --- | --- | --- |",
        OTHERS[0], OTHERS[1]
    )?;
    for case in figures.cases("restart") {
        let Some(children) = figures.sizes(case).last().copied() else {
            continue;
        };
        let grows = |contender| {
            let many = figures.get(case, contender, children);
            ratio(many, figures.get(case, contender, 1))
        };
        let target = if case.contains("same child") { "2" } else { "" };
        writeln!(
            text,
            "| {case} | {} | **{}** | {target} | {} | {} | {} |",
            grouped(children),
            grows(OURS),
            grows(HAND_WRITTEN),
            grows(OTHERS[0]),
            grows(OTHERS[1]),
        )?;
    }
    writeln!(text)
}

/// What is done to all children, or to many at once.
fn whole_fleets(text: &mut String, figures: &Figures) -> Result<(), Error> {
    writeln!(
        text,
        "| | children | against | {OURS} | target | {} | {} | the other took |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- |",
        OTHERS[0], OTHERS[1]
    )?;
    for (case, base, target) in [
        ("start", RACTOR, "1.15"),
        ("stop", RACTOR, "1.5"),
        ("storm", HAND_WRITTEN, "1.25"),
    ] {
        for children in figures.sizes(case) {
            let other = figures.get(case, base, children);
            let against = |contender| {
                let base = figures.beside(contender, case, base, children);
                ratio(figures.get(case, contender, children), base)
            };
            writeln!(
                text,
                "| {case} | {} | {base} | **{}** | {target} | {} | {} | {} |",
                grouped(children),
                against(OURS),
                against(OTHERS[0]),
                against(OTHERS[1]),
                other.map_or_else(none, |it| duration(it.p50)),
            )?;
        }
    }
    writeln!(text)
}

fn memory(text: &mut String, figures: &Figures) -> Result<(), Error> {
    for children in figures.sizes("memory") {
        let bytes = |contender| figures.get("memory", contender, children).map(|it| it.p50);
        if let (Some(ours), Some(bare)) = (bytes(OURS), bytes(RACTOR)) {
            let than = if ours < bare { "less" } else { "more" };
            writeln!(
                text,
                "An idle child among {} takes {} bytes of the heap, its spec and its id included, and a bare ractor \
                 actor {}: **{} bytes** {than}. The target is 512.",
                grouped(children),
                grouped(ours),
                grouped(bare),
                grouped(ours.abs_diff(bare)),
            )?;
        }
    }
    Ok(())
}
