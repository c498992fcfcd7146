//! Signals that ask the process to stop. Each counts from the moment it is listened to: `ctrl_c` of tokio
//! begins to listen when it is first polled, and until then a signal ends the process.

use std::io;

#[cfg(unix)]
use tokio::signal::unix::{self, SignalKind};
#[cfg(windows)]
use tokio::signal::windows;

#[cfg(unix)]
pub(crate) type Interrupts = unix::Signal;
#[cfg(windows)]
pub(crate) type Interrupts = windows::CtrlC;

#[cfg(unix)]
pub(crate) type Terminations = unix::Signal;
#[cfg(windows)]
pub(crate) type Terminations = windows::CtrlClose;

/// Listens to Ctrl-C.
#[cfg(unix)]
pub(crate) fn interrupts() -> io::Result<Interrupts> {
    unix::signal(SignalKind::interrupt())
}

/// Listens to Ctrl-C.
#[cfg(windows)]
pub(crate) fn interrupts() -> io::Result<Interrupts> {
    windows::ctrl_c()
}

/// Listens to what a service manager sends.
#[cfg(unix)]
pub(crate) fn terminations() -> io::Result<Terminations> {
    unix::signal(SignalKind::terminate())
}

/// Listens to what ends a console.
#[cfg(windows)]
pub(crate) fn terminations() -> io::Result<Terminations> {
    windows::ctrl_close()
}
