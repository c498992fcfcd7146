//! Signals, users, and what a run says while it goes on.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use crate::place::Place;
use crate::run::{self, PATIENCE, Run};

/// The user and group `nobody`, whatever they are called.
const NOBODY: u32 = 65534;

/// A run whose log is followed.
pub(crate) struct Running {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    log: String,
}

impl Running {
    /// Starts a command with the log of its own doings.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .env("PERENNIAL_LOG", "perennial_cli=debug")
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        Self {
            child,
            lines,
            log: String::new(),
        }
    }

    /// Waits for the next line of the log; `None` at its end.
    ///
    /// Cancel safe: a line of which only a part was read is read on the next time.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let line = self.lines.next_line().await.unwrap()?;
        self.log.push_str(&line);
        self.log.push('\n');
        Some(line)
    }

    /// Waits for a line of the log with this text.
    pub(crate) async fn wait_for(&mut self, text: &str) -> String {
        let found = async {
            loop {
                match self.line().await {
                    Some(line) if line.contains(text) => return Some(line),
                    Some(_) => {}
                    None => return None,
                }
            }
        };
        match timeout(PATIENCE, found).await {
            Ok(Some(line)) => line,
            _ => panic!("no `{text}` in\n{}", self.log),
        }
    }

    /// Waits until a transaction is committed, and says of how many rows; `None` at the end of the log.
    pub(crate) async fn committed(&mut self) -> Option<usize> {
        loop {
            let line = self.line().await?;
            if let Some((_, rows)) = line.split_once("committed rows=") {
                return Some(rows.trim().parse().unwrap());
            }
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // An id that is given away only once the child was waited for.
        let id = self.child.id().expect("nobody has waited for it");
        let pid = Pid::from_raw(id.try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Closes its log, sends a signal, and waits for its end.
    pub(crate) async fn end_unheard(self, signal: Signal) -> Option<i32> {
        let Self {
            mut child, lines, ..
        } = self;
        drop(lines);
        let id = child.id().expect("nobody has waited for it");
        kill_process(Pid::from_raw(id.try_into().unwrap()).unwrap(), signal).unwrap();
        let status = timeout(PATIENCE, child.wait()).await;
        status.expect("the run ends").unwrap().code()
    }

    /// Ends it with SIGKILL.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Waits for its end.
    pub(crate) async fn end(mut self) -> Run {
        let end = async {
            let log = async { while self.line().await.is_some() {} };
            log.await;
            let output = self.child.wait_with_output().await.unwrap();
            Run {
                code: output.status.code(),
                stdout: String::from_utf8(output.stdout).unwrap(),
                stderr: self.log,
            }
        };
        timeout(PATIENCE, end).await.expect("the run ends")
    }
}

impl Place {
    /// Prepares `perennial` as it is started by a shell, whatever this test itself was started by.
    pub(crate) fn perennial_in_a_session(&self, arguments: &str) -> Command {
        if cfg!(not(target_os = "linux")) {
            return self.perennial(arguments);
        }
        let mut command = run::command("env");
        command
            .args(["--default-signal=HUP", env!("CARGO_BIN_EXE_perennial")])
            .args(arguments.split_whitespace())
            .current_dir(self.root());
        command
    }

    /// Prepares `perennial` for a user who may not read and write everything: another one if this is root.
    ///
    /// `None`, with a message, when there is no such user.
    pub(crate) async fn unprivileged(&self, arguments: &str) -> Option<Command> {
        if !geteuid().is_root() {
            return Some(self.perennial(arguments));
        }
        // Where that user may go: the build folder may be out of reach.
        let binary = self.path("perennial");
        if !binary.exists() {
            fs::set_permissions(self.root(), Permissions::from_mode(0o777)).unwrap();
            // By another process: a file that this one has open for writing cannot be executed, and its
            // children share what it has open for a moment.
            let copied = Command::new("cp")
                .arg(env!("CARGO_BIN_EXE_perennial"))
                .arg(&binary)
                .status();
            assert!(copied.await.unwrap().success());
        }
        let prepare = |arguments: &str| {
            let mut command = run::command(&binary);
            command
                .args(arguments.split_whitespace())
                .current_dir(self.root())
                .uid(NOBODY)
                .gid(NOBODY);
            command
        };
        match prepare("--version").output().await {
            Ok(output) if output.status.success() => Some(prepare(arguments)),
            other => {
                println!("skipped: root cannot become another user here: {other:?}");
                None
            }
        }
    }
}
