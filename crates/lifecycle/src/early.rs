mod standby;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use self::standby::SecondLook;

/// Waits for what comes at once, and returns `None` for what takes longer: after some milliseconds, or where the runtime
/// has one thread, when that has come round to the task once more.
///
/// Most answers are there by then, and whoever gives one needs no timer and nobody who stands by for its end, which
/// cost more than all the rest. `limit` is for how long it matters at most what comes: where that is short, the task comes
/// to its end when its thread has come round, so that what is waited for after it is not begun late.
///
/// # Panics
///
/// On a runtime with several threads that has no timers.
///
/// # Cancel safety
///
/// As cancel safe as what is polled.
pub fn early<T, F>(limit: Duration, poll: F) -> Early<F>
where
    F: FnMut(&mut Context<'_>) -> Poll<T> + Unpin,
{
    Early {
        poll,
        urgent: limit < standby::URGENT,
        second: None,
    }
}

/// What [`early`] returns.
///
/// By hand, so that it is polled in place: an `async fn` copies what it is given, and each wait within another one what
/// was just written.
#[must_use = "futures do nothing unless polled"]
pub struct Early<F> {
    poll: F,
    urgent: bool,
    second: Option<SecondLook>,
}

impl<F> fmt::Debug for Early<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Early").finish_non_exhaustive()
    }
}

impl<T, F> Future for Early<F>
where
    F: FnMut(&mut Context<'_>) -> Poll<T> + Unpin,
{
    type Output = Option<T>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        let woken = standby::woken();
        match (self.poll)(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.second.is_some_and(SecondLook::is_now) => Poll::Ready(None),
            Poll::Pending => {
                // Anew at each poll: whoever polls it may have been another before.
                self.second = Some(standby::look_again(context, self.urgent, woken));
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::sync::mpsc::{self, Receiver, Sender};
    use std::task::{Wake, Waker};

    use tokio::runtime::Builder;
    use tokio::sync::{mpsc as channel, oneshot};
    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn it_gives_what_comes_by_the_second_look_and_no_more() {
        let mut looks = 0;
        let late = early(FAR, |_| {
            looks += 1;
            Poll::<()>::Pending
        });
        assert_eq!((late.await, looks), (None, 2));

        let (sender, mut answer) = oneshot::channel();
        tokio::spawn(async move { sender.send(7) });
        let answered = early(FAR, |context| Pin::new(&mut answer).poll(context));
        assert_eq!(answered.await, Some(Ok(7)));
    }

    /// Longer than anything takes.
    const FAR: Duration = Duration::from_secs(20);

    /// Does something at its first look, and tells of its second.
    async fn look_twice(first: impl FnOnce(), second: Sender<()>) {
        let mut first = Some(first);
        let seen = early(FAR, |_| {
            match first.take() {
                Some(first) => first(),
                None => second.send(()).unwrap(),
            }
            Poll::<()>::Pending
        });
        assert_eq!(seen.await, None);
    }

    /// Keeps its thread until both have looked twice.
    async fn hold_up(looked: Receiver<()>, tell: oneshot::Sender<bool>) {
        let both = (0..2).all(|_| looked.recv_timeout(FAR).is_ok());
        tell.send(both).unwrap();
    }

    /// Counts how often it was woken.
    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[tokio::test]
    async fn waits_within_each_other_wake_their_task_once_and_others_too() {
        let (task, other) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        let (waker, others) = (
            Waker::from(Arc::clone(&task)),
            Waker::from(Arc::clone(&other)),
        );
        let mut context = Context::from_waker(&waker);
        let nothing = |_: &mut Context<'_>| Poll::<()>::Pending;
        let (mut inner, mut elsewhere) = (early(FAR, nothing), early(FAR, nothing));
        let mut outer = early(FAR, |context| {
            let polled = Pin::new(&mut inner).poll(context);
            assert!(Pin::new(&mut elsewhere).poll(&mut Context::from_waker(&others)) == polled);
            polled.map(drop)
        });
        let wakes = || (task.0.load(SeqCst), other.0.load(SeqCst));
        assert_eq!(Pin::new(&mut outer).poll(&mut context), Poll::Pending);
        assert_eq!(wakes(), (2, 1), "the last one to be woken was another");
        let mut outer = early(FAR, |context| {
            Pin::new(&mut early(FAR, nothing)).poll(context).map(drop)
        });
        assert_eq!(Pin::new(&mut outer).poll(&mut context), Poll::Pending);
        assert_eq!(wakes(), (3, 1));
        // A wait of its own.
        assert_eq!(
            Pin::new(&mut early(FAR, nothing)).poll(&mut context),
            Poll::Pending
        );
        assert_eq!(wakes(), (4, 1));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_second_look_comes_also_where_the_thread_is_held_up() {
        let (look, looked) = mpsc::channel();
        let (tell, told) = oneshot::channel();
        let second = look.clone();
        // Whatever is spawned by a thread comes next there, and nobody else can have it.
        tokio::spawn(look_twice(
            || {
                tokio::spawn(look_twice(
                    || drop(tokio::spawn(hold_up(looked, tell))),
                    second,
                ));
            },
            look,
        ));
        assert_eq!(told.await, Ok(true));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_comes_in_parts_may_still_come_early() {
        let all = async || {
            let (sender, mut parts) = channel::channel(1);
            tokio::spawn(async move {
                for part in 0..3 {
                    sender.send(part).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            let mut seen = 0;
            let all = early(FAR, |context| {
                while parts.poll_recv(context).map(|it| it.is_some()) == Poll::Ready(true) {
                    seen += 1;
                }
                match seen {
                    3 => Poll::Ready(()),
                    _ => Poll::Pending,
                }
            });
            all.await.is_some()
        };
        // A timer may end at any time.
        for _ in 0..1_000 {
            if tokio::spawn(all()).await.unwrap() {
                return;
            }
        }
        panic!("never");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn many_are_looked_at_again() {
        let mut tasks = JoinSet::new();
        for _ in 0..1_000 {
            tasks.spawn(early(FAR, |_| Poll::<()>::Pending));
        }
        assert!(tasks.join_all().await.into_iter().all(|it| it.is_none()));
    }

    #[test]
    fn what_soon_matters_no_more_is_not_put_off() {
        // Without timers nothing can be.
        let runtime = Builder::new_multi_thread().worker_threads(1).build();
        let late = early(Duration::from_millis(1), |_| Poll::<()>::Pending);
        let late = runtime
            .unwrap()
            .block_on(async { tokio::spawn(late).await });
        assert_eq!(late.unwrap(), None);
    }
}
