//! Only benchmarks are here: `cargo bench -p perennial-message-benches`.
