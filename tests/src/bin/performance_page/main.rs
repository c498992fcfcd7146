//! Writes what the benchmarks measured into `docs/performance.md`, between the markers of each section there.

mod messages;
mod names;
mod numbers;
mod protected;
mod snapshot;
mod supervision;

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::io::ErrorKind;

use perennial_tests::figures::{self, Figure};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/performance.md");

const OURS: &str = "Perennial";

/// A part of the page: the name in its markers, the benchmarks behind it, and what makes tables of their figures.
type Section = (
    &'static str,
    &'static [&'static str],
    fn(&Figures) -> Result<String, std::fmt::Error>,
);

/// The benchmark that has a build of its own, and its own run of the yardsticks.
const APART: &str = "ractor-supervisor";

const SECTIONS: [Section; 6] = [
    (
        "supervision",
        &["supervision", APART, "memory"],
        supervision::tables,
    ),
    ("messages", &["messages"], messages::tables),
    ("names", &["names"], names::tables),
    ("snapshot", &["snapshot"], snapshot::tables),
    ("guard", &["guard"], protected::guard),
    (
        "parts",
        &["rate_limit", "breaker", "pool"],
        protected::parts,
    ),
];

fn main() -> Result<(), Box<dyn Error>> {
    let mut page = fs::read_to_string(PAGE)?;
    for (name, benchmarks, tables) in SECTIONS {
        let Some(figures) = load(benchmarks)? else {
            eprintln!("{name}: not all of {benchmarks:?} have run; its part of the page stays");
            continue;
        };
        let tables = tables(&figures)?;
        page = replaced(&page, name, &tables)?;
        print!("{tables}");
    }
    fs::write(PAGE, page)?;
    Ok(())
}

/// Reads the figures of some benchmarks; `None` when one of them has not run.
fn load(benchmarks: &[&'static str]) -> Result<Option<Figures>, Box<dyn Error>> {
    let mut all = Vec::new();
    for &benchmark in benchmarks {
        match figures::load(benchmark) {
            Ok(figures) => all.extend(figures.into_iter().map(|it| (benchmark, it))),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(Figures(all)))
}

/// The page with other tables between the markers of a section.
fn replaced(page: &str, name: &str, tables: &str) -> Result<String, String> {
    let [begin, end] = ["begin", "end"].map(|which| format!("<!-- {name}:{which} -->"));
    let lacks = |marker: &str| format!("the page lacks {marker}");
    let (before, rest) = page.split_once(&begin).ok_or_else(|| lacks(&begin))?;
    let (_, after) = rest.split_once(&end).ok_or_else(|| lacks(&end))?;
    Ok(format!("{before}{begin}\n\n{tables}\n{end}{after}"))
}

/// Each with the name of its benchmark.
struct Figures(Vec<(&'static str, Figure)>);

impl Figures {
    fn get(&self, case: &str, contender: &str, count: usize) -> Option<&Figure> {
        self.all()
            .find(|it| it.case == case && it.contender == contender && it.children == count)
    }

    /// The figure of a yardstick in the run of this contender.
    fn beside(&self, contender: &str, case: &str, base: &str, count: usize) -> Option<&Figure> {
        if contender != APART {
            return self.get(case, base, count);
        }
        let apart = self.0.iter().filter(|(benchmark, _)| *benchmark == APART);
        apart
            .map(|(_, it)| it)
            .find(|it| it.case == case && it.contender == base && it.children == count)
    }

    fn all(&self) -> impl Iterator<Item = &Figure> {
        self.0.iter().map(|(_, it)| it)
    }

    /// The cases that begin so, in the order in which they were measured.
    fn cases(&self, begin: &str) -> Vec<&str> {
        let mut cases = Vec::new();
        for figure in self.all().filter(|it| it.case.starts_with(begin)) {
            if !cases.contains(&figure.case.as_str()) {
                cases.push(figure.case.as_str());
            }
        }
        cases
    }

    /// Who was measured in a case, in the order of the figures.
    fn contenders(&self, case: &str, count: usize) -> Vec<&str> {
        let measured = self
            .all()
            .filter(|it| it.case == case && it.children == count);
        measured.map(|it| it.contender.as_str()).collect()
    }

    fn sizes(&self, case: &str) -> BTreeSet<usize> {
        let measured = self.all().filter(|it| it.case == case);
        measured.map(|it| it.children).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_put_between_the_markers_of_their_section() {
        let page = "a <!-- x:begin -->old<!-- x:end --> b <!-- y:begin -->old<!-- y:end -->";
        assert_eq!(
            replaced(page, "x", "new").unwrap(),
            "a <!-- x:begin -->\n\nnew\n<!-- x:end --> b <!-- y:begin -->old<!-- y:end -->"
        );
        assert_eq!(
            replaced(page, "z", "new").unwrap_err(),
            "the page lacks <!-- z:begin -->"
        );
    }
}
