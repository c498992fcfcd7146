//! What is set, refused and told.

use std::collections::BTreeMap;

use serde_json::json;

use super::support::{CURRENCY, LEVEL, LIMIT, Tree, memory};
use crate::{
    ConfigChange, ConfigEntry, ConfigKey, ConfigServer, ConfigServerBuilder, GetError,
    HistoryError, Schema, SchemaBuilder, Subscription, SubscriptionError, UpdateError,
};

#[tokio::test]
async fn settings_have_their_defaults_until_they_are_changed() {
    let tree = Tree::start(memory()).await;
    let config = &tree.config;
    assert_eq!(config.get(LIMIT).unwrap(), 10);
    assert_eq!(*config.get_shared(CURRENCY).unwrap(), "EUR");
    assert_eq!(config.version(), 0);

    let change = config.update(LIMIT, 20, "alice").await.unwrap();
    assert_eq!(
        (&*change.path, change.old, change.new),
        ("billing.limit", json!(10), json!(20))
    );
    assert_eq!((change.version, &*change.user), (1, "alice"));
    let change = config
        .update("billing.currency", json!("CHF"), "bob")
        .await
        .unwrap();
    assert_eq!(change.version, 2);

    assert_eq!(config.get(LIMIT).unwrap(), 20);
    assert_eq!(config.get_value("billing.currency").unwrap(), "CHF");
    assert_eq!(config.version(), 2);
    let entries = config.entries();
    assert_eq!(
        entries.iter().filter(|entry| entry.set.is_none()).count(),
        1
    );
    assert_eq!(entries[1].set.as_ref().unwrap().version, 1);
    assert_eq!(entries[1].default, 10);
    assert_eq!(
        tree.notes(),
        [
            "billing.limit changed by alice in version 1",
            "billing.currency changed by bob in version 2"
        ]
    );
}

#[tokio::test]
async fn keys_are_checked_against_the_schema() {
    let tree = Tree::start(memory()).await;
    let error = tree
        .config
        .get(ConfigKey::<u32>::new("billing.limits"))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "no setting `billing.limits`, did you mean `billing.limit`?"
    );
    let error = tree
        .config
        .get(ConfigKey::<u64>::new("billing.limit"))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "setting `billing.limit` is of type u32, not u64"
    );
    assert!(
        tree.config
            .get_shared(ConfigKey::<u64>::new("billing.limit"))
            .is_err()
    );
    assert!(tree.config.get_value("billing").is_err());
}

#[tokio::test]
async fn an_invalid_value_is_refused_and_changes_nothing() {
    let tree = Tree::start(memory()).await;
    let config = &tree.config;
    config.update(LIMIT, 20, "alice").await.unwrap();
    for (path, value) in [
        ("billing.limit", json!(1000)),
        ("billing.limit", json!("many")),
        ("billing.currency", json!(null)),
    ] {
        let error = config.update(path, value, "bob").await.unwrap_err();
        assert!(matches!(&error, UpdateError::Invalid { path: named, .. } if **named == *path));
        assert!(!error.is_retryable());
    }
    let error = config.update("billing.limt", 1, "bob").await.unwrap_err();
    assert!(
        matches!(&error, UpdateError::UnknownPath(unknown) if unknown.nearest.as_deref() == Some("billing.limit"))
    );
    assert_eq!((config.get(LIMIT).unwrap(), config.version()), (20, 1));
    assert_eq!(
        tree.stored().await,
        BTreeMap::from([("billing.limit".to_owned(), "20".to_owned())])
    );
}

#[tokio::test]
async fn cfg_3_a_value_that_could_not_be_read_back_is_refused_before_it_is_stored() {
    const RATIO: ConfigKey<f32> = ConfigKey::new("billing.ratio");
    let schema = Schema::builder().value(RATIO, 1.0).build().unwrap();
    let pool = memory();
    let tree = Tree::start_with(ConfigServer::builder(schema, pool.clone()), pool).await;
    let config = &tree.config;
    let mut ratio = 1.0;
    for (next, version) in [(2.5, 1), (3.5, 2)] {
        // In an `f32` it has no end, and what has none is written as null.
        let error = config.update(RATIO, 1e300, "bob").await.unwrap_err();
        assert!(matches!(error, UpdateError::Invalid { .. }), "{error:?}");
        assert_eq!(config.get(RATIO).unwrap(), ratio);
        let change = config.update(RATIO, next, "alice").await.unwrap();
        assert_eq!((change.old, change.version), (json!(ratio), version));
        ratio = next;
    }
    assert_eq!(config.history(RATIO, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn history_is_listed_newest_first() {
    let tree = Tree::start(memory()).await;
    for (n, user) in [(1, "alice"), (2, "bob"), (3, "carol")] {
        tree.config.update(LIMIT, n, user).await.unwrap();
        tree.config.update(LEVEL, n, user).await.unwrap();
    }
    let history = tree.config.history(LIMIT, 2).await.unwrap();
    let told: Vec<_> = history
        .iter()
        .map(|it| (&it.old, &it.new, it.version, &*it.user))
        .collect();
    assert_eq!(
        told,
        [
            (&json!(2), &json!(3), 5, "carol"),
            (&json!(1), &json!(2), 3, "bob")
        ]
    );
    let first = tree.config.history(LIMIT, 10).await.unwrap().pop().unwrap();
    assert_eq!(first.old, 10, "the default");
    assert!(matches!(
        tree.config.history("nothing", 1).await,
        Err(HistoryError::UnknownPath(_))
    ));
}

#[tokio::test]
async fn a_subscriber_hears_of_the_settings_below_its_path() {
    let tree = Tree::start(memory()).await;
    let mut all = tree.config.subscribe("").unwrap();
    let mut billing = tree.config.subscribe("billing").unwrap();
    let mut limit = tree.config.subscribe(LIMIT).unwrap();
    assert!(tree.config.subscribe("bill").is_err());
    for path in ["log.level", "billing.limit"] {
        tree.config.update(path, 7, "alice").await.unwrap();
    }
    tree.config.update(CURRENCY, "CHF", "alice").await.unwrap();
    assert_eq!(&*all.changed().await.unwrap().path, "log.level");
    assert_eq!(&*billing.changed().await.unwrap().path, "billing.limit");
    assert_eq!(&*billing.changed().await.unwrap().path, "billing.currency");
    assert_eq!(limit.changed().await.unwrap().version, 2);
}

#[tokio::test]
async fn a_subscriber_that_is_too_slow_is_told_so() {
    let tree = Tree::start(memory()).await;
    let mut slow = tree.config.subscribe("").unwrap();
    for n in 0..300 {
        tree.config.update(LEVEL, n, "alice").await.unwrap();
    }
    let Err(SubscriptionError::Lagged { missed }) = slow.changed().await else {
        panic!("not told");
    };
    assert_eq!(slow.changed().await.unwrap().version, missed + 1);
}

#[test]
fn public_types_are_debug_send_and_sync() {
    fn check<T: std::fmt::Debug + Send + Sync>() {}
    check::<ConfigServer>();
    check::<ConfigServerBuilder>();
    check::<ConfigEntry>();
    check::<ConfigChange>();
    check::<ConfigKey<u32>>();
    check::<Schema>();
    check::<SchemaBuilder>();
    check::<Subscription>();
    check::<UpdateError>();
    check::<GetError>();
    check::<HistoryError>();
}
