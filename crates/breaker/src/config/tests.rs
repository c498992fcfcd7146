use super::*;

fn read(text: &str) -> Result<BreakerConfig, String> {
    toml::from_str(text).map_err(|error: toml::de::Error| error.to_string())
}

#[test]
fn an_empty_table_is_the_default() {
    let config = read("").unwrap();
    assert_eq!(config, BreakerConfig::default());
    assert_eq!(config, BreakerConfig::builder().build().unwrap());
    assert_eq!(*config.trip(), Trip::Consecutive(5));
    assert_eq!(
        config.open_time(),
        OpenTime::Constant(Duration::from_secs(30))
    );
    assert_eq!(
        (config.half_open_permits(), config.successes_to_close()),
        (1, 1)
    );
}

#[test]
fn a_duration_is_a_constant_open_time() {
    let config = BreakerConfig::builder().open_time(Duration::from_secs(7));
    let open_time = config.build().unwrap().open_time();
    assert_eq!(open_time, OpenTime::Constant(Duration::from_secs(7)));
}

#[test]
fn some_keys_leave_the_others_at_their_defaults_in_any_order() {
    let config = read("half_open_permits = 2\ntrip = { consecutive = 7 }").unwrap();
    assert_eq!(*config.trip(), Trip::Consecutive(7));
    assert_eq!(config.open_time(), BreakerConfig::default().open_time());
}

#[test]
fn every_setting_out_of_range_is_refused_by_its_name() {
    for (text, field) in [
        ("trip.consecutive = 0", "trip.consecutive"),
        (
            "trip.failure_rate = { ratio = 0.0, window.calls = 9, min_calls = 1 }",
            "trip.failure_rate.ratio",
        ),
        (
            "trip.failure_rate = { ratio = 1.5, window.calls = 9, min_calls = 1 }",
            "trip.failure_rate.ratio",
        ),
        (
            "trip.failure_rate = { ratio = nan, window.calls = 9, min_calls = 1 }",
            "trip.failure_rate.ratio",
        ),
        (
            "trip.failure_rate = { ratio = 0.5, window.calls = 0, min_calls = 1 }",
            "trip.failure_rate.window.calls",
        ),
        (
            "trip.failure_rate = { ratio = 0.5, window.calls = 9, min_calls = 0 }",
            "trip.failure_rate.min_calls",
        ),
        (
            "trip.failure_rate = { ratio = 0.5, window.calls = 9, min_calls = 10 }",
            "trip.failure_rate.min_calls",
        ),
        (
            "trip.failure_rate = { ratio = 0.5, window.time = '0s', min_calls = 1 }",
            "trip.failure_rate.window.time",
        ),
        (
            "trip.failures = { count = 0, within = '1s' }",
            "trip.failures.count",
        ),
        (
            "trip.failures = { count = 1000001, within = '1s' }",
            "trip.failures.count",
        ),
        (
            "trip.failures = { count = 1, within = '0s' }",
            "trip.failures.within",
        ),
        (
            "trip.slow_rate = { slower_than = '0s', ratio = 0.5, window.calls = 9, min_calls = 1 }",
            "trip.slow_rate.slower_than",
        ),
        (
            "trip.slow_rate = { slower_than = '1s', ratio = 2.0, window.calls = 9, min_calls = 1 }",
            "trip.slow_rate.ratio",
        ),
        ("trip.any_of = []", "trip.any_of"),
        (
            "trip.any_of = [{ consecutive = 1 }, { consecutive = 0 }]",
            "trip.any_of[1].consecutive",
        ),
        (
            "trip.any_of = [{ any_of = [{ consecutive = 1 }] }]",
            "trip.any_of[0]",
        ),
        ("open_time_jitter = 1.5", "open_time_jitter"),
        ("open_time_jitter = nan", "open_time_jitter"),
        ("injected_refusals = -0.1", "injected_refusals"),
        (
            "after_open = 'closed'\nopen_time = { first = '1s', factor = 2.0, cap = '3s' }",
            "after_open",
        ),
        ("open_time = '0s'", "open_time"),
        ("open_time = '366d'", "open_time"),
        (
            "open_time = { first = '1s', factor = 0.5, cap = '2s' }",
            "open_time.factor",
        ),
        (
            "open_time = { first = '1s', factor = inf, cap = '2s' }",
            "open_time.factor",
        ),
        (
            "open_time = { first = '2s', factor = 2.0, cap = '1s' }",
            "open_time.cap",
        ),
        (
            "after_open = 'closed'\nhalf_open_permits = 2",
            "half_open_permits",
        ),
        (
            "after_open = 'closed'\nsuccesses_to_close = 2",
            "successes_to_close",
        ),
        ("half_open_permits = 0", "half_open_permits"),
        ("successes_to_close = 0", "successes_to_close"),
    ] {
        let error = read(text).unwrap_err();
        assert!(
            error.contains(&format!("`{field}` must be")),
            "{text}: {error}"
        );
    }
}

