//! What stands in for tokio's `Notify` in a model, as far as an intake uses it.

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use loom::sync::{Condvar, Mutex};

use super::lock;

#[derive(Debug, Default)]
pub(crate) struct Notify(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Nobody waited when one was to be woken: the next one goes on at once.
    permit: bool,
    queue: VecDeque<(u64, Option<Waker>)>,
    /// Who has been told and has not looked, and whether it was told alone.
    told: Vec<(u64, bool)>,
    numbers: u64,
}

impl Notify {
    pub(crate) fn notified(&self) -> Notified<'_> {
        Notified {
            notify: self,
            stage: Stage::New,
        }
    }

    pub(crate) fn notify_one(&self) {
        let waker = lock(&self.0).tell_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn notify_waiters(&self) {
        let told: Vec<_> = {
            let mut state = lock(&self.0);
            let told: Vec<_> = state.queue.drain(..).collect();
            state
                .told
                .extend(told.iter().map(|&(number, _)| (number, false)));
            told
        };
        told.into_iter()
            .filter_map(|(_, it)| it)
            .for_each(Waker::wake);
    }
}

impl State {
    fn tell_one(&mut self) -> Option<Waker> {
        let Some((number, waker)) = self.queue.pop_front() else {
            self.permit = true;
            return None;
        };
        self.told.push((number, true));
        waker
    }

    fn take_told(&mut self, number: u64) -> Option<bool> {
        let at = self.told.iter().position(|it| it.0 == number)?;
        Some(self.told.swap_remove(at).1)
    }
}

pub(crate) struct Notified<'a> {
    notify: &'a Notify,
    stage: Stage,
}

#[derive(Clone, Copy)]
enum Stage {
    New,
    Queued(u64),
    Done,
}

impl Notified<'_> {
    pub(crate) fn enable(mut self: Pin<&mut Self>) -> bool {
        if !matches!(self.stage, Stage::New) {
            return false;
        }
        let mut state = lock(&self.notify.0);
        let stage = if std::mem::take(&mut state.permit) {
            Stage::Done
        } else {
            state.numbers += 1;
            let number = state.numbers;
            state.queue.push_back((number, None));
            Stage::Queued(number)
        };
        drop(state);
        self.stage = stage;
        matches!(stage, Stage::Done)
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.as_mut().enable();
        let Stage::Queued(number) = self.stage else {
            return Poll::Ready(());
        };
        let mut state = lock(&self.notify.0);
        if state.take_told(number).is_none() {
            let mut queue = state.queue.iter_mut();
            let place = queue.find(|it| it.0 == number);
            place.expect("queued, or told").1 = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        self.stage = Stage::Done;
        Poll::Ready(())
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let Stage::Queued(number) = self.stage else {
            return;
        };
        let mut state = lock(&self.notify.0);
        state.queue.retain(|it| it.0 != number);
        // It was told and goes without having looked: then it is the next one's turn.
        let next = match state.take_told(number) {
            Some(true) => state.tell_one(),
            _ => None,
        };
        drop(state);
        if let Some(next) = next {
            next.wake();
        }
    }
}

/// Runs a future on this thread of a model.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let alarm = Arc::new(Alarm::default());
    let waker = Waker::from(Arc::clone(&alarm));
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return value;
        }
        let mut rung = lock(&alarm.rung);
        while !*rung {
            rung = alarm.bell.wait(rung).expect("nobody panics with it");
        }
        *rung = false;
    }
}

#[derive(Default)]
struct Alarm {
    rung: Mutex<bool>,
    bell: Condvar,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        *lock(&self.rung) = true;
        self.bell.notify_one();
    }
}
