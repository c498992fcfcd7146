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
use toml::de::{DeTable, DeValue, Deserializer};

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
    let mut taken_out: Vec<Vec<String>> = Vec::new();
    while errors.len() < MOST_ERRORS {
        let error = match Settings::deserialize(Deserializer::from(table.clone())) {
            Ok(settings) => {
                // What is good by itself may still be of no use.
                for (key, message) in settings.problems() {
                    let span = span_of(table.get_ref(), &key);
                    errors.push(place(file, text, span, key, &message));
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
        let missing = |path: &Vec<String>| match path.split_last() {
            Some((key, table)) => {
                table == found && error.message() == format!("missing field `{key}`")
            }
            None => false,
        };
        if !taken_out.iter().any(missing) {
            let key = found.join(".");
            errors.push(place(file, text, error.span(), key, error.message()));
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

/// Finds the path of the innermost entry that the span points at.
fn key_at(table: &DeTable<'_>, span: &Range<usize>) -> Vec<String> {
    let holds = |outer: Range<usize>| outer.start <= span.start && span.end <= outer.end;
    let mut best: Vec<String> = Vec::new();
    for (key, value) in table.iter() {
        let mut path = vec![key.get_ref().to_string()];
        if let DeValue::Table(inner) = value.get_ref() {
            let below = key_at(inner, span);
            if !below.is_empty() {
                path.extend(below);
                return path;
            }
        }
        if key.span() == *span || holds(value.span()) {
            best = path;
        }
    }
    best
}

/// Finds where a dotted key, or the nearest table above it, stands in the text.
fn span_of(table: &DeTable<'_>, key: &str) -> Option<Range<usize>> {
    let (first, rest) = key.split_once('.').unwrap_or((key, ""));
    let (name, value) = table.iter().find(|(name, _)| name.get_ref() == first)?;
    match value.get_ref() {
        DeValue::Table(inner) if !rest.is_empty() => span_of(inner, rest),
        _ => None,
    }
    .or_else(|| Some(name.span()))
}

fn take_out(table: &mut DeTable<'_>, path: &[String]) -> bool {
    match path {
        [] => false,
        [key] => remove(table, key),
        [key, rest @ ..] => {
            let inner = table
                .iter_mut()
                .find(|(name, _)| name.get_ref() == key)
                .map(|(_, value)| value);
            match inner.map(Spanned::get_mut) {
                Some(DeValue::Table(inner)) => take_out(inner, rest),
                _ => false,
            }
        }
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
