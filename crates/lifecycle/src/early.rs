mod standby;

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use self::standby::SecondLook;

/// Waits for what comes at once, and returns `None` for what takes longer: it is polled, and once more when the thread
/// has nothing else to do, or has done much else.
///
/// Most answers are there by then, and whoever gives one needs no timer and nobody who stands by for its end, which
/// cost more than all the rest. The second poll comes by itself, so that what is waited for after it is not begun late:
/// within some milliseconds also where the thread does not come to it, for a task that another thread can poll.
///
/// # Panics
///
/// On a runtime with several threads that has no timers.
///
/// # Cancel safety
///
/// As cancel safe as what is polled.
pub fn early<T, F>(poll: F) -> Early<F>
where
    F: FnMut(&mut Context<'_>) -> Poll<T> + Unpin,
{
    Early { poll, second: None }
}

/// What [`early`] returns.
///
/// By hand, so that it is polled in place: an `async fn` copies what it is given, and each wait within another one what
/// was just written.
#[must_use = "futures do nothing unless polled"]
pub struct Early<F> {
    poll: F,
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
        match (self.poll)(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.second.is_none() => {
                self.second = Some(standby::look_again(context));
                Poll::Pending
            }
            Poll::Pending => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::mpsc::{self, Receiver, Sender};
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn it_gives_what_comes_by_the_second_look_and_no_more() {
        let mut looks = 0;
        let late = early(|_| {
            looks += 1;
            Poll::<()>::Pending
        });
        assert_eq!((late.await, looks), (None, 2));

        let (sender, mut answer) = oneshot::channel();
        tokio::spawn(async move { sender.send(7) });
        let answered = early(|context| Pin::new(&mut answer).poll(context));
        assert_eq!(answered.await, Some(Ok(7)));
    }

    /// Longer than anything takes.
    const FAR: Duration = Duration::from_secs(20);

    /// Does something at its first look, and tells of its second.
    async fn look_twice(first: impl FnOnce(), second: Sender<()>) {
        let mut first = Some(first);
        let seen = early(|_| {
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
}
