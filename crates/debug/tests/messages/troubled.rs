//! What needs a look.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use perennial_debug::{Debugger, Severity, TroubleKind};
use perennial_lifecycle::{
    Backoff, ChildKind, ChildSpec, DeadReason, ExitReason, Mailbox, Quarantine, Scope, StartError,
    Started,
};
use perennial_registry::Registry;
use perennial_supervisor::RestartIntensity;
use tokio::time::advance;

use crate::support::{Clerk, Desk, Job, SECOND, Shop, clerk, supervisor};

#[tokio::test(start_paused = true)]
async fn troubled_lists_what_needs_a_look_worst_first() {
    let scope = Scope::new("shop");
    let names = Registry::new(&scope);
    let debugger = Debugger::new(&scope).with_names(&names);
    let desk = Arc::<Desk>::default();
    let hour = Duration::from_secs(3600);
    let never = RestartIntensity::new(0, hour);
    let tree = supervisor()
        .child(clerk("gone", &desk).temporary())
        .child(clerk("fine", &desk))
        .child(
            clerk("parked", &desk)
                .budget(never)
                .quarantine(Quarantine::new(Backoff::constant(hour))),
        )
        .child(clerk("late", &desk).backoff(Backoff::constant(hour)))
        .child(clerk("busy", &desk))
        .child(clerk("busier", &desk).mailbox(Mailbox::bounded(10)))
        .child(clerk("full", &desk).mailbox(Mailbox::bounded(2)))
        .child(clerk("shaky", &desk))
        .child(clerk("resting", &desk))
        .child(clerk("caller", &desk))
        .child(debugger.child_spec());
    let tree = tree.build().unwrap().start_in(&scope).await.unwrap();
    let shop = Shop {
        scope,
        debugger,
        clerk: Arc::clone(&desk),
        scribe: desk,
    };
    assert_eq!(
        shop.snapshot().await.troubled().render(),
        "nothing needs a look\n"
    );

    for id in ["parked", "late"] {
        shop.debugger.kill(&format!("shop/{id}")).await.unwrap();
    }
    for _ in 0..3 {
        shop.debugger.kill("shop/shaky").await.unwrap();
        tree.count_children().await.unwrap();
        shop.node("shop/shaky").running().await;
    }
    let path = |id: &str| shop.node(&format!("shop/{id}")).path().clone();
    let waits = Arc::clone(shop.scope.traffic().waits());
    let (caller, busy, busier) = (path("caller"), path("busy"), path("busier"));
    shop.occupy("shop/caller", hour).await;
    let _one = waits.begin(&caller, &busier).unwrap();
    let _two = waits.begin(&busier, &busy).unwrap();
    shop.occupy("shop/busier", hour).await;
    for number in 0..8 {
        shop.send("shop/busier", Job::Write(number));
    }
    shop.occupy("shop/full", hour).await;
    for number in 0..2 {
        shop.send("shop/full", Job::Write(number));
    }
    advance(5 * SECOND).await;
    shop.occupy("shop/busy", hour).await;
    shop.debugger.pause("shop/resting").await.unwrap();
    advance(7 * SECOND).await;

    let troubled = shop.snapshot().await.troubled();
    assert_eq!(
        troubled.render(),
        "\
critical  shop/parked   quarantined for another 59m48s: killed
critical  shop/full     message in hand for 12.0s
critical  shop/busy     message in hand for 7.0s
critical  shop/full     mailbox 2 of 2
warning   shop/late     restart in 59m48s: killed
warning   shop/shaky    3 bad ends within 10 min
warning   shop/caller   waits for 12.0s: shop/caller -> shop/busier -> shop/busy
warning   shop/busier   mailbox 8 of 10
warning   shop/busier   a message has waited for 12.0s at least
warning   shop/full     a message has waited for 12.0s at least
notice    shop/resting  paused for 7.0s, 0 messages waiting

4 critical, 6 warning, 1 notice
"
    );
    let kinds: Vec<_> = troubled.troubles.iter().map(|it| it.kind).collect();
    assert!(kinds.is_sorted());
    assert_eq!(kinds[0], TroubleKind::Quarantined);
    assert!(
        troubled
            .troubles
            .is_sorted_by(|a, b| a.severity >= b.severity)
    );
    assert_eq!(troubled.count(Severity::Notice), 1);
    assert!(!troubled.is_empty());
}

