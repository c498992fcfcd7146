//! Finding and reading source files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use ignore::WalkBuilder;
use perennial::workers::analysis::Language;
use tokio::sync::mpsc;

/// How much of a file is looked at to tell text from a binary.
const SNIFF: usize = 8192;

/// The hash of a file's content.
pub type ContentHash = [u8; 32];

/// A file to analyze. Cheap to clone, so that it can be sent again.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// The absolute path, as [`name`] has it: the key in the database.
    pub path: Arc<str>,
    /// What it is read as.
    pub language: Language,
    /// Its text.
    pub text: Arc<str>,
    /// The hash of its text.
    pub hash: ContentHash,
}

/// What the walk found.
#[derive(Debug, Default)]
pub struct Found {
    /// Source files, by absolute path, in order.
    pub files: BTreeMap<PathBuf, Language>,
    /// Places that could not be walked, and why.
    pub failed: BTreeMap<PathBuf, String>,
    /// The canonical paths that were asked for.
    pub roots: Vec<PathBuf>,
}

/// A path that was asked for and is not there.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct BadPath {
    path: PathBuf,
    source: std::io::Error,
}

/// Walks the paths, honouring `.gitignore`.
///
/// # Errors
///
/// [`BadPath`] names a path that is not there.
pub fn find(paths: &[PathBuf]) -> Result<Found, BadPath> {
    let mut found = Found::default();
    for path in paths {
        found.walk(path)?;
    }
    Ok(found)
}

fn place_of(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => {
            place_of(err)
        }
        _ => None,
    }
}

fn is_at(path: &str, place: &Path) -> bool {
    Path::new(path).starts_with(name(place))
}

impl Found {
    /// Adds what is at a path and below it, honouring `.gitignore`.
    ///
    /// # Errors
    ///
    /// [`BadPath`] when the path is not there.
    pub fn walk(&mut self, path: &Path) -> Result<(), BadPath> {
        let root = path.canonicalize().map_err(|source| BadPath {
            path: path.to_owned(),
            source,
        })?;
        // Ignore files count in a directory that is no repository, too.
        for entry in WalkBuilder::new(&root).require_git(false).build() {
            match entry {
                Ok(entry) => {
                    let is_file = entry.file_type().is_some_and(|kind| kind.is_file());
                    if let (true, Some(language)) = (is_file, Language::from_path(entry.path())) {
                        self.files.insert(entry.into_path(), language);
                    }
                }
                Err(error) => {
                    let place = place_of(&error).unwrap_or(&root).to_owned();
                    // The text of the whole error names the place twice.
                    let reason = match error.io_error() {
                        Some(error) => format!("cannot be walked: {error}"),
                        None => error.to_string(),
                    };
                    self.failed.insert(place, reason);
                }
            }
        }
        self.roots.push(root);
        Ok(())
    }

    /// Says whether a path, as the database [names](name) it, is below what was walked.
    #[must_use]
    pub fn is_below(&self, path: &str) -> bool {
        self.roots.iter().any(|root| is_at(path, root))
    }

    /// Says whether a path is [below](Self::is_below) what was walked, and not below what could not be.
    #[must_use]
    pub fn covers(&self, path: &str) -> bool {
        self.is_below(path) && !self.failed.keys().any(|place| is_at(path, place))
    }
}

/// What reading one file came to.
#[derive(Debug)]
pub enum Read {
    /// To be analyzed.
    Changed(SourceFile),
    /// The database has it already.
    Unchanged {
        /// Its absolute path.
        path: Arc<str>,
    },
    /// Not text: left out, as if it were not a source file.
    Binary {
        /// Its absolute path.
        path: Arc<str>,
    },
    /// Cannot be analyzed.
    Failed {
        /// Its absolute path.
        path: Arc<str>,
        /// Why.
        reason: String,
    },
}

/// Reads files one after the other, as fast as they are taken, until `stop` is set.
///
/// Runs on a blocking thread. `known` are the hashes that the database has.
pub fn read_all(
    files: &BTreeMap<PathBuf, Language>,
    known: &HashMap<String, ContentHash>,
    max_bytes: u64,
    stop: &AtomicBool,
    send: &mpsc::Sender<Read>,
) {
    for (path, language) in files {
        if stop.load(Relaxed) {
            return;
        }
        // Fails when nobody wants more.
        if send
            .blocking_send(read(path, *language, known, max_bytes))
            .is_err()
        {
            return;
        }
    }
}

/// Reads one file.
#[must_use]
pub fn read(
    file: &Path,
    language: Language,
    known: &HashMap<String, ContentHash>,
    max_bytes: u64,
) -> Read {
    let path: Arc<str> = name(file).into();
    let failed = |reason: String| Read::Failed {
        path: Arc::clone(&path),
        reason,
    };
    match std::fs::metadata(file) {
        Err(error) => return failed(format!("cannot be read: {error}")),
        Ok(meta) if meta.len() > max_bytes => {
            return failed(format!(
                "is {} bytes long, more than {max_bytes}",
                meta.len()
            ));
        }
        Ok(_) => {}
    }
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) => return failed(format!("cannot be read: {error}")),
    };
    if bytes[..bytes.len().min(SNIFF)].contains(&0) {
        return Read::Binary { path };
    }
    let hash = *blake3::hash(&bytes).as_bytes();
    if known.get(&*path) == Some(&hash) {
        return Read::Unchanged { path };
    }
    match String::from_utf8(bytes) {
        Ok(text) => Read::Changed(SourceFile {
            path,
            language,
            text: text.into(),
            hash,
        }),
        Err(error) => failed(format!(
            "is not UTF-8 from byte {}",
            error.utf8_error().valid_up_to()
        )),
    }
}

/// A path as the database names it: a byte that is not UTF-8 is written as `\xff`, so that files that differ in such a
/// byte have different names (one whose name has `\xff` spelt out would have the same).
#[must_use]
pub fn name(path: &Path) -> String {
    let mut name = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        name.push_str(chunk.valid());
        for byte in chunk.invalid() {
            name.push_str(&format!("\\x{byte:02x}"));
        }
    }
    name
}

/// The paths of a set of files, as the database names them.
#[must_use]
pub fn names(files: &BTreeMap<PathBuf, Language>) -> BTreeSet<String> {
    files.keys().map(|path| name(path)).collect()
}
