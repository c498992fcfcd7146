//! Every figure of the samples, counted by hand.

use perennial_workers::analysis::{DefinitionKind, FileReport, LineCounts};

use DefinitionKind::*;

use crate::sample;

type Row = (DefinitionKind, &'static str, u32, u32, Option<u32>);

fn rows(report: &FileReport) -> Vec<(DefinitionKind, &str, u32, u32, Option<u32>)> {
    report
        .definitions
        .iter()
        .map(|definition| {
            (
                definition.kind,
                definition.name.as_str(),
                definition.start_line,
                definition.end_line,
                definition.complexity,
            )
        })
        .collect()
}

#[track_caller]
fn expect(name: &str, lines: LineCounts, definitions: &[Row]) {
    let report = sample(name);
    assert_eq!(report.syntax_errors, 0);
    assert_eq!(report.lines, lines);
    assert_eq!(rows(&report), definitions);
}

#[test]
fn rust_sample_is_counted_as_by_hand() {
    expect(
        "sample.rs",
        LineCounts {
            total: 82,
            code: 63,
            comment: 5,
            blank: 14,
        },
        &[
            (TypeAlias, "Cents", 8, 8, None),
            (Constant, "LIMIT", 10, 10, None),
            (Constant, "GREETING", 11, 11, None),
            (Struct, "Account", 14, 17, None),
            (Enum, "Entry", 19, 19, None),
            (Union, "Bits", 21, 21, None),
            (Macro, "total", 23, 26, None),
            (Trait, "Book", 30, 39, None),
            (Method, "name", 32, 38, Some(1)),
            (Impl, "Book for Account", 41, 55, None),
            (Method, "post", 43, 54, Some(6)),
            (Impl, "Account", 57, 70, None),
            (Method, "check", 58, 69, Some(3)),
            (Function, "negative", 59, 61, Some(2)),
            (Module, "report", 72, 80, None),
            (Function, "print", 73, 79, Some(4)),
            (Function, "main", 82, 82, Some(1)),
        ],
    );
}

#[test]
fn elixir_sample_is_counted_as_by_hand() {
    expect(
        "sample.ex",
        LineCounts {
            total: 95,
            code: 79,
            comment: 2,
            blank: 14,
        },
        &[
            (Module, "Shop.Cart", 2, 77, None),
            (Struct, "Shop.Cart", 9, 9, None),
            (TypeAlias, "t/0", 10, 10, None),
            (TypeAlias, "line/1", 11, 11, None),
            (Macro, "is_small/1", 14, 14, None),
            (Macro, "twice/1", 16, 21, Some(1)),
            (Function, "add/3", 24, 37, Some(5)),
            (Function, "add/1", 39, 39, Some(1)),
            (Function, "price/1", 41, 47, Some(4)),
            (Function, "total/1", 49, 53, Some(3)),
            (Function, "checkout/2", 55, 73, Some(7)),
            (Function, "<~>/2", 75, 75, Some(2)),
            (Function, "size/1", 76, 76, Some(1)),
            (Trait, "Shop.Priced", 79, 81, None),
            (Function, "price/1", 80, 80, Some(1)),
            (Impl, "Shop.Priced for Shop.Cart", 83, 95, None),
            (Function, "price/1", 84, 94, Some(4)),
        ],
    );
}

#[test]
fn erlang_sample_is_counted_as_by_hand() {
    expect(
        "sample.erl",
        LineCounts {
            total: 66,
            code: 54,
            comment: 2,
            blank: 10,
        },
        &[
            (Module, "sample", 2, 2, None),
            (Record, "queue", 6, 6, None),
            (TypeAlias, "queue/0", 7, 7, None),
            (TypeAlias, "pair/1", 8, 8, None),
            (Macro, "LIMIT", 9, 9, None),
            (Macro, "FULL/1", 10, 10, None),
            (Function, "new/1", 15, 15, Some(1)),
            (Function, "push/2", 17, 18, Some(1)),
            (Function, "push/3", 20, 26, Some(6)),
            (Function, "drain/1", 28, 43, Some(8)),
            (Function, "weigh/1", 45, 50, Some(4)),
            (Function, "flush/0", 52, 59, Some(5)),
            (Function, "'quoted name'/0", 61, 66, Some(3)),
        ],
    );
}

#[test]
fn python_sample_is_counted_as_by_hand() {
    expect(
        "sample.py",
        LineCounts {
            total: 76,
            code: 58,
            comment: 3,
            blank: 15,
        },
        &[
            (Class, "Token", 9, 26, None),
            (Method, "__init__", 14, 15, Some(1)),
            (Method, "size", 18, 19, Some(2)),
            (Class, "Meta", 21, 26, None),
            (Method, "describe", 26, 26, Some(1)),
            (TypeAlias, "Tokens", 29, 29, None),
            (Function, "scan", 32, 56, Some(6)),
            (Function, "flush", 35, 38, Some(3)),
            (Function, "classify", 59, 76, Some(12)),
        ],
    );
}

#[test]
fn javascript_sample_is_counted_as_by_hand() {
    expect(
        "sample.js",
        LineCounts {
            total: 75,
            code: 57,
            comment: 4,
            blank: 14,
        },
        &[
            (Function, "load", 11, 17, Some(5)),
            (Function, "keys", 19, 23, Some(5)),
            (Function, "double", 25, 25, Some(1)),
            (Function, "pick", 26, 28, Some(2)),
            (Class, "Store", 30, 54, None),
            (Method, "#cache", 31, 31, Some(2)),
            (Method, "constructor", 34, 36, Some(1)),
            (Method, "full", 38, 38, Some(1)),
            (Method, "save", 40, 53, Some(5)),
            (Function, "done", 51, 51, Some(2)),
            (Class, "Small", 56, 59, None),
            (Method, "run", 56, 59, Some(1)),
            (Function, "drop", 61, 64, Some(1)),
            (Function, "inner", 62, 62, Some(2)),
            (Function, "quoted name", 68, 68, Some(1)),
            (Method, "short", 69, 69, Some(1)),
            (Function, "[Symbol.iterator]", 70, 70, Some(1)),
            (Function, "default", 75, 75, Some(1)),
        ],
    );
}