#[test]
fn unknown_keys_are_refused_at_every_level() {
    for (text, key) in [
        ("half_open_permit = 1", "half_open_permit"),
        ("trip = { consecutively = 1 }", "consecutively"),
        (
            "trip.failure_rate = { ratio = 0.5, window.calls = 9, min_calls = 1, slow = 2 }",
            "slow",
        ),
        (
            "trip.failure_rate = { ratio = 0.5, window.hits = 9, min_calls = 1 }",
            "hits",
        ),
        (
            "open_time = { first = '1s', factor = 2.0, cap = '3s', jitter = 0.1 }",
            "jitter",
        ),
        ("trip.failures = { count = 1, within = '1s', of = 2 }", "of"),
        ("trip.any_of = [{ sometimes = 1 }]", "sometimes"),
        ("after_open = 'ajar'", "ajar"),
    ] {
        let error = read(text).unwrap_err();
        assert!(
            error.contains("unknown") || error.contains("unexpected"),
            "{text}: {error}"
        );
        assert!(
            error.lines().last().is_some_and(|line| line.contains(key)),
            "{text}: {error}"
        );
    }
}

#[test]
fn durations_read_as_people_write_them() {
    for (text, millis) in [
        ("'250ms'", 250),
        ("'30s'", 30_000),
        ("'1m30s'", 90_000),
        ("'1h 1ms'", 3_600_001),
    ] {
        let config = read(&format!("open_time = {text}")).unwrap();
        assert_eq!(
            config.open_time(),
            OpenTime::Constant(Duration::from_millis(millis)),
            "{text}"
        );
    }
    for text in [
        "''",
        "'30'",
        "'s'",
        "'-1s'",
        "'1 fortnight'",
        "-1",
        "true",
        "'99999999999999999999s'",
    ] {
        let error = read(&format!("open_time = {text}")).unwrap_err();
        assert!(
            error.contains("expected a duration such as"),
            "{text}: {error}"
        );
    }
}

#[test]
fn what_is_written_reads_back_the_same() {
    for config in [
        BreakerConfig::default(),
        BreakerConfig::builder()
            .trip(Trip::FailureRate {
                ratio: 0.25,
                window: Window::Time(Duration::from_nanos(61_000_000_007)),
                min_calls: 3,
            })
            .open_time(OpenTime::Growing {
                first: Duration::from_millis(1_500),
                factor: 1.5,
                cap: Duration::from_secs(86_400),
            })
            .open_time_jitter(0.125)
            .seed(7)
            .build()
            .unwrap(),
        BreakerConfig::builder()
            .trip(Trip::AnyOf(vec![
                Trip::Never,
                Trip::Consecutive(2),
                Trip::Failures {
                    count: 3,
                    within: Duration::from_secs(60),
                },
                Trip::SlowRate {
                    slower_than: Duration::from_millis(250),
                    ratio: 0.5,
                    window: Window::Calls(10),
                    min_calls: 5,
                },
            ]))
            .after_open(AfterOpen::Closed)
            .injected_refusals(0.5)
            .build()
            .unwrap(),
    ] {
        assert_eq!(read(&toml::to_string(&config).unwrap()).unwrap(), config);
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(
            serde_json::from_str::<BreakerConfig>(&json).unwrap(),
            config
        );
    }
}

#[test]
fn conditions_read_as_people_write_them() {
    let slow = Trip::SlowRate {
        slower_than: Duration::from_secs(2),
        ratio: 0.5,
        window: Window::Time(Duration::from_secs(30)),
        min_calls: 20,
    };
    for (text, trip) in [
        ("trip = 'never'", Trip::Never),
        (
            "trip.failures = { count = 5, within = '10s' }",
            Trip::Failures {
                count: 5,
                within: Duration::from_secs(10),
            },
        ),
        (
            "trip.slow_rate = { slower_than = '2s', ratio = 0.5, window.time = '30s', min_calls = 20 }",
            slow.clone(),
        ),
        (
            "[[trip.any_of]]\nconsecutive = 5\n\n[[trip.any_of]]\nslow_rate = { slower_than = '2s', ratio = 0.5, window.time = '30s', min_calls = 20 }",
            Trip::AnyOf(vec![Trip::Consecutive(5), slow]),
        ),
    ] {
        assert_eq!(*read(text).unwrap().trip(), trip, "{text}");
    }
}

#[test]
fn growing_open_time_multiplies_up_to_its_cap() {
    let time = OpenTime::Growing {
        first: Duration::from_secs(1),
        factor: 3.0,
        cap: Duration::from_secs(20),
    };
    let seconds: Vec<_> = (1..=5)
        .map(|nth| time.after_opening(nth).as_secs())
        .collect();
    assert_eq!(seconds, [1, 3, 9, 20, 20]);
    assert_eq!(time.after_opening(u32::MAX).as_secs(), 20);
    assert_eq!(
        OpenTime::Constant(Duration::from_secs(2))
            .after_opening(9)
            .as_secs(),
        2
    );
}
