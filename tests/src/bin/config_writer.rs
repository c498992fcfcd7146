//! Changes settings as fast as it can, and prints every change that was acknowledged, until it is killed.
//!
//! Run by the test of what a killed process loses: `config_writer DATABASE SEED`.

use std::io::{self, Write as _};
use std::path::PathBuf;

use perennial::{Quota, Schema, Settings, Tree};

const SETTINGS: [&str; 4] = ["a.first", "a.second", "b.third", "b.fourth"];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = PathBuf::from(arguments.next().ok_or("no database")?);
    let seed: u64 = arguments.next().ok_or("no seed")?.parse()?;

    let mut schema = Schema::builder();
    for path in SETTINGS {
        schema = schema.value(path, 0_u64);
    }
    let mut settings = Settings::default();
    settings.database.path = Some(file);
    settings.config.update_quota = Quota::per_second(u32::MAX);
    let tree = Tree::builder("writer")
        .settings(settings)
        .schema(schema.build()?)
        .start()
        .await?;
    let mut writers = tokio::task::JoinSet::new();
    for (number, path) in (0..).zip(SETTINGS) {
        let tree = tree.clone();
        writers.spawn(async move {
            for count in 0_u64.. {
                let value = seed * 1_000_000 + count * 10 + number;
                match tree.update_protected(path, value, "writer").await {
                    // One write of one line: whole in the pipe, or not there.
                    Ok(change) => writeln!(io::stdout(), "{} {path} {value}", change.version)?,
                    Err(error) => return Err(io::Error::other(error.to_string())),
                }
            }
            Ok(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended??;
    }
    Ok(())
}
