//! Killing random actors, for demonstration and for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use perennial::Tree;
use tokio::time::sleep;

/// The longest pause between two kills.
const PAUSE_MS: u64 = 400;

/// Kills a random live actor of the tree a few times a second, for ever. Counts the kills.
pub(super) async fn run(tree: Tree, seed: u64, kills: Arc<AtomicU64>) {
    let mut random = fastrand::Rng::with_seed(seed);
    loop {
        let mut alive = Vec::new();
        let mut at = vec![Arc::clone(tree.scope().root())];
        while let Some(node) = at.pop() {
            at.extend(node.children());
            if let Some(current) = node.current() {
                alive.push((node.path().clone(), current));
            }
        }
        if !alive.is_empty() {
            let (path, victim) = alive.swap_remove(random.usize(..alive.len()));
            tracing::info!(actor.name = %path, "chaos kills");
            // Not through the debug actor: it is one of the victims, and the root is another.
            victim.kill();
            kills.fetch_add(1, Relaxed);
        }
        sleep(Duration::from_millis(random.u64(50..PAUSE_MS))).await;
    }
}
