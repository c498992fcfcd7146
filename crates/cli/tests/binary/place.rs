//! A directory of its own for each test.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::process::Command;

use crate::corpus::Corpus;
use crate::rows::Rows;
use crate::run::{self, Run};

pub(crate) struct Place {
    dir: TempDir,
    root: PathBuf,
}

impl Place {
    /// Makes a directory with an empty `src`.
    pub(crate) fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // The database has paths without links.
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir(root.join("src")).unwrap();
        Self { dir, root }
    }

    /// Makes a directory with so many files in `src`.
    pub(crate) fn with_files(files: usize) -> (Self, Corpus) {
        let place = Self::empty();
        let corpus = Corpus::write(&place.src(), files);
        (place, corpus)
    }

    pub(crate) fn src(&self) -> PathBuf {
        self.root.join("src")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn root(&self) -> &Path {
        debug_assert!(self.dir.path().is_dir());
        &self.root
    }

    /// Writes a file, and the directories that it needs.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Prepares `perennial` with these arguments, separated by spaces, in this directory.
    pub(crate) fn perennial(&self, arguments: &str) -> Command {
        let mut command = run::perennial();
        command
            .args(arguments.split_whitespace())
            .current_dir(&self.root);
        command
    }

    /// Runs `perennial` with these arguments, separated by spaces, in this directory.
    pub(crate) async fn run(&self, arguments: &str) -> Run {
        run::output(&mut self.perennial(arguments)).await
    }

    pub(crate) fn rows(&self, database: &str) -> Rows {
        Rows::read(&self.path(database))
    }
}
