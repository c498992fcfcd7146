//! The table of the debug actor's snapshots.

use std::fmt::{Error, Write as _};

use super::{Figures, OURS};
use crate::numbers::{duration, grouped, none};

pub(crate) fn tables(figures: &Figures) -> Result<String, Error> {
    let mut text = String::new();
    writeln!(
        text,
        "| tree | actors | p50 | p99 | others wait (p50 of the longest) |"
    )?;
    writeln!(text, "| --- | --- | --- | --- | --- |")?;
    for case in figures.cases("") {
        for actors in figures.sizes(case) {
            let Some(took) = figures.get(case, OURS, actors) else {
                continue;
            };
            let wait = figures.get(case, "others wait", actors);
            writeln!(
                text,
                "| {case} | {} | **{}** | {} | {} |",
                grouped(actors),
                duration(took.p50),
                duration(took.p99),
                wait.map_or_else(none, |it| duration(it.p50)),
            )?;
        }
    }
    Ok(text)
}
