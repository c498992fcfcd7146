//! Writes what the benchmarks `supervision` and `memory` measured into `docs/performance.md`, between the two
//! markers there.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use perennial_tests::figures::{self, Figure};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance.md");
const BEGIN: &str = "<!-- supervision:begin -->";
const END: &str = "<!-- supervision:end -->";

const OURS: &str = "Perennial";
const HAND_WRITTEN: &str = "hand-written";
const RACTOR: &str = "ractor";
const OTHERS: [&str; 2] = ["kameo", "ractor-supervisor"];

fn main() -> Result<(), Box<dyn Error>> {
    let mut figures = figures::load("supervision")?;
    figures.extend(figures::load("memory")?);
    let tables = tables(&Figures(figures))?;
    let page = fs::read_to_string(PAGE)?;
    let (before, rest) = page.split_once(BEGIN).ok_or("the page lacks its marker")?;
    let (_, after) = rest
        .split_once(END)
        .ok_or("the page lacks its end marker")?;
    fs::write(
        Path::new(PAGE),
        format!("{before}{BEGIN}\n\n{tables}\n{END}{after}"),
    )?;
    print!("{tables}");
    Ok(())
}

struct Figures(Vec<Figure>);

impl Figures {
    fn get(&self, case: &str, contender: &str, children: usize) -> Option<&Figure> {
        self.0
            .iter()
            .find(|it| it.case == case && it.contender == contender && it.children == children)
    }

    /// The cases that begin so, in the order in which they were measured.
    fn cases(&self, begin: &str) -> Vec<&str> {
        let mut cases = Vec::new();
        for figure in self.0.iter().filter(|it| it.case.starts_with(begin)) {
            if !cases.contains(&figure.case.as_str()) {
                cases.push(figure.case.as_str());
            }
        }
        cases
    }

    fn sizes(&self, case: &str) -> BTreeSet<usize> {
        let measured = self.0.iter().filter(|it| it.case == case);
        measured.map(|it| it.children).collect()
    }
}

fn tables(figures: &Figures) -> Result<String, Box<dyn Error>> {
    let mut text = String::new();
    restarts(&mut text, figures)?;
    growth(&mut text, figures)?;
    whole_fleets(&mut text, figures)?;
    memory(&mut text, figures)?;
    Ok(text)
}

/// From the order to crash until the new run is up, against the supervisor written by hand.
fn restarts(text: &mut String, figures: &Figures) -> Result<(), Box<dyn Error>> {
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
            let against = |contender| ratios(figures.get(case, contender, children), base);
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
    Ok(writeln!(text)?)
}

/// What many siblings cost, against none.
fn growth(text: &mut String, figures: &Figures) -> Result<(), Box<dyn Error>> {
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
    Ok(writeln!(text)?)
}

/// What is done to all children, or to many at once.
fn whole_fleets(text: &mut String, figures: &Figures) -> Result<(), Box<dyn Error>> {
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
            let against = |contender| ratio(figures.get(case, contender, children), other);
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
    Ok(writeln!(text)?)
}

fn memory(text: &mut String, figures: &Figures) -> Result<(), Box<dyn Error>> {
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

fn ratio(figure: Option<&Figure>, base: Option<&Figure>) -> String {
    match (figure, base) {
        (Some(figure), Some(base)) => times(figure.p50, base.p50),
        _ => none(),
    }
}

fn ratios(figure: Option<&Figure>, base: Option<&Figure>) -> String {
    match (figure, base) {
        (Some(figure), Some(base)) => {
            let p99 = times(figure.p99, base.p99);
            format!("{} / {p99}", times(figure.p50, base.p50))
        }
        _ => none(),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "two or three digits of it are shown"
)]
fn times(figure: u64, base: u64) -> String {
    let times = figure as f64 / base as f64;
    if times < 10.0 {
        format!("{times:.2}")
    } else {
        format!("{times:.0}")
    }
}

/// For what was not measured: who would have taken too long.
fn none() -> String {
    "-".to_owned()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "two or three digits of it are shown"
)]
fn duration(nanoseconds: u64) -> String {
    match nanoseconds {
        0..1_000_000 => format!("{:.1} us", nanoseconds as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", nanoseconds as f64 / 1e6),
        _ => format!("{:.2} s", nanoseconds as f64 / 1e9),
    }
}

/// Writes a number with commas between its thousands.
fn grouped(number: impl ToString) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(grouped(512), "512");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(times(5, 4), "1.25");
        assert_eq!(times(667, 10), "67");
        assert_eq!(duration(2_500), "2.5 us");
        assert_eq!(duration(1_250_000_000), "1.25 s");
    }

    #[test]
    fn a_contender_that_was_not_measured_gets_a_dash() {
        let measured = Figure::of("start", OURS, 10, vec![3, 1, 2]);
        assert_eq!(ratio(None, Some(&measured)), "-");
        assert_eq!(ratio(Some(&measured), Some(&measured)), "1.00");
    }
}
