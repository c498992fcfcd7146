//! Source files whose figures are known because they were made so.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Languages with the endings of their files.
pub(crate) const LANGUAGES: [(&str, &str); 5] = [
    ("Rust", "rs"),
    ("Elixir", "ex"),
    ("Erlang", "erl"),
    ("Python", "py"),
    ("JavaScript", "js"),
];

/// What is to be found in one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) language: &'static str,
    pub(crate) bytes: i64,
    pub(crate) lines: i64,
    pub(crate) code: i64,
    pub(crate) comment: i64,
    pub(crate) blank: i64,
    /// Name, first line and complexity, in order of appearance.
    pub(crate) functions: Vec<(String, i64, i64)>,
}

/// Files below one directory, by their paths.
#[derive(Clone, Debug, Default)]
pub(crate) struct Corpus {
    pub(crate) files: BTreeMap<PathBuf, Figures>,
}

impl Corpus {
    /// Writes as many files below `root`, in all languages by turns. The same number gives the same files.
    pub(crate) fn write(root: &Path, files: usize) -> Self {
        let files = (0..files).map(|number| {
            let (_, ending) = LANGUAGES[number % LANGUAGES.len()];
            let part = format!("part_{}", number % 7);
            let path = root.join(part).join(format!("file_{number:03}.{ending}"));
            let figures = write(&path, number, 1 + number % 4);
            (path, figures)
        });
        Self {
            files: files.collect(),
        }
    }

    pub(crate) fn functions(&self) -> usize {
        self.files.values().map(|it| it.functions.len()).sum()
    }
}

/// Writes a file with so many functions, in the language that its ending says.
pub(crate) fn write(path: &Path, number: usize, functions: usize) -> Figures {
    let ending = path.extension().and_then(|it| it.to_str());
    let (language, _) = LANGUAGES
        .into_iter()
        .find(|(_, of_language)| Some(*of_language) == ending)
        .expect("a language's ending");
    let mut text = Text::new(language, number);
    for function in 0..functions {
        text.add_function(number, function);
    }
    let (text, figures) = text.finish();
    fs::create_dir_all(path.parent().expect("a file is in a directory")).unwrap();
    fs::write(path, text).unwrap();
    figures
}

struct Text {
    text: String,
    figures: Figures,
}

impl Text {
    fn new(language: &'static str, number: usize) -> Self {
        let head = match language {
            "Rust" | "JavaScript" => format!("// file {number}\n"),
            "Python" => format!("# file {number}\n"),
            "Elixir" => format!("# file {number}\ndefmodule File{number} do\n"),
            "Erlang" => format!("%% file {number}\n-module(file_{number:03}).\n"),
            other => panic!("no template for {other}"),
        };
        let figures = Figures {
            language,
            comment: 1,
            ..Figures::default()
        };
        Self {
            text: head,
            figures,
        }
    }

    fn add_function(&mut self, number: usize, function: usize) {
        let branches = (number + function) % 4;
        let name = format!("f{number}_{function}");
        let language = self.figures.language;
        self.text.push('\n');
        self.figures.blank += 1;
        let line = count(self.text.lines().count()) + 1;
        self.text.push_str(&match language {
            "Rust" => format!("fn {name}(value: i64) -> i64 {{\n"),
            "JavaScript" => format!("function {name}(value) {{\n"),
            "Python" => format!("def {name}(value):\n"),
            "Elixir" => format!("  def {name}(value) do\n"),
            _ => format!("{name}(Value) ->\n"),
        });
        for branch in 0..branches {
            self.text.push_str(&match language {
                "Rust" => {
                    format!("    if value == {branch} {{\n        return {branch};\n    }}\n")
                }
                "JavaScript" => {
                    format!("  if (value === {branch}) {{\n    return {branch};\n  }}\n")
                }
                "Python" => format!("    if value == {branch}:\n        return {branch}\n"),
                "Elixir" => format!("    if value == {branch} do\n      {branch}\n    end\n"),
                _ => format!(
                    "    case Value of\n        {branch} -> {branch};\n        _ -> 0\n    end,\n"
                ),
            });
        }
        self.text.push_str(match language {
            "Rust" => "    value\n}\n",
            "JavaScript" => "  return value;\n}\n",
            "Python" => "    return value\n",
            "Elixir" => "    value\n  end\n",
            _ => "    Value.\n",
        });
        let name = match language {
            "Elixir" | "Erlang" => format!("{name}/1"),
            _ => name,
        };
        let complexity = count(branches) + 1;
        self.figures.functions.push((name, line, complexity));
    }

    fn finish(mut self) -> (String, Figures) {
        if self.figures.language == "Elixir" {
            self.text.push_str("end\n");
        }
        let figures = &mut self.figures;
        figures.bytes = count(self.text.len());
        figures.lines = count(self.text.lines().count());
        figures.code = figures.lines - figures.comment - figures.blank;
        (self.text, self.figures)
    }
}

pub(crate) fn count(number: usize) -> i64 {
    i64::try_from(number).expect("small numbers")
}
