//! Inputs that nobody wrote by hand.

use perennial_workers::analysis::{Analyzer, DefinitionKind, Language};

use crate::{SAMPLES, analyze, check};

#[test]
fn nesting_a_hundred_thousand_deep_is_walked() {
    const DEPTH: usize = 100_000;
    for language in Language::ALL {
        for (open, close) in [("(", ")"), ("[", "]"), ("{", "}")] {
            let (opened, closed) = (open.repeat(DEPTH), close.repeat(DEPTH));
            let (before, after) = match language {
                Language::Rust => ("fn f() { let x = ", "; }"),
                Language::Elixir => ("def f(), do: ", ""),
                Language::Erlang => ("f() -> ", "."),
                Language::Python => ("def f(): return ", "\n"),
                Language::JavaScript => ("function f() { return ", "; }"),
            };
            let source = format!("{before}{opened}1{closed}{after}");
            let report = analyze(language, &source);
            check(&report, &source);
            let valid = open == "["
                || (open == "(" && language != Language::Elixir)
                || (open == "{"
                    && matches!(
                        language,
                        Language::Rust | Language::Elixir | Language::Erlang
                    ));
            if valid {
                assert_eq!(report.syntax_errors, 0, "{language} {open}");
                assert_eq!(report.functions().count(), 1, "{language} {open}");
            }
            // Never closed.
            let source = format!("{before}{opened}");
            check(&analyze(language, &source), &source);
        }
    }
}

#[test]
fn python_blocks_too_deep_for_the_parser_do_not_abort_the_process() {
    for levels in [100, 500, 511, 2_000] {
        let mut source: String = (0..levels)
            .map(|level| format!("{}if x:\n", " ".repeat(level)))
            .collect();
        source += &format!("{}f'''{{y}}'''\n", " ".repeat(levels));
        let report = analyze(Language::Python, &source);
        check(&report, &source);
        assert_eq!(report.has_errors(), levels > 100);
    }
}

#[test]
fn nothing_is_a_file_too() {
    for language in Language::ALL {
        for (source, lines) in [("", 0), ("\n", 1), ("\u{feff}", 0), (" \t\r\n\r\n", 2)] {
            let report = analyze(language, source);
            check(&report, source);
            assert_eq!(report.lines.total, lines, "{language} {source:?}");
            assert_eq!(report.lines.blank, lines, "{language} {source:?}");
            assert!(report.definitions.is_empty());
            assert!(!report.has_errors(), "{language} {source:?}");
        }
    }
}

#[test]
fn carriage_returns_and_a_byte_order_mark_change_nothing_but_bytes() {
    for (language, name, source) in SAMPLES {
        let expected = analyze(language, source);
        let mut changes = vec![source.replace('\n', "\r\n")];
        // A `#!` line is one only at the very beginning.
        if !source.starts_with("#!") {
            changes.push(format!("\u{feff}{source}"));
        }
        for changed in changes {
            let mut report = analyze(language, &changed);
            check(&report, &changed);
            report.bytes = expected.bytes;
            assert_eq!(report, expected, "{name}");
        }
    }
}

#[test]
fn a_long_line_is_one_line() {
    let source = format!("x = [{}]\n", "1, ".repeat(300_000));
    for language in [Language::Python, Language::JavaScript] {
        let report = analyze(language, &source);
        check(&report, &source);
        assert_eq!((report.lines.total, report.has_errors()), (1, false));
    }
}

#[test]
fn null_bytes_are_errors_and_nothing_worse() {
    for (language, name, source) in SAMPLES {
        for at in (0..source.len()).step_by(97) {
            let mut broken = source.to_owned();
            broken.insert(at, '\0');
            let report = analyze(language, &broken);
            check(&report, &broken);
            assert_eq!(
                report.lines.total,
                analyze(language, source).lines.total,
                "{name}"
            );
        }
        let nulls = "\0".repeat(10_000);
        check(&analyze(language, &nulls), &nulls);
    }
}

#[test]
fn what_parses_is_reported_beside_what_does_not() {
    let cases = [
        (Language::Rust, "fn a() {}\nfn ) {\n}\nfn b() {}\n"),
        (Language::Python, "def a(): pass\n)(\ndef b(): pass\n"),
        (
            Language::JavaScript,
            "function a() {}\n)(;\nfunction b() {}\n",
        ),
        (Language::Erlang, "a() -> ok.\n)(.\nb() -> ok.\n"),
        (Language::Elixir, "def a(), do: 1\n)\ndef b(), do: 2\n"),
    ];
    for (language, source) in cases {
        let report = analyze(language, source);
        check(&report, source);
        assert!(report.has_errors(), "{language}");
        let names: Vec<_> = report
            .functions()
            .map(|function| function.name.trim_end_matches("/0"))
            .collect();
        assert_eq!(names, ["a", "b"], "{language}");
    }
}

#[test]
fn an_enormous_name_is_cut() {
    let source = format!("x = {{ [{}]: () => 1 }}", "a +\n ".repeat(5_000) + "b");
    let report = analyze(Language::JavaScript, &source);
    check(&report, &source);
    let definition = &report.definitions[0];
    assert_eq!(definition.kind, DefinitionKind::Function);
    assert_eq!(definition.name.chars().count(), 121);
    assert!(definition.name.starts_with("[a + a + a"));
}

#[test]
fn an_analysis_can_be_stopped_and_leaves_no_trace() {
    // The Erlang parser takes quadratic time for adjacent strings.
    let slow = "\"\"\"".repeat(20_000);
    let mut analyzer = Analyzer::new();
    let mut asked = 0;
    let report = analyzer.analyze_while(Language::Erlang, &slow, || {
        asked += 1;
        asked < 20
    });
    assert_eq!((report, asked), (None, 20));
    for (language, name, source) in SAMPLES {
        let again = analyzer.analyze_while(language, source, || true);
        assert_eq!(again, Some(analyze(language, source)), "{name}");
    }
}

#[test]
fn one_analyzer_says_the_same_as_many() {
    let mut analyzer = Analyzer::new();
    for _ in 0..3 {
        for (language, name, source) in SAMPLES {
            let report = analyzer.analyze(language, source);
            check(&report, source);
            assert_eq!(report, analyze(language, source), "{name}");
        }
    }
}
