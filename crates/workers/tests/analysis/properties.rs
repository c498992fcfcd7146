//! What holds for every text, tried on random ones.

use perennial_workers::analysis::{Analyzer, FileReport, Language};
use proptest::prelude::*;

use crate::{SAMPLES, analyze, check};

/// Pieces that mean something to some scanner.
const PIECES: [&str; 40] = [
    "(", ")", "[", "]", "{", "}", "\"", "'", "\"\"\"", "'''", "`", "${", "#{", "f\"{", "r#\"",
    "/*", "*/", "//", "#", "%", "<!--", "\\", "\n", "\r\n", "\t", "    ", "\0", "\u{feff}", "é",
    "\u{2028}", "do ", " end", "->", "=>", ";", ".", "fn ", "def ", "when ", "class ",
];

#[derive(Debug, Clone)]
enum Edit {
    Insert(usize, &'static str),
    Delete(usize, usize),
    Copy(usize, usize, usize),
}

impl Edit {
    fn apply(&self, text: &mut String) {
        // Offsets are taken modulo the length, then moved to a character.
        let place = |text: &str, at: usize| {
            let mut at = at % (text.len() + 1);
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let range = |text: &str, at: usize, length: usize| {
            let start = place(text, at);
            let mut end = (start + length).min(text.len());
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            start..end
        };
        match *self {
            Edit::Insert(at, piece) => text.insert_str(place(text, at), piece),
            Edit::Delete(at, length) => text.replace_range(range(text, at, length), ""),
            Edit::Copy(from, length, to) => {
                let copied = text[range(text, from, length)].to_owned();
                text.insert_str(place(text, to), &copied);
            }
        }
    }
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<usize>(), prop::sample::select(&PIECES[..]))
            .prop_map(|(at, piece)| Edit::Insert(at, piece)),
        (any::<usize>(), 1..60_usize).prop_map(|(at, length)| Edit::Delete(at, length)),
        (any::<usize>(), 1..200_usize, any::<usize>())
            .prop_map(|(from, length, to)| Edit::Copy(from, length, to)),
    ]
}

fn language() -> impl Strategy<Value = Language> {
    prop::sample::select(&Language::ALL[..])
}

proptest! {
    #[test]
    fn any_text_is_reported(language in language(), source in any::<String>()) {
        check(&analyze(language, &source), &source);
    }

    #[test]
    fn any_pieces_are_reported(
        language in language(),
        pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..200),
    ) {
        let source = pieces.concat();
        check(&analyze(language, &source), &source);
    }

    #[test]
    fn any_change_to_a_sample_is_reported(
        sample in prop::sample::select(&SAMPLES[..]),
        edits in prop::collection::vec(edit(), 1..20),
        earlier in prop::sample::select(&SAMPLES[..]),
    ) {
        let (language, _, source) = sample;
        let mut source = source.to_owned();
        for edit in &edits {
            edit.apply(&mut source);
        }
        let report = analyze(language, &source);
        check(&report, &source);

        // Whatever an analyzer met before, and whatever form a report takes.
        let mut analyzer = Analyzer::new();
        check(&analyzer.analyze(earlier.0, earlier.2), earlier.2);
        prop_assert_eq!(&analyzer.analyze(language, &source), &report);
        let json = serde_json::to_string(&report).unwrap();
        prop_assert_eq!(serde_json::from_str::<FileReport>(&json).unwrap(), report);
    }

    #[test]
    fn a_definition_after_a_sample_is_one_more(
        sample in prop::sample::select(&SAMPLES[..]),
        blank in 1..5_usize,
    ) {
        let (language, _, source) = sample;
        let addition = match language {
            Language::Rust => "fn zzz() {}\n",
            Language::Elixir => "def zzz(), do: 1\n",
            Language::Erlang => "zzz() -> ok.\n",
            Language::Python => "def zzz(): pass\n",
            Language::JavaScript => "function zzz() {}\n",
        };
        let longer = format!("{source}{}{addition}", "\n".repeat(blank));
        let (before, after) = (analyze(language, source), analyze(language, &longer));
        prop_assert_eq!(after.functions().count(), before.functions().count() + 1);
        prop_assert_eq!(after.lines.code, before.lines.code + 1);
        prop_assert_eq!(after.lines.comment, before.lines.comment);
        prop_assert_eq!(
            u64::from(after.lines.blank),
            u64::from(before.lines.blank) + blank as u64
        );
        prop_assert_eq!(&after.definitions[..before.definitions.len()], &before.definitions[..]);
    }
}
