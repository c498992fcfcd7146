//! Finds every error of a settings file, not only the first.
//!
//! serde stops at the first error. So the offending entry is noted, taken out of the parsed table (whose
//! spans still point into the text), and the rest is read again. That a key is missing because it was taken
//! out is not reported.

use std::ops::Range;
use std::path::Path;

use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use super::{Settings, SettingsError, SettingsErrors};

/// More than anybody would read at once.
const MOST_ERRORS: usize = 100;

pub(super) fn parse<H: DeserializeOwned + Default>(
    file: &Path,
    text: &str,
) -> Result<Settings<H>, SettingsErrors> {
    let (mut table, broken) = DeTable::parse_recoverable(text);
    let mut errors: Vec<SettingsError> = broken
        .iter()
        .map(|error| place(file, text, error.span(), String::new(), error.message()))
        .collect();
    if !errors.is_empty() {
        return Err(SettingsErrors(errors));
    }
    let mut taken_out: Vec<Vec<Step>> = Vec::new();
    while errors.len() < MOST_ERRORS {
        let error = match Settings::deserialize(Deserializer::from(table.clone())) {
            Ok(settings) => {
                // What is good by itself may still be of no use.
                for (path, message) in settings.problems() {
                    let span = span_of(table.get_ref(), &path);
                    errors.push(place(file, text, span, path.join("."), &message));
                }
                if errors.is_empty() {
                    return Ok(settings);
                }
                break;
            }
            Err(error) => error,
        };
        let found = error
            .span()
            .map(|span| key_at(table.get_ref(), &span))
            .unwrap_or_default();
        let missing = |path: &Vec<Step>| match path.split_last() {
            Some((Step::Key(key), table)) => {
                table == found && error.message() == format!("missing field `{key}`")
            }
            _ => false,
        };
        if !taken_out.iter().any(missing) {
            let message = for_people(error.message());
            errors.push(place(file, text, error.span(), dotted(&found), &message));
        }
        if !take_out(table.get_mut(), &found) {
            break;
        }
        taken_out.push(found);
    }
    errors.sort_by_key(|error| (error.line, error.column));
    Err(SettingsErrors(errors))
}

fn place(
    file: &Path,
    text: &str,
    span: Option<Range<usize>>,
    key: String,
    message: &str,
) -> SettingsError {
    let start = span.map_or(0, |span| span.start.min(text.len()));
    let before = &text[..text.floor_char_boundary(start)];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    SettingsError {
        file: file.to_owned(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        key,
        message: message.trim().replace('\n', ", "),
    }
}

/// One step from a table or an array to what it holds.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Key(String),
    /// To what begins here in the text, in an array: its index changes when something is taken out.
    Entry(usize),
}

/// Writes a path as a dotted key. Which entry of an array is meant is told by the line.
fn dotted(path: &[Step]) -> String {
    let keys = path.iter().filter_map(|step| match step {
        Step::Key(key) => Some(key.as_str()),
        Step::Entry(_) => None,
    });
    keys.collect::<Vec<_>>().join(".")
}

/// Says in words of the file what serde says in those of the program.
fn for_people(message: &str) -> String {
    if message == "wanted exactly 1 element, more than 1 element" {
        return "takes exactly one of its keys".to_owned();
    }
    let Some((found, expected)) = message.rsplit_once(", expected ") else {
        return message.to_owned();
    };
    let expected = match expected {
        "a duration" => "a duration such as \"30s\" or \"1m 30s\"",
        "a boolean" => "true or false",
        "a string" => "text in quotes",
        "a sequence" => "a list",
        "u8" | "u16" | "u64" | "usize" => "a whole number from 0",
        "u32" => "a whole number from 0 to 4294967295",
        "a nonzero u32" => "a whole number from 1 to 4294967295",
        "a nonzero u64" | "a nonzero usize" => "a whole number from 1",
        "f64" => "a number",
        it if it.starts_with("struct ") || it == "a map" => "a table",
        it => it,
    };
    format!("{found}, expected {expected}")
}

/// Finds the path of the innermost entry that the span points at.
fn key_at(table: &DeTable<'_>, span: &Range<usize>) -> Vec<Step> {
    let mut best = Vec::new();
    for (key, value) in table.iter() {
        let step = Step::Key(key.get_ref().to_string());
        let below = below(step.clone(), value, span);
        if below.len() > 1 {
            return below;
        }
        if key.span() == *span {
            best = vec![step];
        } else if !below.is_empty() {
            best = below;
        }
    }
    best
}

