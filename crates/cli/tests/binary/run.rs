//! Runs of the binary.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

/// Nothing here takes nearly as long: what does hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// What a run left.
#[derive(Debug)]
pub(crate) struct Run {
    /// `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// The one line on stderr.
    #[track_caller]
    pub(crate) fn error(&self) -> &str {
        assert_eq!(self.stdout, "");
        let line = self.stderr.strip_suffix('\n').unwrap_or_default();
        assert!(!line.is_empty() && !line.contains('\n'), "{self:#?}");
        line
    }
}

/// Prepares the binary, with nothing of the environment that changes what it prints.
pub(crate) fn perennial() -> Command {
    command(env!("CARGO_BIN_EXE_perennial"))
}

/// As [`perennial`], from another place.
pub(crate) fn command(binary: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(binary);
    command
        .env_remove("PERENNIAL_LOG")
        .env_remove("NO_COLOR")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs a command to its end.
pub(crate) async fn output(command: &mut Command) -> Run {
    let output = timeout(PATIENCE, command.output())
        .await
        .expect("the run ends")
        .expect("the binary starts");
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8 on stdout"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8 on stderr"),
    }
}
