//! What a message costs.

use std::fmt::{Error, Write as _};

use crate::Figures;
use crate::numbers::{duration, grouped, none, ratio};

const RACTOR: &str = "ractor";
const WITH_TIMEOUT: &str = "ractor, with timeout";
const HELD: &str = "Perennial, held address";
const MAILED: &str = "Perennial, held address, Mail";
const NAMED: &str = "Perennial, by name";

/// Each way to send, against bare ractor.
pub(crate) fn tables(figures: &Figures) -> Result<String, Error> {
    let mut text = String::from(
        "| | at a time | held address | the same, `Mail` | target | by name | target | held address against ractor with timeout | \
         ractor took |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for case in figures.cases("") {
        for batch in figures.sizes(case) {
            let held = figures.get(case, HELD, batch);
            let base = figures.get(case, RACTOR, batch);
            writeln!(
                text,
                "| {case} | {} | **{}** | **{}** | 1.15 | **{}** | 1.35 | {} | {} |",
                grouped(batch),
                ratio(held, base),
                ratio(figures.get(case, MAILED, batch), base),
                ratio(figures.get(case, NAMED, batch), base),
                ratio(held, figures.get(case, WITH_TIMEOUT, batch)),
                base.map_or_else(none, |it| duration(it.p50)),
            )?;
        }
    }
    Ok(text)
}
