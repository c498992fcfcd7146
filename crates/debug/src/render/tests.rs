use perennial_lifecycle::{ActorPath, ChildKind, ChildState, Restart, Shutdown};

use super::*;
use crate::{BooksSnapshot, ExitSnapshot, SpecSnapshot, Totals};

fn node(path: &str, kind: ChildKind) -> NodeSnapshot {
    let shutdown = match kind {
        ChildKind::Supervisor => Shutdown::Infinity,
        ChildKind::Worker => Shutdown::Within(Duration::from_secs(5)),
    };
    NodeSnapshot {
        path: ActorPath::root(path),
        kind,
        state: ChildState::Running,
        restarts: 0,
        incarnation: Some(1),
        uptime_ms: Some(125_000),
        mailbox_depth: 0,
        mailbox: None,
        paused_ms: None,
        debug_messages: Vec::new(),
        in_hand_ms: None,
        message_type: Some("Msg"),
        handled: 7,
        last_exit: None,
        monitors: Vec::new(),
        links: Vec::new(),
        earlier_exits: Vec::new(),
        dismissed: false,
        due_ms: None,
        spec: Some(SpecSnapshot {
            restart: Restart::Permanent,
            shutdown,
        }),
        children: Vec::new(),
    }
}

fn exit(class: &'static str, reason: &str) -> Option<Box<ExitSnapshot>> {
    Some(Box::new(ExitSnapshot {
        incarnation: 1,
        reason: reason.to_owned(),
        class,
        clean: matches!(class, "normal" | "shutdown"),
        chain: vec![reason.to_owned(), "disk full".to_owned()],
        at_ms: 1_700_000_000_000,
        uptime_ms: 60_000,
    }))
}

/// One of everything: fine, restarted, stuck, restarting, down, stopped in order.
fn sample() -> Snapshot {
    let worker = |path| node(path, ChildKind::Worker);
    let mut root = node("production", ChildKind::Supervisor);
    let mut pools = node("production/pools", ChildKind::Supervisor);
    let database = NodeSnapshot {
        restarts: 2,
        incarnation: Some(3),
        uptime_ms: Some(850),
        last_exit: exit("failed", "failed: cannot\nwrite"),
        ..worker("production/pools/database")
    };
    let analyzer = NodeSnapshot {
        mailbox_depth: 1_204,
        in_hand_ms: Some(12_340),
        ..worker("production/pools/analyzer")
    };
    pools.children = vec![database, analyzer];
    let down = NodeSnapshot {
        incarnation: None,
        uptime_ms: None,
        message_type: None,
        handled: 0,
        ..worker("production/billing")
    };
    let billing = NodeSnapshot {
        state: ChildState::Restarting,
        restarts: 14,
        last_exit: exit("panicked", "panicked at src/billing.rs:7:9: \"no\" rate"),
        ..down.clone()
    };
    let import = NodeSnapshot {
        path: ActorPath::root("production/import"),
        state: ChildState::Stopped,
        last_exit: exit("killed", "killed"),
        ..down.clone()
    };
    let migration = NodeSnapshot {
        path: ActorPath::root("production/migration"),
        state: ChildState::Stopped,
        last_exit: exit("normal", "normal"),
        ..down
    };
    root.children = vec![
        worker("production/registry"),
        pools,
        billing,
        import,
        migration,
        worker("production/debug"),
    ];
    let mut snapshot = Snapshot {
        at_ms: 1_700_000_060_000,
        totals: Totals::default(),
        books: BooksSnapshot::default(),
        waits: Vec::new(),
        dead_letters: DeadLettersSnapshot::default(),
        groups: Vec::new(),
        root,
    };
    let mut totals = Totals::default();
    snapshot.nodes().for_each(|node| totals.add(node));
    snapshot.totals = totals;
    snapshot
}

#[test]
fn text_is_a_tree_with_aligned_columns_and_marked_problems() {
    let expected = "\
actor             kind        state       restarts  uptime  mailbox
production        supervisor  running            0   2m05s        0
├── registry      worker      running            0   2m05s        0
├── pools         supervisor  running            0   2m05s        0
│   ├── database  worker      running            2   850ms        0  last exit: failed: cannot write
│   └── analyzer  worker      running            0   2m05s     1204  ! message in hand for 12.3s
├── billing       worker      restarting        14       -        -  ! restarting: panicked at src/billing.rs:7:9: \"no\" rate
├── import        worker      stopped            0       -        -  ! down: killed
├── migration     worker      stopped            0       -        -
└── debug         worker      running            0   2m05s        0

production: 9 actors, 16 restarts, 3 down, 3 problems
";
    assert_eq!(sample().render(), expected);
}

#[test]
fn a_long_reason_is_cut_and_the_json_has_all_of_it() {
    let mut snapshot = sample();
    let reason = "ä".repeat(300);
    snapshot.root.last_exit = exit("failed", &reason);
    let line = snapshot.render().lines().nth(1).map(str::to_owned).unwrap();
    assert!(line.ends_with(&format!("last exit: {}…", "ä".repeat(NOTE - 11))));
    assert!(snapshot.to_json().contains(&reason));
}

