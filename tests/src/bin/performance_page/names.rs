//! The table of what it costs to find an actor by its name.

use std::fmt::{Error, Write as _};

use perennial_tests::figures::Figure;

use super::{Figures, OURS};
use crate::numbers::{grouped, ratio};

pub(crate) fn tables(figures: &Figures) -> Result<String, Error> {
    let mut text = String::new();
    writeln!(text, "| look-up | names | | p50 | Perennial against it |")?;
    writeln!(text, "| --- | --- | --- | --- | --- |")?;
    for case in figures.cases("look-up") {
        for names in figures.sizes(case) {
            let ours = figures.get(case, OURS, names);
            for contender in figures.contenders(case, names) {
                let theirs = figures.get(case, contender, names);
                writeln!(
                    text,
                    "| {case} | {} | {contender} | {} | {} |",
                    grouped(names),
                    theirs.map_or_else(String::new, nanoseconds),
                    if contender == OURS {
                        String::new()
                    } else {
                        format!("**{}**", ratio(ours, theirs))
                    },
                )?;
            }
        }
    }
    Ok(text)
}

/// These are kept in picoseconds.
fn nanoseconds(figure: &Figure) -> String {
    format!("{}.{} ns", figure.p50 / 1000, figure.p50 % 1000 / 100)
}
