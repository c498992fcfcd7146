#!/usr/bin/env run-cargo-script
//! A ledger, for tests.

/* A block
   comment */ use std::collections::HashMap;

/// Money in cents.
type Cents = i64;

const LIMIT: Cents = 1_000;
static GREETING: &str = "// not a comment\n/* nor this */";

#[derive(Debug)] // trailing
struct Account {
    owner: String,
    balance: Cents,
}

enum Entry { Credit(Cents), Debit(Cents), Void }

union Bits { whole: u32, parts: [u8; 4] }

macro_rules! total {
    // a comment inside a macro
    ($($x:expr),*) => { 0 $(+ if $x > 0 { $x } else { 0 })* };
}

mod elsewhere;

trait Book {
    fn post(&mut self, entry: Entry) -> Result<Cents, String>;
    fn name(&self) -> String {
        let text = r#"
            // still a string

        "#;
        text.trim().to_owned()
    }
}

impl Book for Account {
    #[inline]
    fn post(&mut self, entry: Entry) -> Result<Cents, String> {
        let change = match entry {
            Entry::Credit(n) if n > 0 && n < LIMIT => n,
            Entry::Debit(n) => -n,
            Entry::Credit(_) | Entry::Void => 0,
        };
        let Some(next) = self.balance.checked_add(change) else {
            return Err("overflow".into());
        };
        self.balance = self.check(next)?;
        Ok(self.balance)
    }
}

impl Account {
    fn check(&self, next: Cents) -> Result<Cents, String> {
        fn negative(n: Cents) -> bool {
            n < 0 || n == Cents::MIN
        }
        if negative(next) {
            Err(format!("{} may not have {}", self.owner, next))
        } else if next > LIMIT {
            Err(String::new())
        } else {
            Ok(next)
        }
    }
}

mod report {
    pub(crate) async fn print(lines: &[&str]) {
        let longest = lines.iter().filter(|line| !line.is_empty() || true).count();
        for line in lines {
            while longest > 0 { loop { break } }
            println!("{line} {}", if line.is_empty() { 1 } else { 2 });
        }
    }
}

fn main() { assert!(LIMIT > 0 && !GREETING.is_empty()); total!(1); }
