use perennial_lifecycle::Scope;

use super::*;

/// `wide` supervisors of `deep` workers each.
fn big(wide: usize, deep: usize) -> Arc<Node> {
    let root = Node::new(ActorPath::root("big"));
    for group in 0..wide {
        let group = root.child_or_insert(&format!("group_{group}"));
        group.set_spec(
            ChildKind::Supervisor,
            Restart::Permanent,
            Shutdown::Infinity,
        );
        for worker in 0..deep {
            group.child_or_insert(&format!("worker_{worker}"));
        }
    }
    root
}

fn ids(nodes: &[NodeSnapshot]) -> Vec<&str> {
    nodes.iter().map(|node| node.id()).collect()
}

#[tokio::test]
async fn children_are_in_start_order_at_every_depth() {
    let snapshot = Snapshot::read(&big(12, 3), Around::default()).await;
    let groups: Vec<String> = (0..12).map(|it| format!("group_{it}")).collect();
    assert_eq!(ids(&snapshot.root.children), groups);
    for group in &snapshot.root.children {
        assert_eq!(ids(&group.children), ["worker_0", "worker_1", "worker_2"]);
    }
    let walked: Vec<_> = snapshot.nodes().map(|it| it.path.as_str()).collect();
    assert_eq!(walked[..3], ["big", "big/group_0", "big/group_0/worker_0"]);
    assert_eq!(walked.len(), 1 + 12 + 36);
    assert_eq!(snapshot.totals.actors, 49);
    assert_eq!(snapshot.totals.down, 49);
}

#[tokio::test]
async fn ten_thousand_nodes_are_quick_and_let_others_run() {
    let root = big(100, 99);
    let start = tokio::time::Instant::now();
    let mut reading = std::pin::pin!(Snapshot::read(&root, Around::default()));
    let mut turns = 0;
    let snapshot = loop {
        tokio::select! {
            biased;
            snapshot = &mut reading => break snapshot,
            () = std::future::ready(()) => turns += 1,
        }
    };
    let drawn = snapshot.render().lines().count();
    let json = snapshot.to_json().len();
    let took = start.elapsed();

    assert_eq!(snapshot.totals.actors, 10_001);
    assert_eq!(drawn, 10_001 + 3);
    assert!(json > 10_001);
    assert!(turns >= 10, "{turns} turns for others");
    // Some 50 ms without optimisation; the bound only tells quick from quadratic.
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test]
async fn a_tree_that_never_started_is_refused() {
    let scope = Scope::new("cold");
    let refused = crate::Debugger::new(&scope).snapshot().await;
    let root = ActorPath::root("cold");
    assert_eq!(refused, Err(crate::SnapshotError::NotStarted { root }));
}
