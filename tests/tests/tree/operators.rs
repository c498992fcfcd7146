//! What operators command through the debug actor besides actors.

use perennial::{BreakerConfig, BreakerState, CheckoutError, DATABASE, GuardError, Tree};

use crate::support::{patient, shut_down, within};

#[tokio::test]
async fn dbg_18_the_breakers_of_a_tree_are_commanded_by_their_paths() {
    const MAIL: &str = "t/breakers/mail";
    let tree = Tree::builder("t").settings(patient());
    let tree = tree.breaker("mail", BreakerConfig::default());
    let tree = tree.start().await.unwrap();
    let send = async || {
        let guard = tree.guard("mail").build().unwrap();
        guard.run(|()| async { Ok::<_, std::io::Error>(()) }).await
    };
    for order in ["trip", "isolate"] {
        let state = match order {
            "trip" => tree.debug().trip(MAIL).await.unwrap(),
            _ => tree.debug().isolate(MAIL).await.unwrap(),
        };
        assert!(matches!(
            state,
            BreakerState::Open | BreakerState::ForcedOpen
        ));
        let refused = send().await.unwrap_err();
        assert!(
            matches!(refused, GuardError::CircuitOpen { .. }),
            "{refused}"
        );
        let state = tree.debug().reset(MAIL).await.unwrap();
        assert_eq!(state, BreakerState::Closed);
        send().await.unwrap();
    }
    let error = tree.debug().trip("t/pools/database").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot trip `t/pools/database`: it is no breaker; did you mean `t/breakers/database`?"
    );
    shut_down(&tree).await;
}

#[tokio::test]
async fn dbg_19_the_pools_of_a_tree_are_commanded_by_their_paths() {
    const POOL: &str = "t/pools/database";
    let tree = Tree::builder("t").settings(patient()).start().await;
    let tree = tree.unwrap();
    let pool = tree.pool(DATABASE).unwrap();
    let mut events = tree.debug().events();
    tree.debug().resize(POOL, 4, 1).await.unwrap();
    let workers = async {
        while pool.status().idle != 4 {
            // A worker that has started tells so.
            events.next().await.unwrap().unwrap();
        }
    };
    within("the workers", workers).await;
    assert_eq!(pool.status().max_overflow, 1);

    let drained = tree.debug().drain(POOL);
    within("the drain", drained).await.unwrap();
    let refused = pool.checkout().await.unwrap_err();
    assert!(matches!(refused, CheckoutError::Drained { .. }));
    tree.debug().resume_lending(POOL).await.unwrap();
    drop(pool.checkout().await.unwrap());
    shut_down(&tree).await;
}
