use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
};

use tokio::time::advance;

use super::*;
use crate::{KeyedLimiter, Quota, RateGate};

fn limiter(quota: Quota) -> KeyedLimiter<String> {
    KeyedLimiter::new(quota)
}

#[tokio::test(start_paused = true)]
async fn who_waits_goes_on_when_the_next_cell_is_back() {
    let limiter = limiter(Quota::per_second(2));
    let begin = Instant::now();
    let mut left = Vec::new();
    for _ in 0..5 {
        left.push(limiter.until_ready("ada", Patience::forever()).await);
    }
    assert_eq!(left, [Ok(1), Ok(0), Ok(0), Ok(0), Ok(0)]);
    assert_eq!(begin.elapsed(), Duration::from_millis(1500));
}

/// Asks the limiter where it is woken, or panics.
struct Busy(Option<KeyedLimiter<String>>, AtomicU32);

impl Wake for Busy {
    fn wake(self: Arc<Self>) {
        self.1.fetch_add(1, Relaxed);
        let limiter = self.0.as_ref().expect("there is nobody to ask");
        assert!(!limiter.quota().period().is_zero());
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_may_use_the_limiter_where_he_is_woken_and_may_panic_there() {
    let limiter = limiter(Quota::per_hour(1));
    assert!(limiter.check("ada").is_allowed());
    for asks in [Some(limiter.clone()), None] {
        let busy = Arc::new(Busy(asks, AtomicU32::new(0)));
        let waker = Waker::from(Arc::clone(&busy));
        let mut context = Context::from_waker(&waker);
        let mut waits = pin!(limiter.until_ready("ada", Patience::forever()));
        assert!(waits.as_mut().poll(&mut context).is_pending());
        limiter.set_quota(Quota::per_minute(1));
        assert!(waits.as_mut().poll(&mut context).is_pending());
        assert!(limiter.reset("ada"));
        assert_eq!(waits.as_mut().poll(&mut context), Poll::Ready(Ok(0)));
        assert_eq!(busy.1.load(Relaxed), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_cannot_be_met_is_refused_at_once_and_spends_nothing() {
    let limiter = limiter(Quota::per_second(1));
    assert!(limiter.check("ada").is_allowed());
    let begin = Instant::now();
    let almost = Duration::from_nanos(999_999_999);
    for patience in [
        Patience::within(almost),
        Patience::until(begin + almost),
        Patience::within(Duration::ZERO),
    ] {
        let refused = limiter.until_ready("ada", patience).await;
        let expected = WaitError::TimedOut {
            waited: Duration::ZERO,
            retry_after: Duration::from_secs(1),
        };
        assert_eq!(refused, Err(expected));
    }
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(limiter.status("ada").spent, 1);
    let just = Patience::within(Duration::from_secs(1));
    assert_eq!(limiter.until_ready("ada", just).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn who_comes_too_late_again_and_again_gives_up_at_the_deadline() {
    let limiter = limiter(Quota::per_second(1));
    assert!(limiter.check("ada").is_allowed());
    let greedy = limiter.clone();
    // Whoever asks right when a cell is back, but earlier, has it.
    let patience = Patience::within(Duration::from_millis(2500));
    let mut begin = None;
    let unchanged = Notify::new();
    let waited = until(patience, &unchanged, || {
        begin.get_or_insert_with(Instant::now);
        let _taken = greedy.check("ada");
        limiter.check("ada")
    });
    let error = waited.await.unwrap_err();
    assert_eq!(
        error,
        WaitError::TimedOut {
            waited: Duration::from_secs(2),
            retry_after: Duration::from_secs(1),
        }
    );
    assert!(error.is_retryable());
}

#[tokio::test(start_paused = true)]
async fn jitter_comes_later_and_not_after_the_deadline() {
    let (second, most) = (Duration::from_secs(1), Duration::from_millis(300));
    let mut waits = Vec::new();
    for _ in 0..50 {
        let limiter = limiter(Quota::per_second(1));
        assert!(limiter.check("ada").is_allowed());
        let begin = Instant::now();
        let patience = Patience::within(second + most / 2).jitter(most);
        assert!(limiter.until_ready("ada", patience).await.is_ok());
        waits.push(begin.elapsed());
    }
    // Tokio's timers count in milliseconds.
    let tick = Duration::from_millis(1);
    let allowed = second..=second + most / 2 + tick;
    assert!(waits.iter().all(|wait| allowed.contains(wait)), "{waits:?}");
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 5, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn what_never_can_be_is_told_at_once() {
    let limiter = limiter(Quota::per_second(5));
    let never = limiter.until_n_ready("ada", 6, Patience::forever()).await;
    assert_eq!(never, Err(WaitError::Never));
    assert!(!WaitError::Never.is_retryable());
    let five = limiter.until_n_ready("ada", 5, Patience::forever()).await;
    assert_eq!(five, Ok(0));
    limiter.set_quota(Quota::per_second(0));
    let closed = limiter.until_ready("ada", Patience::forever()).await;
    assert_eq!(closed, Err(WaitError::Never));
}

#[tokio::test(start_paused = true)]
async fn who_waits_asks_again_at_once_when_the_quota_changes() {
    let begin = Instant::now();
    for (quota, answer) in [
        (Quota::per_minute(60).burst(2), Ok(0)),
        (Quota::per_minute(0), Err(WaitError::Never)),
    ] {
        let limiter = limiter(Quota::per_minute(1));
        assert!(limiter.check("ada").is_allowed());
        let wait = limiter.until_ready("ada", Patience::forever());
        let change = async { limiter.set_quota(quota) };
        assert_eq!(tokio::join!(wait, change), (answer, ()));
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_key_that_is_reset_goes_on_at_once() {
    let begin = Instant::now();
    let limiter = limiter(Quota::per_hour(1));
    assert!(limiter.check("ada").is_allowed());
    let wait = limiter.until_ready("ada", Patience::forever());
    let reset = async { limiter.reset("ada") };
    assert_eq!(tokio::join!(wait, reset), (Ok(0), true));
    let gate = RateGate::new();
    let limiter = gate.limiter("api", Quota::per_hour(1));
    assert!(limiter.check("ada").is_allowed());
    let wait = limiter.until_ready("ada", Patience::forever());
    let reset = async { gate.reset("api", "ada") };
    assert_eq!(tokio::join!(wait, reset), (Ok(0), true));
    assert_eq!(begin.elapsed(), Duration::ZERO);
}

/// Waits for a cell that is a second away, and drops the wait after each number of polls until it gets through. Other
/// cells than the one that it returned are there as if it had never waited.
async fn drop_at_every_poll<L>(
    limiter: L,
    check: impl Fn(&L) -> bool,
    wait: impl AsyncFn(&L) -> Result<u32, WaitError>,
) {
    let second = Duration::from_secs(1);
    for polls in 0_u32.. {
        assert!(polls < 20, "it never gets through");
        advance(10 * second).await;
        assert!(check(&limiter));
        let begin = Instant::now();
        let mut through = false;
        {
            let mut waiting = pin!(wait(&limiter));
            for _ in 0..polls {
                advance(second / 4).await;
                let polled = poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context)));
                if let Poll::Ready(result) = polled.await {
                    assert_eq!(result, Ok(0));
                    through = true;
                    break;
                }
            }
        }
        assert!(!through || polls >= 4, "through after {polls} polls");
        let elapsed = begin.elapsed();
        let is_back = elapsed >= second && !through;
        assert_eq!(
            check(&limiter),
            is_back,
            "{polls} polls, {elapsed:?}, {through}"
        );
        if through {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_dropped_at_any_poll_has_spent_nothing() {
    let each_second = Quota::per_second(1);
    let ever = Patience::forever();
    let bounded = Patience::within(Duration::from_secs(60));
    for patience in [ever, bounded] {
        drop_at_every_poll(
            limiter(each_second),
            |it| it.check("ada").is_allowed(),
            async |it| it.until_ready("ada", patience).await,
        )
        .await;
        drop_at_every_poll(
            limiter(Quota::per_second(4)),
            |it| it.check_n("ada", 4).is_allowed(),
            async |it| it.until_n_ready("ada", 4, patience).await,
        )
        .await;
        let gate = RateGate::new();
        drop_at_every_poll(
            gate.limiter("one", each_second),
            |it| it.check("ada").is_allowed(),
            async |it| it.until_ready("ada", patience).await,
        )
        .await;
        drop_at_every_poll(
            gate.limiter("four", Quota::per_second(4)),
            |it| it.check_n("ada", 4).is_allowed(),
            async |it| it.until_n_ready("ada", 4, patience).await,
        )
        .await;
        #[cfg(feature = "governor")]
        drop_at_every_poll(
            crate::GovernorLimiter::new(&each_second, crate::Clock::system()).unwrap(),
            |it| it.check(&1).is_allowed(),
            async |it| it.until_ready(&1, patience).await,
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn many_who_wait_pass_at_the_rate_and_not_faster() {
    let gate = RateGate::new();
    let limiter = gate.limiter("s", Quota::per_second(10).burst(1));
    let begin = Instant::now();
    let waiters: Vec<_> = (0..30)
        .map(|_| {
            let limiter = limiter.clone();
            tokio::spawn(async move { limiter.until_ready("ada", Patience::forever()).await })
        })
        .collect();
    for waiter in waiters {
        assert!(waiter.await.unwrap().is_ok());
    }
    assert_eq!(begin.elapsed(), Duration::from_millis(2900));
}
