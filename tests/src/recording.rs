use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::Value;

/// Names a directory whose recordings are replayed instead of the repository's.
const DIRECTORY: &str = "PERENNIAL_CONFORMANCE_DIR";

/// Reads the recordings of `suite`: every `suite*.jsonl` of the directory named by the environment, or every
/// `suite*.jsonl.gz` of the repository's own.
pub(crate) fn read(suite: &str) -> io::Result<Vec<Value>> {
    let mut records = Vec::new();
    for path in files(suite)? {
        let text = text(&path)?;
        for (number, line) in text.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let record = serde_json::from_str(line).map_err(|error| {
                let place = format!("{}:{}: {error}", path.display(), number + 1);
                io::Error::new(io::ErrorKind::InvalidData, place)
            })?;
            records.push(record);
        }
    }
    Ok(records)
}

fn files(suite: &str) -> io::Result<Vec<PathBuf>> {
    let (directory, ending) = match std::env::var_os(DIRECTORY) {
        Some(directory) => (PathBuf::from(directory), ".jsonl"),
        None => {
            let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance");
            (ours, ".jsonl.gz")
        }
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(&directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(suite) && name.ends_with(ending) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    if paths.is_empty() {
        let missing = format!("no {suite}*{ending} in {}", directory.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, missing));
    }
    Ok(paths)
}

fn text(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let mut text = String::new();
    if path.extension().is_some_and(|it| it == "gz") {
        GzDecoder::new(file).read_to_string(&mut text)?;
    } else {
        file.read_to_string(&mut text)?;
    }
    Ok(text)
}