/// Finds the path of the innermost entry that the span points at, where this value is it or holds it.
fn below(step: Step, value: &Spanned<DeValue<'_>>, span: &Range<usize>) -> Vec<Step> {
    let inner = match value.get_ref() {
        DeValue::Table(inner) => key_at(inner, span),
        DeValue::Array(inner) => {
            let entries = inner.iter();
            let mut paths = entries.map(|it| below(Step::Entry(it.span().start), it, span));
            paths.find(|path| !path.is_empty()).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    let outer = value.span();
    if inner.is_empty() && !(outer.start <= span.start && span.end <= outer.end) {
        return inner;
    }
    std::iter::once(step).chain(inner).collect()
}

/// Finds where a key, or the nearest table above it, stands in the text.
fn span_of(table: &DeTable<'_>, path: &[String]) -> Option<Range<usize>> {
    let (first, rest) = path.split_first()?;
    let (name, value) = table.iter().find(|(name, _)| name.get_ref() == first)?;
    let below = match value.get_ref() {
        DeValue::Table(inner) => span_of(inner, rest),
        _ => None,
    };
    below.or_else(|| Some(name.span()))
}

fn take_out(table: &mut DeTable<'_>, path: &[Step]) -> bool {
    match path {
        [Step::Key(key)] => remove(table, key),
        [Step::Key(key), rest @ ..] => {
            let mut entries = table.iter_mut();
            let inner = entries.find(|(name, _)| name.get_ref() == key);
            inner.is_some_and(|(_, value)| take_out_below(value.get_mut(), rest))
        }
        _ => false,
    }
}

fn take_out_below(value: &mut DeValue<'_>, path: &[Step]) -> bool {
    match (value, path) {
        (DeValue::Table(inner), path) => take_out(inner, path),
        (DeValue::Array(inner), [Step::Entry(start), rest @ ..]) => {
            if !rest.is_empty() {
                let entry = inner.iter_mut().find(|it| it.span().start == *start);
                return entry.is_some_and(|it| take_out_below(it.get_mut(), rest));
            }
            let all = std::mem::replace(inner, DeArray::new());
            let count = all.len();
            *inner = all
                .into_iter()
                .filter(|it| it.span().start != *start)
                .collect();
            inner.len() < count
        }
        _ => false,
    }
}

fn remove(table: &mut DeTable<'_>, key: &str) -> bool {
    let found = table.keys().find(|name| name.get_ref() == key).cloned();
    found.is_some_and(|name| table.remove(&name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NoHost;

    fn errors(text: &str) -> Vec<(usize, String, String)> {
        let errors = parse::<NoHost>(Path::new("t.toml"), text).unwrap_err();
        let list = errors.iter();
        list.map(|it| (it.line(), it.key().to_owned(), it.message().to_owned()))
            .collect()
    }

    fn places(text: &str) -> Vec<(usize, String)> {
        let found = errors(text).into_iter();
        found.map(|(line, key, _)| (line, key)).collect()
    }

    fn expected(list: &[(usize, &str)]) -> Vec<(usize, String)> {
        let list = list.iter();
        list.map(|(line, key)| (*line, (*key).to_owned())).collect()
    }

    #[test]
    fn every_error_is_reported_with_line_and_key() {
        let found = places(
            "[pools.database]\nsize = \"ten\"\n\n[breakers.geo]\nopen_time = \"soon\"\ntrip.consecutive = 0\n\n[memroy]\n\n[memory]\nwarning = 1.5\n",
        );
        let list = [
            (2, "pools.database.size"),
            // What a table makes as a whole is found at its head.
            (4, "breakers.geo"),
            (5, "breakers.geo.open_time"),
            (8, "memroy"),
            (10, "memory"),
        ];
        assert_eq!(found, expected(&list));
    }

    #[test]
    fn a_key_that_is_missing_because_of_its_error_is_not_another() {
        let found = places("[pools.database]\nsize = \"ten\"\nsise = 3\n");
        assert_eq!(
            found,
            expected(&[(2, "pools.database.size"), (3, "pools.database.sise")])
        );
        let found = places("[pools.database]\n[pools.other]\nsise = 3\n");
        let list = [
            (1, "pools.database"),
            (2, "pools.other"),
            (3, "pools.other.sise"),
        ];
        assert_eq!(found, expected(&list));
    }

    #[test]
    fn settings_that_could_never_start_are_found_in_the_file() {
        let found = errors(
            "[pools.analyzer]\nsize = 9999999\n[config]\nupdate_deadline = \"0s\"\n[supervision]\nwithin = \"0s\"\n[rate_gate]\nsweep_interval = \"0s\"\n",
        );
        let places: Vec<_> = found.iter().map(|(l, k, _)| (*l, k.as_str())).collect();
        assert_eq!(
            places,
            [
                (2, "pools.analyzer.size"),
                (4, "config.update_deadline"),
                (6, "supervision.within"),
                (8, "rate_gate.sweep_interval"),
            ],
            "{found:?}"
        );
    }

    #[test]
    fn an_error_in_a_list_of_tables_has_its_key_too_and_hides_no_other() {
        let found = errors(
            "[performance]\nmax_services = 0\n\n[[performance.alerts]]\nname = \"a\"\nmetric = \"speed\"\ncomparison = \"above\"\nthreshold = 1\n\n[[performance.alerts]]\nname = \"b\"\nmetric = \"throughput\"\ncomparison = \"beyond\"\nthreshold = \"1\"\n\n[[performance.alerts]]\nname = \"c\"\n",
        );
        let places: Vec<_> = found.iter().map(|(l, k, _)| (*l, k.as_str())).collect();
        let list = [
            (2, "performance.max_services"),
            (6, "performance.alerts.metric"),
            (13, "performance.alerts.comparison"),
            (14, "performance.alerts.threshold"),
            (16, "performance.alerts"),
        ];
        assert_eq!(places, list, "{found:?}");
    }

    #[test]
    fn what_is_expected_is_said_in_words_of_the_file() {
        let said = |text| errors(text).remove(0).2;
        for (text, expected) in [
            ("database = 3", "a table"),
            ("pools.x.size = -1", "a whole number from 0"),
            ("rate_gate.max_keys = 0", "a whole number from 1"),
            (
                "supervision.max_restarts = \"3\"",
                "a whole number from 0 to 4294967295",
            ),
            ("memory.medium = \"much\"", "a number"),
            ("memory.automatic_cleanup = 1", "true or false"),
            ("performance.alerts = 1", "a list"),
            (
                "health.timeout = 5",
                "a duration such as \"30s\" or \"1m 30s\"",
            ),
        ] {
            let said = said(text);
            let end = format!(", expected {expected}");
            assert!(said.ends_with(&end), "{text}: {said}");
        }
        let trip =
            "[breakers.x.trip]\nconsecutive = 1\nfailures = { count = 1, within = \"1s\" }\n";
        assert_eq!(said(trip), "takes exactly one of its keys");
    }

    #[test]
    fn what_is_wrong_with_a_name_that_has_a_dot_is_found_at_its_place() {
        let found = places(
            "[pools.a]\nsize = 1\n\n[pools.\"a.b\"]\nsize = 9999999\n\n[breakers.x]\n\n[breakers.\"x.y/z\"]\n",
        );
        let list = [(5, "pools.a.b.size"), (9, "breakers.x.y/z")];
        assert_eq!(found, expected(&list));
    }

    #[test]
    fn names_and_paths_that_could_not_be_used_are_found_in_the_file() {
        let found = errors(
            "[database]\npath = \"\"\n\n[pools.database]\nsize = 0\n\n[breakers.\"a/b\"]\n\n[breakers.\"\"]\n",
        );
        let places: Vec<_> = found.iter().map(|(l, k, _)| (*l, k.as_str())).collect();
        let list = [
            (2, "database.path"),
            (5, "pools.database.size"),
            (7, "breakers.a/b"),
            (9, "breakers."),
        ];
        assert_eq!(places, list, "{found:?}");
        let found = errors("database.path = \":memory:\"");
        assert_eq!(found[0].1, "database.path");
    }

    #[test]
    fn of_very_many_errors_a_hundred_are_reported() {
        let text: String = (0..150).map(|key| format!("k{key} = 1\n")).collect();
        assert_eq!(places(&text).len(), MOST_ERRORS);
    }

    #[test]
    fn text_that_is_not_toml_is_reported_by_line() {
        let found = errors("[pools\nx = 1\n");
        assert_eq!(found[0].0, 1);
    }

    #[test]
    fn an_empty_file_is_all_defaults() {
        let settings = parse::<NoHost>(Path::new("t.toml"), "").unwrap();
        assert_eq!(settings.supervision.max_restarts, 10);
    }

    #[test]
    fn an_unreadable_file_is_named() {
        let error = Settings::<NoHost>::load("/nonexistent/x.toml").unwrap_err();
        assert!(error.to_string().contains("/nonexistent/x.toml"));
    }
}
