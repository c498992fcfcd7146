//! What the pages say is so: settings are settings, and links lead somewhere.
#![allow(clippy::unwrap_used, reason = "this is a test, its helpers included")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use perennial::Settings;

/// A host's section of any content.
#[derive(Default, serde::Deserialize)]
struct AnyHost {
    #[serde(flatten)]
    _any: toml::Table,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The README and all pages of `docs/`, with their texts.
fn pages() -> Vec<(PathBuf, String)> {
    let mut files: Vec<PathBuf> = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"]
        .map(|name| root().join(name))
        .into_iter()
        .filter(|file| file.exists())
        .collect();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "md") {
                files.push(path);
            }
        }
    }
    let read = |file: PathBuf| {
        let text = std::fs::read_to_string(&file).unwrap();
        (file, text)
    };
    files.into_iter().map(read).collect()
}

/// The fenced blocks of a language, each with the line on which it begins.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<(usize, Vec<&'a str>)> {
    let mut blocks = Vec::new();
    let mut open: Option<(bool, usize, Vec<&str>)> = None;
    for (number, line) in text.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        open = match (open.take(), fence) {
            (None, Some(info)) => {
                let tag = info.split([',', ' ']).next().unwrap_or_default();
                let ignored = info.contains("ignore");
                Some((tag == language && !ignored, number + 2, Vec::new()))
            }
            (Some((wanted, begins, lines)), Some(_)) => {
                if wanted {
                    blocks.push((begins, lines));
                }
                None
            }
            (Some((wanted, begins, mut lines)), None) => {
                lines.push(line);
                Some((wanted, begins, lines))
            }
            (None, None) => None,
        };
    }
    blocks
}

/// The text without its fenced blocks and code spans.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            let outside = line.split('`').step_by(2);
            outside.for_each(|part| prose.push_str(part));
        }
        prose.push('\n');
    }
    prose
}

/// The targets of the links of a page, each with its line.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut links = Vec::new();
    for (number, line) in prose(text).lines().enumerate() {
        for rest in line.split("](").skip(1) {
            if let Some((target, _)) = rest.split_once(')') {
                links.push((number + 1, target.trim().to_owned()));
            }
        }
        // Reference definitions: `[label]: target`.
        if let Some((label, target)) = line.split_once("]: ")
            && label.starts_with('[')
        {
            links.push((number + 1, target.trim().to_owned()));
        }
    }
    links
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text
        .chars()
        .filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'));
    kept.map(|it| if it == ' ' { '-' } else { it }).collect()
}

