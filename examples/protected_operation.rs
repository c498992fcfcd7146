//! Rate limit, breaker and pool around one operation, and what each of them says when it refuses.

use std::time::Duration;

use perennial::workers::database::Statement;
use perennial::{
    BreakerConfig, DATABASE, DatabaseWorker, GuardError, PoolConfig, Quota, Tree, Trip,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tree = Tree::builder("guarded")
        .pool(
            DATABASE,
            DatabaseWorker::in_memory("orders"),
            PoolConfig::new(1).max_overflow(1),
        )
        .breaker(
            "orders",
            BreakerConfig::builder()
                .trip(Trip::Consecutive(2))
                .build()?,
        )
        .start()
        .await?;

    // Resolved once: no look-up per call.
    let orders = tree
        .guard("orders")
        .rate_key(("order", 7_u64))
        .quota(Quota::per_minute(4))
        .pool(DATABASE)
        .deadline(Duration::from_secs(5))
        .build()?;

    orders
        .run(|db| async move { db.batch("CREATE TABLE orders (item TEXT)").await })
        .await?;
    let insert = Statement::new("INSERT INTO orders VALUES (?1)").bind("apple");
    let rows = orders
        .run(|db| async move { db.execute(insert).await })
        .await?;
    println!("inserted: {rows}");

    for _ in 0..3 {
        let result = orders
            .run(|db| async move { db.execute("INSERT INTO nowhere VALUES (1)").await })
            .await;
        match result {
            Err(GuardError::Operation(_)) => println!("the operation failed"),
            Err(GuardError::CircuitOpen(open)) => println!("refused: {open}"),
            Err(error @ GuardError::RateLimited { .. }) => println!(
                "refused: rate limited, come back in {} s",
                error.retry_after().unwrap_or_default().as_secs_f64().ceil()
            ),
            other => println!("unexpected: {other:?}"),
        }
    }
    tree.shutdown().await;
    Ok(())
}
