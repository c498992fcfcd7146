//! The source analysis, checked by hand, by queries, by ctags and by malice.

mod ctags;
mod properties;
mod queries;
mod robustness;
mod samples;

use perennial_workers::analysis::{Analyzer, FileReport, Language};

/// The sample files, those in which other tools see the same functions marked.
const SAMPLES: [(Language, &str, &str); 10] = [
    (
        Language::Rust,
        "sample.rs",
        include_str!("../samples/sample.rs"),
    ),
    (
        Language::Elixir,
        "sample.ex",
        include_str!("../samples/sample.ex"),
    ),
    (
        Language::Erlang,
        "sample.erl",
        include_str!("../samples/sample.erl"),
    ),
    (
        Language::Python,
        "sample.py",
        include_str!("../samples/sample.py"),
    ),
    (
        Language::JavaScript,
        "sample.js",
        include_str!("../samples/sample.js"),
    ),
    (
        Language::Rust,
        "plain.rs",
        include_str!("../samples/plain.rs"),
    ),
    (
        Language::Elixir,
        "plain.ex",
        include_str!("../samples/plain.ex"),
    ),
    (
        Language::Erlang,
        "plain.erl",
        include_str!("../samples/plain.erl"),
    ),
    (
        Language::Python,
        "plain.py",
        include_str!("../samples/plain.py"),
    ),
    (
        Language::JavaScript,
        "plain.js",
        include_str!("../samples/plain.js"),
    ),
];

fn analyze(language: Language, source: &str) -> FileReport {
    Analyzer::new().analyze(language, source)
}

fn sample(name: &str) -> FileReport {
    let (language, _, source) = SAMPLES
        .iter()
        .find(|(_, file, _)| *file == name)
        .expect("a sample of that name");
    analyze(*language, source)
}

/// Checks what holds for every report on every input.
#[track_caller]
fn check(report: &FileReport, source: &str) {
    let lines = &report.lines;
    assert_eq!(lines.code + lines.comment + lines.blank, lines.total);
    let text = source.strip_prefix('\u{feff}').unwrap_or(source);
    assert_eq!(lines.total as usize, text.split_inclusive('\n').count());
    assert_eq!(report.bytes, source.len() as u64);
    assert_eq!(report.has_errors(), report.syntax_errors > 0);

    // Sorted by start, each inside of those that are still open or after them.
    let mut open: Vec<(u32, u32)> = Vec::new();
    let mut last = 1;
    for definition in &report.definitions {
        let (start, end) = (definition.start_line, definition.end_line);
        assert!(
            last <= start && start <= end,
            "{definition:?} is out of order"
        );
        assert!(
            end <= lines.total.max(1),
            "{definition:?} is not in the file"
        );
        while open.pop_if(|(_, outer)| *outer < start).is_some() {}
        last = start;
        open.push((start, end));
        assert!(!definition.name.is_empty());
        assert!(
            definition
                .complexity
                .is_none_or(|complexity| complexity >= 1)
        );
        assert!(definition.complexity.is_some() || !definition.kind.is_function());
    }
}
