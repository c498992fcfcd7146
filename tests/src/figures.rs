//! What the benchmarks measured, as they leave it for `performance_page`.

use std::env::current_exe;
use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One figure: how one contender did in one case.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// What was measured, such as `restart after an error`.
    pub case: String,
    /// Who was measured.
    pub contender: String,
    /// How many children the supervisor had.
    pub children: usize,
    /// How many samples there were.
    pub samples: usize,
    /// Half of the samples are not above it: nanoseconds, or bytes.
    pub p50: u64,
    /// Of a hundred samples 99 are not above it.
    pub p99: u64,
}

impl Figure {
    /// Makes the figure of these samples; the order of them does not matter.
    ///
    /// # Panics
    ///
    /// Without samples there is no figure.
    #[must_use]
    pub fn of(case: &str, contender: &str, children: usize, mut samples: Vec<u64>) -> Self {
        samples.sort_unstable();
        let at = |percent: usize| samples[(samples.len() - 1) * percent / 100];
        Self {
            case: case.to_owned(),
            contender: contender.to_owned(),
            children,
            samples: samples.len(),
            p50: at(50),
            p99: at(99),
        }
    }
}

/// Keeps the figures of one benchmark, in place of those of its last run.
///
/// # Errors
///
/// Those of writing a file.
pub fn save(benchmark: &str, figures: &[Figure]) -> io::Result<()> {
    let file = place(benchmark)?;
    fs::write(file, serde_json::to_string_pretty(figures)?)
}

/// Reads what [`save`] kept.
///
/// # Errors
///
/// Those of reading a file: it is missing as long as the benchmark has not run.
pub fn load(benchmark: &str) -> io::Result<Vec<Figure>> {
    Ok(serde_json::from_str(&fs::read_to_string(place(
        benchmark,
    )?)?)?)
}

/// Benchmarks and binaries of one build find the same folder: the one that holds the profile's.
fn place(benchmark: &str) -> io::Result<PathBuf> {
    let program = current_exe()?;
    let mut folders = program.ancestors();
    let profile = folders.find(|it| it.ends_with("release") || it.ends_with("debug"));
    let target = profile.and_then(|it| it.parent());
    let target = target.ok_or_else(|| io::Error::other("not run from a target folder"))?;
    Ok(target.join(format!("figures-{benchmark}.json")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_samples_are_not_above_the_median() {
        let figure = Figure::of("case", "contender", 1, (1..=101).rev().collect());
        assert_eq!((figure.p50, figure.p99, figure.samples), (51, 100, 101));
    }
}
