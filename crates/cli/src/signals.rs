//! Signals that ask the process to stop. Each counts from the moment it is listened to: `ctrl_c` of tokio
//! begins to listen when it is first polled, and until then a signal ends the process.

use std::fmt;
use std::future::pending;
use std::io;

#[cfg(unix)]
use tokio::signal::unix::{self, SignalKind};
#[cfg(windows)]
use tokio::signal::windows;

#[cfg(unix)]
type Interrupts = unix::Signal;
#[cfg(windows)]
type Interrupts = windows::CtrlC;

#[cfg(unix)]
type Terminations = unix::Signal;
#[cfg(windows)]
type Terminations = windows::CtrlClose;

/// Listens to Ctrl-C.
#[cfg(unix)]
fn interrupts() -> io::Result<Interrupts> {
    unix::signal(SignalKind::interrupt())
}

/// Listens to Ctrl-C.
#[cfg(windows)]
fn interrupts() -> io::Result<Interrupts> {
    windows::ctrl_c()
}

/// Listens to what a service manager sends.
#[cfg(unix)]
fn terminations() -> io::Result<Terminations> {
    unix::signal(SignalKind::terminate())
}

/// Listens to what ends a console.
#[cfg(windows)]
fn terminations() -> io::Result<Terminations> {
    windows::ctrl_close()
}

/// A signal that asked the process to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: the end of its session.
    Hangup,
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM: what a service manager sends.
    Terminate,
}

impl Signal {
    /// What a shell says of a process that it ended.
    pub(crate) fn exit_code(self) -> u8 {
        128 + match self {
            Self::Hangup => 1,
            Self::Interrupt => 2,
            Self::Terminate => 15,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hangup => "SIGHUP",
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// The signals that ask the process to stop.
pub(crate) struct Stops {
    interrupts: Interrupts,
    terminations: Terminations,
    hangups: Option<Interrupts>,
}

impl Stops {
    /// Listens to Ctrl-C, to what a service manager sends, and to the end of the session that the process belongs to.
    ///
    /// The last only on Linux, where it can be seen whether the process is meant to outlive its session.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupts: interrupts()?,
            terminations: terminations()?,
            hangups: hangups()?,
        })
    }

    /// Waits until one asks the process to stop, and says which.
    pub(crate) async fn asked(&mut self) -> Signal {
        let hangup = async {
            match &mut self.hangups {
                Some(hangups) => hangups.recv().await,
                None => pending().await,
            }
        };
        let signal = tokio::select! {
            _ = self.interrupts.recv() => Signal::Interrupt,
            _ = self.terminations.recv() => Signal::Terminate,
            _ = hangup => Signal::Hangup,
        };
        tracing::info!("{signal}: stopping");
        signal
    }
}

#[cfg(target_os = "linux")]
fn hangups() -> io::Result<Option<Interrupts>> {
    // Under `nohup` it was ignored before the process began, and to listen would undo that.
    let is_wanted = std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| !ignores(&status, SignalKind::hangup()));
    is_wanted
        .then(|| unix::signal(SignalKind::hangup()))
        .transpose()
}

#[cfg(not(target_os = "linux"))]
fn hangups() -> io::Result<Option<Interrupts>> {
    Ok(None)
}

/// Whether a process of this status (proc_pid_status(5)) ignores a signal; so it is taken where the status does not say.
#[cfg(target_os = "linux")]
fn ignores(status: &str, signal: SignalKind) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> (signal.as_raw_value() - 1) & 1 == 1)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_ignored_that_is_in_the_mask() {
        let status = |mask| format!("SigBlk:\t0000000000000000\nSigIgn:\t{mask}\nSigCgt:\t1\n");
        assert!(ignores(&status("0000000000001001"), SignalKind::hangup()));
        assert!(!ignores(&status("0000000000001000"), SignalKind::hangup()));
        assert!(ignores(&status("0000000000001000"), SignalKind::pipe()));
        assert!(ignores("Name:\tperennial\n", SignalKind::hangup()));
    }
}
