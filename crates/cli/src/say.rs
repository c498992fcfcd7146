//! What people read beside the report. Nobody may read it: a closed pipe and a full disk are no reason to panic, as
//! `println!` and `eprintln!` would.

use std::error::Error;
use std::fmt::Display;
use std::io::Write as _;

/// Says a line on stderr.
pub fn complain(line: impl Display) {
    // There is no other place where its loss could be told.
    writeln!(std::io::stderr(), "{line}").unwrap_or_default();
}

/// Says an error and all that led to it in one line.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut last = error.to_string();
    let mut text = last.clone();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        // Some errors say by themselves what led to them.
        if !last.ends_with(&cause) && !cause.ends_with(&last) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        last = cause;
        next = error.source();
    }
    text
}
