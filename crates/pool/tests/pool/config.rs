use perennial_pool::{Pool, PoolConfig, PoolField, PoolName, Pools};

use crate::support::ProbeWorker;

const PROBES: PoolName<ProbeWorker> = PoolName::new("probes");

#[test]
fn public_types_can_be_sent_and_shown() {
    fn check<T: std::fmt::Debug + Send + Sync>() {}
    check::<Pool<ProbeWorker>>();
    check::<Pools>();
    check::<PoolConfig>();
    check::<PoolName<ProbeWorker>>();
    check::<perennial_pool::PoolView>();
    check::<perennial_pool::Checkout<ProbeWorker>>();
    check::<perennial_pool::CheckoutError>();
    check::<perennial_pool::WorkerError>();
    check::<perennial_pool::WorkerRef<()>>();
    check::<perennial_pool::Holder>();
    check::<perennial_pool::ObjectPool<u8>>();
    check::<perennial_pool::ObjectPoolBuilder<u8>>();
    check::<perennial_pool::Object<u8>>();
    check::<perennial_pool::ObjectPoolStats>();
    check::<perennial_pool::ObjectPoolStatus>();
}

#[test]
fn a_bad_config_makes_no_pool() {
    let config = PoolConfig::new(1).max_lifetime(std::time::Duration::ZERO);
    let error = Pool::new(PROBES, ProbeWorker::default(), config).unwrap_err();
    assert_eq!(
        (&*error.pool, error.field),
        ("probes", PoolField::MaxLifetime)
    );
}

#[test]
fn a_size_that_the_settings_cannot_bear_changes_nothing() {
    let hasty = PoolConfig::new(1).wait_timeout(std::time::Duration::ZERO);
    let pool = Pool::new(PROBES, ProbeWorker::default(), hasty).unwrap();
    let refused = |size, max_overflow| pool.resize(size, max_overflow).unwrap_err().field;
    assert_eq!(refused(1, 1), PoolField::WaitTimeout);
    assert_eq!(refused(usize::MAX, 0), PoolField::Size);
    assert_eq!((pool.status().size, pool.status().max_overflow), (1, 0));
    pool.resize(2, 0).unwrap();
    assert_eq!(pool.status().size, 2);
}

#[test]
fn pools_are_found_by_name_and_kind() {
    let pools = Pools::new();
    let pool = Pool::new(PROBES, ProbeWorker::default(), PoolConfig::new(1)).unwrap();
    pools.insert(pool.clone()).unwrap();
    assert!(pools.insert(pool).is_err());
    assert!(pools.get(PROBES).is_some());
    assert!(pools.get(PoolName::<ProbeWorker>::new("probe")).is_none());
    pools.close();
    assert!(pools.views()[0].is_closed());
}
