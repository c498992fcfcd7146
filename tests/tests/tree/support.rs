//! What the tests of whole trees share.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use perennial::lifecycle::Incarnation;
use perennial::{ChildSpec, Name, Node, Scope, Settings, ShutdownReport, Tree};
use perennial_testkit::{Order, Puppet, assert_books_balance};

/// Longer than anything here takes on a busy machine: when it has passed, something never happens.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for what must happen.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future)
        .await
        .unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

/// Shuts a tree down; what its actors were sent is accounted for then.
pub(crate) async fn shut_down(tree: &Tree) -> ShutdownReport {
    let report = within("shutdown", tree.shutdown()).await;
    assert_books_balance!(tree.scope());
    report
}

/// One of the host's own actors, with the name of its id.
pub(crate) fn puppet(id: &str) -> ChildSpec {
    ChildSpec::worker(id, || (Puppet, ()))
}

pub(crate) async fn echoes(tree: &Tree, name: &Name<Order>) {
    let answer = tree
        .call(name.clone(), |reply| Order::Echo(7, reply), DEADLINE)
        .await;
    assert_eq!(answer.unwrap(), 7, "{name}");
}

/// Settings under which no number of kills is too many.
pub(crate) fn patient() -> Settings<()> {
    let mut settings = Settings::default();
    settings.supervision.max_restarts = 1_000_000;
    settings
}

/// A source of randomness that does the same in each run, unless `PERENNIAL_SEED` says otherwise.
pub(crate) fn random(seed: u64) -> fastrand::Rng {
    let asked = std::env::var("PERENNIAL_SEED").map(|text| text.parse().unwrap());
    let seed = asked.unwrap_or(seed);
    println!("PERENNIAL_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// Lists the places of a tree in the order of a snapshot: each before its children.
pub(crate) async fn places(tree: &Tree) -> Vec<String> {
    let snapshot = tree.debug().snapshot().await.unwrap();
    snapshot.nodes().map(|it| it.path.to_string()).collect()
}

/// The same places, with those in a pool in the order of their names: workers and keeper stop side by side.
pub(crate) fn workers_by_name(mut places: Vec<String>) -> Vec<String> {
    let is_worker = |place: &String| place.contains("/worker-") || place.ends_with("/keeper");
    for siblings in places.chunk_by_mut(|one, next| is_worker(one) && is_worker(next)) {
        siblings.sort();
    }
    places
}

/// Waits until an actor runs at each of these places, under the supervisor that is there now.
pub(crate) async fn healed(tree: &Tree, places: &[String]) {
    let mut events = tree.debug().events();
    let healing = async {
        while !places.iter().all(|path| runs(tree, path)) {
            // Every start is followed by an event.
            assert!(events.next().await.is_some());
        }
    };
    if tokio::time::timeout(DEADLINE, healing).await.is_err() {
        let snapshot = tree.debug().snapshot().await.unwrap();
        panic!("not healed within {DEADLINE:?}:\n{}", snapshot.render());
    }
}

/// Says whether an actor runs at a place, and none that an earlier run of its supervisor has left behind: that one is
/// about to be replaced.
fn runs(tree: &Tree, path: &str) -> bool {
    let root = tree.scope().root();
    let current = |path: &str| root.find(path).and_then(|node| node.current());
    let Some(run) = current(path) else {
        return false;
    };
    // In this order: time passes between the two looks.
    let uptime = run.uptime();
    // The root's own path may be any text.
    if path == root.path().as_str() {
        return true;
    }
    let parent = path
        .rsplit_once('/')
        .and_then(|(parent, _)| current(parent));
    parent.is_some_and(|parent| uptime <= parent.uptime())
}

/// Lists what runs at a node and below it.
pub(crate) fn running(node: &Arc<Node>) -> Vec<Arc<Incarnation>> {
    let mut all: Vec<_> = node.current().into_iter().collect();
    for child in node.children() {
        all.extend(running(&child));
    }
    all
}

/// Asserts that nothing runs in a tree, and that what its actors were sent is accounted for.
#[track_caller]
pub(crate) fn nothing_runs(scope: &Scope) {
    fn walk(node: &Arc<Node>, found: &mut Vec<String>) {
        if node.current().is_some() {
            found.push(node.path().to_string());
        }
        node.children().iter().for_each(|child| walk(child, found));
    }
    let mut found = Vec::new();
    walk(scope.root(), &mut found);
    assert!(found.is_empty(), "still running: {found:?}");
    assert_books_balance!(scope);
}

/// A folder of a test's own, removed at its end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(test: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{test}-{}-{number}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left behind lies in the target folder.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
