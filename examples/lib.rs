//! Small hosts, each one file in this folder; run one with `cargo run -p perennial-examples --example host`.
