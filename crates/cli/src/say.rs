//! What people read beside the report. Nobody may read it: a closed pipe and a full disk are no reason to panic, as
//! `println!` and `eprintln!` would.

use std::fmt::Display;
use std::io::Write as _;

/// Says a line on stderr.
pub fn complain(line: impl Display) {
    // There is no other place where its loss could be told.
    writeln!(std::io::stderr(), "{line}").unwrap_or_default();
}
