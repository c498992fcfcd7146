//! One TOML file configures the whole tree, and goes before the code.

use std::time::Duration;

use perennial::pool::PoolStrategy;
use perennial::rate_limit::{RateGateConfig, WhenFull};
use perennial::{
    BreakerConfig, DATABASE, DatabaseWorker, Name, NoHost, OpenTime, PoolConfig, PoolName, Quota,
    Refusal, Settings, StartTreeError, Strategy, Tree, Trip,
};
use perennial_testkit::Order;
use serde::Deserialize;

use crate::support::{DEADLINE, Folder, echoes, puppet, shut_down};

const BILLING: Name<Order> = Name::new("billing");
const ORDERS: PoolName<DatabaseWorker> = PoolName::new("orders");

fn parse(text: &str) -> Settings<()> {
    let settings: Settings<NoHost> = Settings::parse("perennial.toml", text).unwrap();
    settings.split().0
}

#[test]
fn an_empty_file_says_what_no_file_says() {
    let (file, code) = (parse(""), Settings::<()>::default());
    assert_eq!(format!("{file:?}"), format!("{code:?}"));
}

#[tokio::test(start_paused = true)]
async fn a_database_pool_that_could_never_lend_is_refused_before_anything_starts() {
    let none = PoolConfig::new(0);
    let worker = DatabaseWorker::in_memory("app");
    let builder = Tree::builder("app").pool(DATABASE, worker, none);
    let refused = builder.start().await.unwrap_err();
    assert!(matches!(refused, StartTreeError::EmptyDatabasePool));
}

#[test]
fn every_default_is_as_documented() {
    let it = parse("");
    assert_eq!(it.database.path, None);
    assert_eq!(it.database.to_string(), "memory");
    assert_eq!(
        (it.supervision.max_restarts, it.supervision.within),
        (10, Duration::from_secs(10))
    );
    assert_eq!(it.supervision.host_strategy, Strategy::OneForOne);
    assert_eq!(it.supervision.shutdown_deadline, Duration::from_secs(30));
    assert!(it.pools.is_empty() && it.breakers.is_empty() && it.quotas.is_empty());
    let gate = RateGateConfig::default();
    assert_eq!(it.rate_gate, gate);
    assert_eq!(
        (gate.max_keys.get(), gate.when_full),
        (100_000, WhenFull::Evict)
    );
    assert_eq!(
        (gate.sweep_interval, gate.sweep_budget.get()),
        (Duration::from_millis(250), 8192)
    );
    assert_eq!(it.config.update_quota, Quota::per_minute(100));
    assert_eq!(it.config.update_deadline, Duration::from_secs(5));
    let memory = &it.memory;
    assert_eq!(
        (memory.medium(), memory.warning(), memory.critical()),
        (0.5, 0.7, 0.9)
    );
    assert_eq!(memory.check_every(), Duration::from_secs(30));
    assert_eq!(it.health.refresh_every(), Duration::from_secs(10));
    assert_eq!(it.health.timeout(), Duration::from_secs(1));

    // What a pool and a breaker have when the file names them and says no more than it must.
    let it = parse("[pools.p]\nsize = 3\n[breakers.b]\n");
    assert_eq!(it.pools["p"], PoolConfig::new(3));
    assert_eq!(
        (it.pools["p"].overflow(), it.pools["p"].timeout()),
        (0, Duration::from_secs(5))
    );
    let breaker = &it.breakers["b"];
    assert_eq!(breaker, &BreakerConfig::default());
    assert_eq!(breaker.trip(), &Trip::Consecutive(5));
    assert_eq!(
        breaker.open_time(),
        OpenTime::Constant(Duration::from_secs(30))
    );
    assert_eq!(
        (breaker.half_open_permits(), breaker.successes_to_close()),
        (1, 1)
    );
}

#[tokio::test]
async fn a_tree_without_settings_has_its_default_pool_and_breakers() {
    let tree = Tree::builder("t").start().await.unwrap();
    let pools = tree.pools();
    assert_eq!(pools.len(), 1);
    assert_eq!(
        (&*pools[0].0, pools[0].1.size, pools[0].1.max_overflow),
        ("database", 2, 2)
    );
    let names: Vec<_> = tree
        .breakers()
        .iter()
        .map(|it| it.name().to_owned())
        .collect();
    assert_eq!(names, ["config_server", "database"]);
    shut_down(&tree).await;
}