#[test]
fn every_block_of_settings_is_one_that_a_tree_takes() {
    let mut wrong = Vec::new();
    for (file, text) in pages() {
        for (line, block) in blocks(&text, "toml") {
            // A manifest is no settings file.
            if block
                .iter()
                .any(|it| it.starts_with("[dependencies") || it.starts_with("[package"))
            {
                continue;
            }
            let text = "\n".repeat(line - 1) + &block.join("\n");
            if let Err(errors) = Settings::<AnyHost>::parse(&file, &text) {
                wrong.push(errors.to_string());
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_page_of_metrics_has_those_of_the_code_and_no_others() {
    let names = |text: &str, open: &str| -> BTreeSet<String> {
        let begin = format!("{open}perennial.");
        let parts = text.split(&begin).skip(1);
        let ends = |it: char| !(it.is_ascii_lowercase() || matches!(it, '_' | '.'));
        let names = parts.map(|rest| rest.split(ends).next().unwrap_or_default());
        names.map(|name| format!("perennial.{name}")).collect()
    };
    let mut in_code = BTreeSet::new();
    // Each crate emits its metrics in this file alone.
    for folder in std::fs::read_dir(root().join("crates")).unwrap() {
        let file = folder.unwrap().path().join("src/event.rs");
        if let Ok(text) = std::fs::read_to_string(file) {
            let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
            in_code.extend(names(shipped, "\""));
        }
    }
    assert!(in_code.len() > 40, "{in_code:?}");
    let page = std::fs::read_to_string(root().join("docs/metrics.md")).unwrap();
    assert_eq!(names(&page, "| `"), in_code);
}

#[test]
fn every_link_within_the_repository_leads_somewhere() {
    let pages = pages();
    let mut wrong = Vec::new();
    for (file, text) in &pages {
        for (line, target) in links(text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, fragment) = target.split_once('#').unwrap_or((&target, ""));
            let folder = file.parent().unwrap();
            let to = if path.is_empty() {
                file.clone()
            } else {
                folder.join(path)
            };
            let Ok(to) = to.canonicalize() else {
                wrong.push(format!("{}:{line}: {target}", file.display()));
                continue;
            };
            if fragment.is_empty() || to.extension().is_none_or(|it| it != "md") {
                continue;
            }
            let text = std::fs::read_to_string(&to).unwrap();
            let found = text
                .lines()
                .any(|it| it.starts_with('#') && anchor(it) == fragment);
            if !found {
                wrong.push(format!(
                    "{}:{line}: {target}: no such heading",
                    file.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The texts between backticks.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn semantics() -> String {
    std::fs::read_to_string(root().join("docs/semantics.md")).unwrap()
}

/// The rows of all tables, each of three cells: guarantees, and OTP's rules with their numbers.
fn rows(text: &str) -> Vec<[&str; 3]> {
    let mut rows = Vec::new();
    for line in text.lines().filter(|it| it.starts_with("| ")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [first, about, last] = cells[..] else {
            panic!("not a row of three: {line}");
        };
        if !matches!(first, "id" | "rule" | "---") {
            rows.push([first, about, last]);
        }
    }
    rows
}

fn rule(row: &[&str; 3]) -> Option<usize> {
    row[0].parse().ok()
}

/// The numbers of the rules at the end of the page that describes the recordings.
fn rules(format: &str) -> Vec<usize> {
    let (_, rules) = format.split_once("\n## 8. Rules").unwrap();
    let number = |line: &str| line.split_once(". ")?.0.parse().ok();
    rules.lines().filter_map(number).collect()
}

#[test]
fn every_rule_of_otp_leads_to_guarantees() {
    let format = root().join("tests/conformance/FORMAT-otp.md");
    let rules = rules(&std::fs::read_to_string(format).unwrap());
    assert!(rules.len() > 30 && rules.iter().copied().eq(1..=rules.len()));
    let text = semantics();
    let (led, guarantees): (Vec<_>, Vec<_>) =
        rows(&text).into_iter().partition(|row| rule(row).is_some());
    let known: Vec<&str> = guarantees.into_iter().map(|[id, ..]| id).collect();
    let mut wrong = Vec::new();
    for row in &led {
        let ids = row[2].trim_start_matches("not copied: ");
        let unknown = ids.split(", ").filter(|id| !known.contains(id));
        wrong.extend(unknown.map(|id| format!("rule {}: no guarantee {id}", row[0])));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let led: Vec<usize> = led.iter().filter_map(rule).collect();
    assert_eq!(led, rules, "the table of rules in docs/semantics.md");
}

#[test]
fn every_guarantee_that_a_page_names_is_there() {
    let text = semantics();
    let guarantees = rows(&text).into_iter().filter(|row| rule(row).is_none());
    let known: Vec<&str> = guarantees.map(|[id, ..]| id).collect();
    let group = |id: &str| id.split_once('-').map(|(group, _)| group.to_owned());
    let groups: Vec<_> = known.iter().filter_map(|id| group(id)).collect();
    let (mut wrong, mut named) = (Vec::new(), 0);
    for (file, text) in pages() {
        for word in text.split(|it: char| !it.is_ascii_alphanumeric() && it != '-') {
            if group(word).is_some_and(|group| groups.contains(&group)) {
                named += 1;
                if !known.contains(&word) {
                    wrong.push(format!("{}: {word}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(named > known.len(), "{named}");
}

#[test]
fn no_guarantee_has_the_id_of_another() {
    let text = semantics();
    let mut ids: Vec<&str> = rows(&text).into_iter().map(|[id, ..]| id).collect();
    ids.sort_unstable();
    let twice = ids.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None);
}

#[test]
fn every_guarantee_has_the_test_that_proves_it() {
    let text = semantics();
    let (mut wrong, mut proofs) = (Vec::new(), 0);
    for [id, _, proof] in rows(&text).into_iter().filter(|row| rule(row).is_none()) {
        for proof in proof.split("; ") {
            let Some((tests, file)) = proof.split_once(" in ") else {
                wrong.push(format!("{id}: no test in a file: {proof}"));
                continue;
            };
            let file = spans(file).next().unwrap_or_default();
            let source = std::fs::read_to_string(root().join(file)).unwrap_or_default();
            for test in spans(tests) {
                proofs += 1;
                if !source.contains(test) {
                    wrong.push(format!("{id}: no {test} in {file}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(proofs > 50, "{proofs}");
}

#[test]
fn every_block_of_code_for_users_is_compiled() {
    let library = std::fs::read_to_string(root().join("tests/src/lib.rs")).unwrap();
    for (file, text) in pages() {
        let name = file.strip_prefix(root()).unwrap().display().to_string();
        let included = library.contains(&format!("include_str!(\"../../{name}\")"));
        assert!(
            included || blocks(&text, "rust").is_empty(),
            "{name} is not in tests/src/lib.rs"
        );
    }
}

#[test]
fn the_tests_of_this_page_find_what_they_look_for() {
    let page = "# A b\n[x](y.md#z) `[no](no)`\n```toml\na = 1\n[no](no)\n```\n```toml,ignore\n```\n[l]: to\n";
    assert_eq!(blocks(page, "toml"), [(4, vec!["a = 1", "[no](no)"])]);
    assert_eq!(
        links(page),
        [(2, "y.md#z".to_owned()), (9, "to".to_owned())]
    );
    assert_eq!(anchor("## What it is, for whom"), "what-it-is-for-whom");
    let format = "1. no\n## 8. Rules\n\nOrder\n\n1. Children\n   go on. And on.\n2. A queue.\n";
    assert_eq!(rules(format), [1, 2]);
    let table = "| id | b | c |\n| --- | --- | --- |\n| A-1 | x | y |\n| 7 | x | A-1 |\n";
    assert_eq!(rows(table), [["A-1", "x", "y"], ["7", "x", "A-1"]]);
    assert_eq!(rows(table).iter().filter_map(rule).collect::<Vec<_>>(), [7]);
}
