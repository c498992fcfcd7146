//! What becomes of messages: mailboxes, envelopes, deadlines, cycles and the books.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bounds;
mod calls;
mod cycles;
mod foreign;
mod groups;
mod letters;
mod mail;
mod stopped;
mod storms;
mod support;