#[tokio::test]
async fn the_file_goes_before_the_code() {
    let file = parse(
        "
        [pools.database]
        size = 3
        strategy = 'fifo'
        [breakers.geocoder]
        trip = { consecutive = 1 }
        [quotas.billing]
        limit = 1
        period = \"1h\"
        ",
    );
    let in_code = BreakerConfig::builder()
        .trip(Trip::Consecutive(9))
        .build()
        .unwrap();
    let tree = Tree::builder("t")
        .settings(file)
        .pool(
            DATABASE,
            DatabaseWorker::in_memory("t"),
            PoolConfig::new(7).max_overflow(7),
        )
        .breaker("geocoder", in_code.clone())
        .breaker("other", in_code.clone())
        .child(puppet("billing"))
        .quota(&BILLING, Quota::per_second(1_000))
        .start()
        .await
        .unwrap();
    let pool = tree.pool(DATABASE).unwrap();
    assert_eq!(
        pool.config(),
        &PoolConfig::new(3).strategy(PoolStrategy::Fifo)
    );
    assert_eq!(pool.status().size, 3);
    let breaker = |name| tree.breaker(name).unwrap().config();
    assert_eq!(breaker("geocoder").trip(), &Trip::Consecutive(1));
    assert_eq!(breaker("other"), in_code);
    tree.cast(BILLING, Order::Store(1)).unwrap();
    tree.cast(BILLING, Order::Store(2)).unwrap_err();
    shut_down(&tree).await;
}

