//! What becomes of messages: mailboxes, envelopes, deadlines, cycles and the books.

mod mail;
mod spans;
mod support;