#[tokio::test(start_paused = true)]
async fn troubled_begins_with_who_is_down() {
    let shop = Shop::open().await;
    shop.debugger.pause("shop/clerk").await.unwrap();
    shop.debugger.kill("shop").await.unwrap();
    let troubled = shop.snapshot().await.troubled();
    assert_eq!(
        (
            troubled.troubles[0].kind,
            troubled.troubles[0].path.as_str()
        ),
        (TroubleKind::Down, "shop")
    );
    assert!(troubled.render().starts_with("critical  shop"));
    let worst = &troubled.troubles[0];
    let text = format!("critical: shop: {}", worst.reason);
    assert_eq!(worst.to_string(), text);
}

#[tokio::test(start_paused = true)]
async fn dbg_12_an_actor_that_an_operator_stopped_after_a_crash_is_no_trouble() {
    let scope = Scope::new("shop");
    let debugger = Debugger::new(&scope);
    let desk = Arc::<Desk>::default();
    let hour = Backoff::constant(Duration::from_secs(3600));
    let shelf = supervisor().child(clerk("late", &desk).backoff(hour));
    let fails = Arc::new(AtomicBool::new(false));
    let broken = ChildSpec::from_fn("broken", ChildKind::Worker, {
        let (desk, fails) = (Arc::clone(&desk), Arc::clone(&fails));
        move |context| {
            let (clerk, fails) = (Clerk(Arc::clone(&desk)), fails.load(SeqCst));
            async move {
                if fails {
                    return Err(StartError::new(ExitReason::failed("no licence")));
                }
                Ok(Started::from(context.spawn(clerk, ()).await?))
            }
        }
    });
    let tree = supervisor()
        .child(clerk("late", &desk).backoff(hour))
        .child(shelf.build().unwrap().into_child("shelf"))
        .child(broken)
        .child(debugger.child_spec());
    let tree = tree.build().unwrap().start_in(&scope).await.unwrap();
    let troubled = async || debugger.snapshot().await.unwrap().troubled().render();
    for path in ["shop/late", "shop/shelf/late"] {
        debugger.kill(path).await.unwrap();
    }
    advance(SECOND).await;
    assert_eq!(troubled().await.matches("restart in").count(), 2);
    for run in 2..=4 {
        debugger.kill("shop/broken").await.unwrap();
        let broken = scope.root().child("broken").unwrap();
        assert_eq!(broken.running().await.number(), run);
    }
    assert_eq!(troubled().await.matches("3 bad ends").count(), 1);
    // The one itself, the other with its supervisor.
    for path in ["shop/late", "shop/shelf", "shop/broken"] {
        debugger.stop(path).await.unwrap();
    }
    let snapshot = debugger.snapshot().await.unwrap();
    let late = snapshot.find("shop/late").unwrap();
    assert!(late.dismissed && !late.last_exit.as_ref().unwrap().clean);
    assert_eq!(troubled().await, "nothing needs a look\n");
    // One that was to start again, and could not, is down though nobody wants it so.
    fails.store(true, SeqCst);
    tree.restart_child("broken").await.unwrap_err();
    let found = troubled().await;
    assert!(
        found.starts_with("critical  shop/broken  down: failed: no licence"),
        "{found}"
    );
    fails.store(false, SeqCst);
    for id in ["late", "shelf", "broken"] {
        tree.restart_child(id).await.unwrap();
    }
    let snapshot = debugger.snapshot().await.unwrap();
    assert!(snapshot.nodes().all(|node| !node.dismissed));
    debugger.kill("shop/late").await.unwrap();
    advance(SECOND).await;
    assert_eq!(troubled().await.matches("restart in").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn dbg_12_what_a_mailbox_replaces_is_no_trouble() {
    let any = |_: &Job| ();
    let shop = Shop::with(Mailbox::default(), Mailbox::bounded(5).coalesce(any)).await;
    shop.occupy("shop/scribe", SECOND).await;
    for number in 0..4 {
        shop.send("shop/scribe", Job::Write(number));
    }
    let snapshot = shop.snapshot().await;
    let [letter] = &snapshot.dead_letters.last[..] else {
        panic!("{:?}", snapshot.dead_letters)
    };
    assert_eq!((letter.reason, letter.messages), (DeadReason::Replaced, 3));
    assert_eq!((snapshot.books.dead, snapshot.dead_letters.total), (3, 3));
    let troubled = snapshot.troubled();
    assert!(troubled.is_empty(), "{troubled:?}");
}