#[tokio::test]
async fn a_pool_that_only_the_file_knows_is_an_error() {
    let file = parse("[pools.databse]\nsize = 3\n");
    let orders = DatabaseWorker::in_memory("orders");
    let builder = Tree::builder("t")
        .settings(file)
        .pool(ORDERS, orders, PoolConfig::new(1));
    let error = builder.start().await.unwrap_err();
    assert!(
        matches!(&error, StartTreeError::UnknownPool { name, .. } if name == "databse"),
        "{error:?}"
    );
    assert_eq!(
        error.to_string(),
        "pools.databse: the host has no pool of this name, it has database, orders"
    );
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct Shop {
    currency: String,
    limits: Limits,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct Limits {
    items: u32,
}

#[test]
fn the_section_of_the_host_is_the_hosts() {
    let text =
        "[supervision]\nmax_restarts = 3\n[host]\ncurrency = 'EUR'\n[host.limits]\nitems = 5\n";
    let settings: Settings<Shop> = Settings::parse("shop.toml", text).unwrap();
    let (settings, shop) = settings.split();
    assert_eq!(settings.supervision.max_restarts, 3);
    let limits = Limits { items: 5 };
    assert_eq!(
        shop,
        Shop {
            currency: "EUR".to_owned(),
            limits
        }
    );

    // Its errors are found like all others, with those of the tree.
    let text = "[host]\ncurency = 'EUR'\n[host.limits]\nitems = -1\n[health]\ntimeuot = 1\n";
    let errors = Settings::<Shop>::parse("shop.toml", text).unwrap_err();
    let places: Vec<_> = errors.iter().map(|it| (it.line(), it.key())).collect();
    assert_eq!(
        places,
        [
            (2, "host.curency"),
            (4, "host.limits.items"),
            (6, "health.timeuot")
        ]
    );
    assert!(
        errors
            .to_string()
            .starts_with("shop.toml:2:1: host.curency: "),
        "{errors}"
    );
}

#[test]
fn a_field_that_the_section_of_the_host_lacks_is_named() {
    #[derive(Debug, Default, Deserialize)]
    struct Bank {
        _limits: Depot,
    }
    #[derive(Debug, Default, Deserialize)]
    struct Depot {
        _vaults: u32,
    }
    for (text, said) in [
        ("[host]\n", "t.toml:1:1: host: missing field `_limits`"),
        (
            "[host._limits]\n",
            "t.toml:1:1: host._limits: missing field `_vaults`",
        ),
        // Without the section nothing is missing.
        ("", ""),
    ] {
        let parsed = Settings::<Bank>::parse("t.toml", text);
        let errors = parsed.map_or_else(|errors| errors.to_string(), |_| String::new());
        assert_eq!(errors, said);
    }
}

#[test]
fn a_host_without_settings_refuses_a_section() {
    let errors = Settings::<NoHost>::parse("t.toml", "[host]\nx = 1\n").unwrap_err();
    assert_eq!(errors.iter().next().unwrap().key(), "host.x");
}

#[test]
fn every_section_refuses_a_key_that_it_does_not_know() {
    for section in [
        "database",
        "supervision",
        "pools.p",
        "breakers.b",
        "quotas.q",
        "rate_gate",
        "config",
        "config.update_quota",
        "memory",
        "performance",
        "health",
    ] {
        let needed = match section {
            "pools.p" => "size = 1\n",
            "quotas.q" | "config.update_quota" => "limit = 1\nperiod = \"1ms\"\n",
            _ => "",
        };
        let text = format!("# first line\n[{section}]\n{needed}no_such_key = 1\n");
        let errors = Settings::<NoHost>::parse("t.toml", &text).unwrap_err();
        let error = errors.iter().next().unwrap();
        assert!(
            error.to_string().contains("no_such_key"),
            "{section}: {error}"
        );
        let line = 3 + needed.lines().count();
        assert_eq!(
            (error.key(), error.line()),
            (&*format!("{section}.no_such_key"), line),
            "{errors}"
        );
    }
    let errors = Settings::<NoHost>::parse("t.toml", "[no_such_section]\n").unwrap_err();
    assert_eq!(errors.iter().next().unwrap().key(), "no_such_section");
}

#[tokio::test]
async fn a_quota_in_the_file_stands_before_casts_and_calls_by_name() {
    let file = parse(
        "[quotas.billing]\nlimit = 2\nperiod = \"1h\"\n[quotas.closed]\nlimit = 0\nperiod = \"1ms\"\n",
    );
    let tree = Tree::builder("t")
        .settings(file)
        .child(puppet("billing"))
        .child(puppet("closed"))
        .child(puppet("open"))
        .start()
        .await
        .unwrap();
    tree.cast(BILLING, Order::Store(1)).unwrap();
    echoes(&tree, &BILLING).await;
    let refused = tree.cast(BILLING, Order::Store(3)).unwrap_err();
    assert!(matches!(refused.message, Order::Store(3)));
    let wait = refused.refusal.retry_after().unwrap();
    let (least, most) = (Duration::from_secs(1700), Duration::from_secs(1800));
    assert!(least < wait && wait <= most, "{wait:?}");
    let refused = tree.call(BILLING, Order::Load, DEADLINE).await.unwrap_err();
    let Some(Refusal::RateLimited { name, retry_after }) = refused.refusal() else {
        panic!("{refused:?}");
    };
    assert_eq!(name.to_string(), "billing");
    assert!(
        Some(least) < *retry_after && *retry_after <= Some(most),
        "{retry_after:?}"
    );
    // An address is a name: it goes through the same gate.
    let address = tree.resolve(&BILLING).unwrap();
    assert!(address.cast(Order::Store(4)).is_err());
    let never = tree.cast(Name::new("closed"), Order::Store(1)).unwrap_err();
    assert!(
        matches!(
            never.refusal,
            Refusal::RateLimited {
                retry_after: None,
                ..
            }
        ),
        "{never:?}"
    );
    assert!(!never.refusal.is_retryable());
    for _ in 0..100 {
        tree.cast(Name::new("open"), Order::Store(1)).unwrap();
    }
    shut_down(&tree).await;
}

#[tokio::test]
async fn reg_22_a_quota_that_is_set_while_the_tree_runs_keeps_what_was_spent() {
    let tree = Tree::builder("t")
        .child(puppet("billing"))
        .quota(&BILLING, Quota::per_hour(2));
    let tree = tree.start().await.unwrap();
    let admitted = || {
        let casts = (0..10).map(|_| tree.cast(BILLING, Order::Store(1)));
        casts.filter(Result::is_ok).count()
    };
    let address = tree.resolve(&BILLING).unwrap();
    assert_eq!(admitted(), 2);
    tree.set_quota(&BILLING, Quota::per_hour(5)).unwrap();
    assert_eq!(admitted(), 3);
    tree.set_quota(&BILLING, Quota::per_hour(1)).unwrap();
    assert_eq!(admitted(), 0);
    // One who held the address before goes through the new one too.
    tree.set_quota(&BILLING, Quota::per_hour(6)).unwrap();
    address.cast(Order::Store(1)).unwrap();
    address.cast(Order::Store(1)).unwrap_err();
    shut_down(&tree).await;
}

#[tokio::test]
async fn reg_22_a_name_of_another_tree_is_given_no_quota() {
    let theirs: Name<Order> = Name::in_namespace("other", "host", "billing");
    let ours: Name<Order> = Name::in_namespace("t", "host", "billing");
    let refused = Tree::builder("t")
        .quota(&theirs, Quota::per_hour(0))
        .start();
    assert_eq!(
        refused.await.unwrap_err().to_string(),
        "`billing`: a quota for a name of other, which is another tree"
    );
    let tree = Tree::builder("t")
        .child(puppet("billing"))
        .start()
        .await
        .unwrap();
    let refused = tree.set_quota(&theirs, Quota::per_hour(0)).unwrap_err();
    assert!(matches!(refused.0, Refusal::OtherTree { .. }), "{refused}");
    tree.cast(BILLING, Order::Store(1)).unwrap();
    tree.set_quota(&ours, Quota::per_hour(0)).unwrap();
    tree.cast(BILLING, Order::Store(1)).unwrap_err();
    shut_down(&tree).await;
}

#[tokio::test]
async fn reg_22_each_key_has_the_quota_of_a_name_for_itself() {
    let tree = Tree::builder("t")
        .child(puppet("billing"))
        .quota(&BILLING, Quota::per_hour(2))
        .start()
        .await
        .unwrap();
    let address = tree.resolve(&BILLING).unwrap();
    for user in 0..50_u64 {
        tree.cast(BILLING.for_key(&user), Order::Store(1)).unwrap();
        let own = address.clone().for_key(&user);
        own.cast(Order::Store(2)).unwrap();
        // Both ways spend the same quota.
        let refused = tree.cast(BILLING.for_key(&user), Order::Store(3));
        let refusal = refused.unwrap_err().refusal;
        assert!(refusal.retry_after() > Some(Duration::from_secs(1_700)));
        own.cast(Order::Store(3)).unwrap_err();
    }
    // Those without a key have one quota together, which nobody has spent of yet.
    tree.cast(BILLING, Order::Store(1)).unwrap();
    address.cast(Order::Store(2)).unwrap();
    tree.cast(BILLING, Order::Store(3)).unwrap_err();
    shut_down(&tree).await;
}

#[tokio::test]
async fn a_tree_lives_from_a_file() {
    let folder = Folder::new("settings");
    let (file, database) = (folder.file("perennial.toml"), folder.file("shop.db"));
    let text = format!(
        "
        [database]
        path = {database:?}
        [supervision]
        max_restarts = 3
        within = '1m'
        host_strategy = 'rest_for_one'
        shutdown_deadline = '5s'
        [pools.database]
        size = 1
        wait_timeout = \"250ms\"
        [breakers.geocoder]
        trip.failure_rate = {{ ratio = 0.5, window.calls = 10, min_calls = 5 }}
        open_time = {{ first = '1s', factor = 2.0, cap = '1m' }}
        half_open_permits = 2
        successes_to_close = 2
        [quotas.billing]
        limit = 100
        period = \"1s\"
        [rate_gate]
        max_keys = 1000
        when_full = 'refuse'
        [config]
        update_quota = {{ limit = 5, period = \"1m\" }}
        update_deadline = '2s'
        [memory]
        warning = 0.8
        check_every = '10s'
        [performance]
        max_services = 64
        [health]
        timeout = '500ms'
        [host]
        anything = [1, 2]
        "
    );
    std::fs::write(&file, text).unwrap();
    let tree = Tree::builder("t")
        .config_file(&file)
        .unwrap()
        .child(puppet("billing"))
        .start()
        .await
        .unwrap();
    echoes(&tree, &BILLING).await;
    assert!(database.exists());
    assert_eq!(
        tree.pool(DATABASE).unwrap().config().timeout(),
        Duration::from_millis(250)
    );
    assert_eq!(
        tree.breaker("geocoder")
            .unwrap()
            .config()
            .half_open_permits(),
        2
    );
    assert_eq!(tree.memory().config().warning(), 0.8);
    assert_eq!(tree.performance().config().max_services(), 64);
    shut_down(&tree).await;

    let missing = Tree::builder("t")
        .config_file(folder.file("no.toml"))
        .unwrap_err();
    assert!(missing.to_string().contains("no.toml"), "{missing}");
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_is_named() {
    let folder = Folder::new("unwritable");
    let mut settings = Settings::default();
    settings.database.path = Some(folder.file("no/such/folder/tree.db"));
    let error = Tree::builder("t")
        .settings(settings)
        .start()
        .await
        .unwrap_err();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    assert!(text.contains("no/such/folder/tree.db"), "{text}");
}
