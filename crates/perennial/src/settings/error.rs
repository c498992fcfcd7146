use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong with a settings file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    pub(super) file: PathBuf,
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) key: String,
    pub(super) message: String,
}

impl SettingsError {
    /// Returns the line, from 1; 0 when the file could not be read.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }

    /// Returns the key, dotted, such as `pools.database.size`; empty when the text is not TOML there.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Says what is wrong and what was expected.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for SettingsError {}

/// Everything that is wrong with a settings file, in order of line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsErrors(pub(super) Vec<SettingsError>);

impl SettingsErrors {
    pub(super) fn unreadable(file: &Path, error: &std::io::Error) -> Self {
        Self(vec![SettingsError {
            file: file.to_owned(),
            line: 0,
            column: 0,
            key: String::new(),
            message: format!("cannot be read: {error}"),
        }])
    }

    /// Walks the errors in order of line.
    pub fn iter(&self) -> impl Iterator<Item = &SettingsError> {
        self.0.iter()
    }
}

impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fmt::Display::fmt(error, f)?;
        }
        Ok(())
    }
}

impl std::error::Error for SettingsErrors {}