#[test]
fn summary_leaves_out_problems_that_are_not_there() {
    let mut snapshot = sample();
    snapshot.root.children.clear();
    snapshot.totals = Totals {
        actors: 1,
        restarts: 1,
        ..Totals::default()
    };
    assert_eq!(snapshot.summary(), "production: 1 actor, 1 restart, 0 down");
}

#[test]
fn mermaid_has_safe_ids_states_as_classes_and_escaped_labels() {
    let expected = r##"flowchart TD
    n0[["production"]]:::running
    n1("registry"):::running
    n0 --> n1
    n2[["pools"]]:::running
    n0 --> n2
    n3("database<br/>2 restarts"):::running
    n2 --> n3
    n4("analyzer<br/>message in hand for 12.3s"):::running
    n2 --> n4
    n5("billing<br/>14 restarts<br/>restarting: panicked at src/billing.rs:7:9: #34;no#34; rate"):::restarting
    n0 --> n5
    n6("import<br/>down: killed"):::stopped
    n0 --> n6
    n7("migration"):::stopped
    n0 --> n7
    n8("debug"):::running
    n0 --> n8
    classDef running fill:#d3f9d8,stroke:#2b8a3e,color:#1b1b1b
    classDef starting fill:#d0ebff,stroke:#1971c2,color:#1b1b1b
    classDef restarting fill:#fff3bf,stroke:#e67700,color:#1b1b1b
    classDef quarantined fill:#ffd8a8,stroke:#d9480f,color:#1b1b1b
    classDef stopping fill:#e9ecef,stroke:#868e96,color:#1b1b1b
    classDef stopped fill:#ffe3e3,stroke:#c92a2a,color:#1b1b1b
"##;
    assert_eq!(sample().to_mermaid(), expected);
}

#[test]
fn json_has_every_field_in_a_stable_order() {
    let mut snapshot = sample();
    let billing = snapshot.root.children.swap_remove(2);
    snapshot.root.children = vec![billing];
    let expected = r#"{
  "at_ms": 1700000060000,
  "totals": {
    "actors": 9,
    "restarts": 16,
    "down": 3,
    "problems": 3,
    "detached": 0
  },
  "books": {
    "waiting": 0,
    "in_hand": 0,
    "handled": 0,
    "failed": 0,
    "expired": 0,
    "returned": 0,
    "refused": 0,
    "dead": 0
  },
  "waits": [],
  "dead_letters": {
    "total": 0,
    "kept": 0,
    "last": [],
    "lately": []
  },
  "groups": [],
  "root": {
    "path": "production",
    "id": "production",
    "kind": "supervisor",
    "state": "running",
    "restarts": 0,
    "incarnation": 1,
    "uptime_ms": 125000,
    "mailbox_depth": 0,
    "mailbox": null,
    "paused_ms": null,
    "debug_messages": [],
    "in_hand_ms": null,
    "message_type": "Msg",
    "handled": 7,
    "monitors": [],
    "links": [],
    "last_exit": null,
    "earlier_exits": [],
    "due_ms": null,
    "spec": {
      "restart": "permanent",
      "shutdown": "infinity"
    },
    "dismissed": false,
    "children": [
      {
        "path": "production/billing",
        "id": "billing",
        "kind": "worker",
        "state": "restarting",
        "restarts": 14,
        "incarnation": null,
        "uptime_ms": null,
        "mailbox_depth": 0,
        "mailbox": null,
        "paused_ms": null,
        "debug_messages": [],
        "in_hand_ms": null,
        "message_type": null,
        "handled": 0,
        "monitors": [],
        "links": [],
        "last_exit": {
          "incarnation": 1,
          "reason": "panicked at src/billing.rs:7:9: \"no\" rate",
          "class": "panicked",
          "clean": false,
          "chain": [
            "panicked at src/billing.rs:7:9: \"no\" rate",
            "disk full"
          ],
          "at_ms": 1700000000000,
          "uptime_ms": 60000
        },
        "earlier_exits": [],
        "due_ms": null,
        "spec": {
          "restart": "permanent",
          "shutdown": "within 5s"
        },
        "dismissed": false,
        "children": []
      }
    ]
  }
}"#;
    assert_eq!(snapshot.to_json(), expected);
}

#[test]
fn durations_have_their_two_largest_units() {
    let seconds = |it| duration(Duration::from_secs(it));
    assert_eq!(duration(Duration::ZERO), "0ms");
    assert_eq!(duration(Duration::from_millis(59_990)), "59.9s");
    assert_eq!(seconds(60), "1m00s");
    assert_eq!(seconds(3_599), "59m59s");
    assert_eq!(seconds(11_220), "3h07m");
    assert_eq!(seconds(183_600), "2d03h");
}
