use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use perennial_lifecycle::Moment;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const FOREVER: Wait = Wait {
    since: Moment::NEVER,
    deadline: Moment::NEVER,
};

/// Gives back a worker that is in order; who waits is called.
fn endings<D, H, W>(effects: Vec<Effect<D, H, W>>) -> impl Iterator<Item = Ending<D>> {
    effects.into_iter().filter_map(|effect| match effect {
        Effect::End(ending) => Some(ending),
        Effect::LetGo(_) => None,
    })
}

fn give_back(books: &mut Books, loan: (usize, u64), lane: usize, now: Moment) {
    let fit = |_: &Run| Condition::Fit;
    books.give_back(loan, lane, now, fit, |_| None::<()>, |()| now);
}

/// One run of a worker.
type Run = usize;
/// Who waits is called by its number.
type Books = Machine<Run, (), usize>;

fn config(size: usize, max_overflow: usize, fifo: bool, returned: bool) -> PoolConfig {
    PoolConfig::new(size)
        .max_overflow(max_overflow)
        .strategy(if fifo {
            PoolStrategy::Fifo
        } else {
            PoolStrategy::Lifo
        })
        .dismissal(if returned {
            Dismissal::Returned
        } else {
            Dismissal::Overflow
        })
}

fn pick<T: Copy>(at: &Index, from: impl Iterator<Item = T>) -> Option<T> {
    let all: Vec<T> = from.collect();
    (!all.is_empty()).then(|| all[at.index(all.len())])
}

/// poolboy, as FORMAT-infra.md tells it: everything happens at once.
#[derive(Default)]
struct Poolboy {
    fifo: bool,
    max_overflow: usize,
    overflow: usize,
    idle: VecDeque<Run>,
    /// Who holds what: by borrower.
    out: BTreeMap<usize, Run>,
    waiting: VecDeque<usize>,
    started: usize,
}

impl Poolboy {
    fn start(&mut self) -> Run {
        self.started += 1;
        self.started
    }

    fn checkout(&mut self, borrower: usize) {
        let idle = if self.fifo {
            self.idle.pop_front()
        } else {
            self.idle.pop_back()
        };
        if let Some(run) = idle {
            self.out.insert(borrower, run);
        } else if self.overflow < self.max_overflow {
            self.overflow += 1;
            let run = self.start();
            self.out.insert(borrower, run);
        } else {
            self.waiting.push_back(borrower);
        }
    }

    fn free(&mut self, run: Run) {
        if let Some(first) = self.waiting.pop_front() {
            self.out.insert(first, run);
        } else if self.overflow > 0 {
            self.overflow -= 1;
        } else {
            self.idle.push_back(run);
        }
    }

    fn dies(&mut self, run: Run) {
        if let Some(position) = self.idle.iter().position(|it| *it == run) {
            self.idle.remove(position);
            let run = self.start();
            self.idle.push_back(run);
            return;
        }
        self.out.retain(|_, it| *it != run);
        if let Some(first) = self.waiting.pop_front() {
            let run = self.start();
            self.out.insert(first, run);
        } else if self.overflow > 0 {
            self.overflow -= 1;
        } else {
            let run = self.start();
            self.idle.push_back(run);
        }
    }
}

/// The machine, with an outside that does everything at once.
struct Prompt {
    books: Books,
    started: usize,
    now: Moment,
    /// By borrower: place, loan, run.
    out: BTreeMap<usize, (usize, u64, Run)>,
    /// Borrowers by ticket.
    tickets: BTreeMap<u64, usize>,
    /// Who waits can be lent something without looking for it.
    is_direct: bool,
}

impl Prompt {
    fn new(config: &PoolConfig, is_direct: bool) -> Self {
        let mut it = Self {
            is_direct,
            books: Machine::new(config),
            started: 0,
            now: Moment::default(),
            out: BTreeMap::new(),
            tickets: BTreeMap::new(),
        };
        it.settle();
        it
    }

    fn run(&mut self) -> Run {
        self.started += 1;
        self.started
    }

    fn bring_up(&mut self, place: usize, life: u64) {
        assert!(self.books.begin(place, life));
        let run = self.run();
        assert!(self.books.up(place, life, run, None, self.now));
    }

    /// Does what the machine has asked for, until it asks for nothing.
    fn settle(&mut self) {
        loop {
            self.books.pump();
            let wanted = self.books.want();
            if let Some((place, life)) = wanted {
                self.bring_up(place, life);
            }
            let effects = self.books.effects();
            if wanted.is_none() && effects.is_none() {
                return;
            }
            let effects = effects.unwrap_or_default();
            for ending in endings(effects.rest) {
                assert_eq!(ending.how, How::Dismiss);
                self.books.left(ending.place, ending.life);
            }
            for borrower in effects.calls {
                let mut tickets = self.tickets.iter();
                let Some((&ticket, _)) = tickets.find(|(_, it)| **it == borrower) else {
                    continue;
                };
                let take = self.books.serve(ticket, |_| true, |()| {});
                if self.take(borrower, take) {
                    self.tickets.remove(&ticket);
                } else {
                    let look = self.books.waits_on(ticket, |it| *it = Some(borrower));
                    assert_eq!(look, Look::Waits);
                }
            }
        }
    }

    fn take(&mut self, borrower: usize, take: Take<Run, ()>) -> bool {
        match take {
            Take::Worker(lent) => {
                let held = (lent.place, lent.loan, lent.desk);
                assert!(self.out.insert(borrower, held).is_none());
                true
            }
            Take::Start { place, life } => {
                self.bring_up(place, life);
                let take = self.books.redeem(place, life, (), |_| true);
                self.take(borrower, take)
            }
            Take::Wait(()) => false,
        }
    }

    fn checkout(&mut self, borrower: usize) {
        let take = self.books.take(0, (), |_| true, || true);
        if !self.take(borrower, take) {
            let ticket = self.books.join(None, FOREVER, (), || borrower);
            self.tickets.insert(ticket.unwrap(), borrower);
        }
        self.settle();
    }

    fn checkin(&mut self, borrower: usize) {
        let (place, loan, run) = self.out.remove(&borrower).unwrap();
        let (books, now) = (&mut self.books, self.now);
        let fit = |_: &Run| Condition::Fit;
        // Every other one who waits can be reached.
        let reach = |ticket| (self.is_direct && ticket % 2 == 0).then_some(ticket);
        let (back, _) = books.give_back((place, loan), 0, now, fit, reach, |()| now);
        if let Back::Lent(onward) = back {
            let borrower = self.tickets.remove(&onward.to).unwrap();
            assert_eq!(onward.call, Some(borrower));
            self.out.insert(borrower, (place, onward.loan, run));
        }
        self.settle();
    }

    fn dies(&mut self, run: Run) {
        let place = self.books.places.iter().position(|it| {
            it.desk == Some(run) && matches!(it.state, State::Idle | State::Out(()))
        });
        let place = place.unwrap();
        let life = self.books.places[place].life;
        self.out.retain(|_, (_, _, it)| *it != run);
        if self.books.begin(place, life) {
            let run = self.run();
            assert!(self.books.up(place, life, run, None, self.now));
        } else {
            self.books.gone(place, life);
        }
        self.settle();
    }

    fn leaves(&mut self, borrower: usize) {
        let ticket = self.tickets.iter().find(|(_, it)| **it == borrower);
        let ticket = *ticket.unwrap().0;
        self.tickets.remove(&ticket);
        self.books.leave(ticket, self.now);
        self.settle();
    }
}

#[derive(Clone, Debug)]
enum Deed {
    Checkout,
    Checkin(Index),
    Dies(Index),
    Leaves(Index),
}

fn deed() -> impl Strategy<Value = Deed> {
    let index = any::<Index>;
    prop_oneof![
        4 => Just(Deed::Checkout),
        3 => index().prop_map(Deed::Checkin),
        1 => index().prop_map(Deed::Dies),
        1 => index().prop_map(Deed::Leaves),
    ]
}

/// What happens outside, in any order and as late as it likes.
#[derive(Clone, Debug)]
enum Step {
    Take(bool),
    Join(bool),
    Late,
    Leave(Index),
    Serve(Index),
    Start(Index),
    FailStart(Index),
    CancelStart(Index),
    Redeem(Index),
    GiveBack(Index, bool, bool),
    Fetch(Index, bool),
    Kill(Index),
    Restart(Index),
    Left(Index),
    Want,
    Pump,
    Resize(usize, usize),
    Sweep,
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<Index>;
    prop_oneof![
        4 => any::<bool>().prop_map(Step::Take),
        3 => prop::bool::weighted(0.3).prop_map(Step::Join),
        1 => Just(Step::Late),
        1 => index().prop_map(Step::Leave),
        3 => index().prop_map(Step::Serve),
        4 => index().prop_map(Step::Start),
        1 => index().prop_map(Step::FailStart),
        1 => index().prop_map(Step::CancelStart),
        3 => index().prop_map(Step::Redeem),
        4 => (index(), prop::bool::weighted(0.2), any::<bool>())
            .prop_map(|(at, unfit, reached)| Step::GiveBack(at, unfit, reached)),
        3 => (index(), prop::bool::weighted(0.3)).prop_map(|(at, leaves)| Step::Fetch(at, leaves)),
        1 => index().prop_map(Step::Kill),
        3 => index().prop_map(Step::Restart),
        2 => index().prop_map(Step::Left),
        2 => Just(Step::Want),
        2 => Just(Step::Pump),
        1 => (0_usize..4, 0_usize..3).prop_map(|(size, more)| Step::Resize(size, more)),
        1 => Just(Step::Sweep),
        1 => Just(Step::Settle),
    ]
}

/// Somebody who waits, as the outside knows it.
struct Waiter {
    ticket: u64,
    number: usize,
    wait: Wait,
    /// It was called, and has not looked since.
    is_called: bool,
}

/// The outside of a machine, as slow as it may be.
struct Slow {
    books: Books,
    alive: RefCell<BTreeSet<Run>>,
    runs: usize,
    now: Moment,
    waiters: Vec<Waiter>,
    joined: usize,
    /// Rights to start, in the hands of borrowers.
    claims: Vec<(usize, u64)>,
    /// Lives that the supervisor knows, and the run of each.
    lives: BTreeMap<(usize, u64), Option<Run>>,
    leaving: Vec<(usize, u64)>,
    out: Vec<(usize, u64, Run)>,
    /// What was lent to who waited and has not fetched it yet.
    on_their_way: Vec<(Waiter, Moment, (usize, u64, Run))>,
}

impl Slow {
    fn alive(&self) -> impl Fn(&Run) -> bool + use<> {
        let alive = self.alive.borrow().clone();
        move |run| alive.contains(run)
    }

    fn take(&mut self, take: Take<Run, ()>) -> bool {
        match take {
            Take::Worker(lent) => {
                assert!(
                    self.alive.borrow().contains(&lent.desk),
                    "a dead worker was lent"
                );
                let on_their_way = self.on_their_way.iter().map(|(_, _, loan)| loan);
                let mut lent_already = self.out.iter().chain(on_their_way);
                let twice = lent_already.any(|(_, _, run)| *run == lent.desk);
                assert!(!twice, "a worker was lent twice");
                self.out.push((lent.place, lent.loan, lent.desk));
                true
            }
            Take::Start { place, life } => {
                self.claims.push((place, life));
                self.lives.insert((place, life), None);
                true
            }
            Take::Wait(()) => false,
        }
    }

    /// Starts or restarts the worker of a life.
    fn bring_up(&mut self, place: usize, life: u64) {
        if !self.books.begin(place, life) {
            self.forget(place, life);
            return;
        }
        self.runs += 1;
        self.alive.borrow_mut().insert(self.runs);
        if self.books.up(place, life, self.runs, None, self.now) {
            self.lives.insert((place, life), Some(self.runs));
        } else {
            self.alive.borrow_mut().remove(&self.runs);
            self.forget(place, life);
        }
    }

    fn forget(&mut self, place: usize, life: u64) {
        if let Some(Some(run)) = self.lives.remove(&(place, life)) {
            self.alive.borrow_mut().remove(&run);
        }
        self.books.gone(place, life);
    }

    fn do_effects(&mut self) {
        let Some(effects) = self.books.effects() else {
            return;
        };
        for number in effects.calls {
            for it in self.waiters.iter_mut().filter(|it| it.number == number) {
                assert!(!it.is_called, "called twice for one look");
                it.is_called = true;
            }
        }
        for Ending {
            place,
            life,
            desk,
            how,
        } in endings(effects.rest)
        {
            self.alive.borrow_mut().remove(&desk);
            if how == How::Dismiss {
                self.lives.remove(&(place, life));
                self.leaving.push((place, life));
            }
        }
    }

    fn give_back(&mut self, (place, loan, run): (usize, u64, Run), unfit: bool, reached: bool) {
        let condition = match (self.is_alive(run), unfit) {
            (false, _) => Condition::Dead,
            (true, true) => Condition::Unfit,
            (true, false) => Condition::Fit,
        };
        let (books, now) = (&mut self.books, self.now);
        let reach = |ticket| reached.then_some(ticket);
        let (back, _) = books.give_back((place, loan), 0, now, |_| condition, reach, |()| now);
        if let Back::Lent(onward) = back {
            let mut waiter = self.waiters.remove(0);
            assert_eq!(waiter.ticket, onward.to, "not the first");
            assert!(onward.call.is_some() || waiter.is_called, "nobody calls it");
            assert_eq!(condition, Condition::Fit, "it is not in order");
            waiter.is_called = true;
            self.on_their_way
                .push((waiter, onward.since, (place, onward.loan, run)));
        }
    }

    /// Somebody looks, called or not, whether it was given something.
    fn serve(&mut self, at: usize) {
        let (ticket, number) = (self.waiters[at].ticket, self.waiters[at].number);
        let take = self.books.serve(ticket, self.alive(), |()| {});
        if self.take(take) {
            self.waiters.remove(at);
            return;
        }
        match self.books.waits_on(ticket, |it| *it = Some(number)) {
            Look::Waits => self.waiters[at].is_called = false,
            Look::Late => {
                assert!(
                    self.waiters[at].wait.deadline <= self.now,
                    "given up too early"
                );
                self.waiters.remove(at);
                assert!(self.books.leave(ticket, self.now).is_some());
            }
            Look::Gone => panic!("it is not in the queue"),
        }
    }

    /// Somebody fetches what it was lent while it waited, or leaves without it.
    fn fetch(&mut self, at: usize, leaves: bool) {
        let (waiter, lent_at, loan) = self.on_their_way.remove(at);
        let Waiter { ticket, wait, .. } = waiter;
        let look = self.books.waits_on(ticket, |_| panic!("it does not wait"));
        assert_eq!(look, Look::Gone);
        if !leaves && self.is_alive(loan.2) {
            self.out.push(loan);
            return;
        }
        self.books.note_unused(lent_at.since(wait.since));
        self.give_back(loan, false, true);
        self.do_effects();
        if leaves {
            assert!(self.books.leave(ticket, self.now).is_none());
            return;
        }
        self.books.rejoin(ticket, wait, ());
        let at = self.waiters.partition_point(|it| it.ticket < ticket);
        self.waiters.insert(at, waiter);
        self.serve(at);
    }

    fn is_alive(&self, run: Run) -> bool {
        self.alive.borrow().contains(&run)
    }

    fn is_down(&self, run: Option<Run>) -> bool {
        run.is_none_or(|run| !self.alive.borrow().contains(&run))
    }

    fn step(&mut self, step: &Step) {
        let now = self.now;
        match step {
            Step::Take(startable) => {
                let take = self.books.take(0, (), self.alive(), || *startable);
                self.take(take);
            }
            Step::Join(for_a_while) => {
                let take = self.books.take(0, (), self.alive(), || false);
                if !self.take(take) {
                    let deadline = match for_a_while {
                        true => now.after(Duration::from_secs(6)),
                        false => Moment::NEVER,
                    };
                    self.joined += 1;
                    let number = self.joined;
                    let wait = Wait {
                        since: now,
                        deadline,
                    };
                    let ticket = self.books.join(Some(4), wait, (), || number);
                    self.waiters.extend(ticket.map(|ticket| Waiter {
                        ticket,
                        number,
                        wait,
                        is_called: false,
                    }));
                }
            }
            Step::Late => {
                let next = self.books.find_late(now);
                self.do_effects();
                for it in &self.waiters {
                    assert!(it.wait.deadline > now || it.is_called, "late, and not told");
                    assert!(
                        it.wait.deadline <= now || it.wait.deadline >= next,
                        "looked for too late"
                    );
                }
            }
            Step::Leave(at) => {
                if let Some(at) = pick(at, 0..self.waiters.len()) {
                    assert!(
                        self.books
                            .leave(self.waiters.remove(at).ticket, now)
                            .is_some()
                    );
                }
            }
            Step::Serve(at) => {
                if let Some(at) = pick(at, 0..self.waiters.len()) {
                    self.serve(at);
                }
            }
            Step::Start(at) | Step::Restart(at) => {
                let down = self.lives.iter().filter(|(_, run)| self.is_down(**run));
                let life = pick(at, down.map(|(life, _)| *life));
                if let Some((place, life)) = life {
                    self.bring_up(place, life);
                }
            }
            Step::FailStart(at) => {
                let fresh = self.lives.iter().filter(|(_, run)| run.is_none());
                let life = pick(at, fresh.map(|(life, _)| *life));
                if let Some((place, life)) = life {
                    self.forget(place, life);
                }
            }
            Step::CancelStart(at) => {
                if let Some(at) = pick(at, 0..self.claims.len()) {
                    let (place, life) = self.claims.remove(at);
                    let asked = self.lives.contains_key(&(place, life));
                    self.books.cancel_start(place, life, asked, now);
                }
            }
            Step::Redeem(at) => {
                let up = |(_, claim): &(usize, &(usize, u64))| {
                    self.lives.get(claim).is_none_or(Option::is_some)
                };
                let up = self.claims.iter().enumerate().filter(up).map(|(at, _)| at);
                if let Some(at) = pick(at, up) {
                    let (place, life) = self.claims.remove(at);
                    let take = self.books.redeem(place, life, (), self.alive());
                    self.take(take);
                }
            }
            Step::GiveBack(at, unfit, reached) => {
                if let Some(at) = pick(at, 0..self.out.len()) {
                    let loan = self.out.remove(at);
                    self.give_back(loan, *unfit, *reached);
                }
            }
            Step::Fetch(at, leaves) => {
                if let Some(at) = pick(at, 0..self.on_their_way.len()) {
                    self.fetch(at, *leaves);
                }
            }
            Step::Kill(at) => {
                let run = pick(at, self.alive.borrow().iter().copied());
                if let Some(run) = run {
                    self.alive.borrow_mut().remove(&run);
                }
            }
            Step::Left(at) => {
                if let Some(at) = pick(at, 0..self.leaving.len()) {
                    let (place, life) = self.leaving.remove(at);
                    self.books.left(place, life);
                }
            }
            Step::Want => {
                if let Some(life) = self.books.want() {
                    self.lives.insert(life, None);
                }
            }
            Step::Pump => self.books.pump(),
            Step::Resize(size, more) => self.books.resize(*size, *more),
            Step::Sweep => {
                self.now = self.now.after(Duration::from_secs(4));
                self.books.sweep(self.now);
            }
            Step::Settle => {
                self.books.settle();
                self.alive.borrow_mut().clear();
                self.leaving.clear();
                for (place, life) in std::mem::take(&mut self.lives).into_keys() {
                    self.books.gone(place, life);
                }
            }
        }
        self.do_effects();
    }

    fn check(&self) {
        let books = &self.books;
        let count =
            |is: fn(&State<()>) -> bool| books.places.iter().filter(|it| is(&it.state)).count();
        let down = count(|it| matches!(it, State::Down));
        let empty = count(|it| matches!(it, State::Vacant | State::Leaving { .. }));
        assert_eq!(books.down, down);
        assert_eq!(books.out, count(|it| matches!(it, State::Out(()))));
        assert_eq!(books.idle.len(), count(|it| matches!(it, State::Idle)));
        assert_eq!(books.live, books.places.len() - empty);
        assert!(
            books.idle.is_empty() || books.unserved() == 0,
            "somebody waits beside an idle worker"
        );
        assert!(
            books.handed.len() <= books.queue.len(),
            "something is kept for nobody"
        );
        for (position, it) in self.waiters.iter().enumerate() {
            assert_eq!(it.ticket, books.queue[position].ticket, "out of order");
            assert!(
                position >= books.handed.len() || it.is_called,
                "something is there for one who was not called"
            );
        }
    }

    /// Lets everything outside come to its end, and everybody give back and go.
    fn wind_up(&mut self) {
        for _ in 0..100 {
            for (place, life) in std::mem::take(&mut self.claims) {
                let asked = self.lives.contains_key(&(place, life));
                self.books.cancel_start(place, life, asked, self.now);
            }
            for (place, life) in std::mem::take(&mut self.leaving) {
                self.books.left(place, life);
            }
            for waiter in std::mem::take(&mut self.waiters) {
                assert!(self.books.leave(waiter.ticket, self.now).is_some());
            }
            while !self.on_their_way.is_empty() {
                self.fetch(0, true);
            }
            for loan in std::mem::take(&mut self.out) {
                self.give_back(loan, false, false);
            }
            let down = self.lives.iter().filter(|(_, run)| self.is_down(**run));
            for (place, life) in down.map(|(life, _)| *life).collect::<Vec<_>>() {
                self.bring_up(place, life);
            }
            while let Some(life) = self.books.want() {
                self.lives.insert(life, None);
            }
            self.now = self.now.after(Duration::from_secs(60));
            self.books.sweep(self.now);
            self.do_effects();
            self.check();
        }
    }
}

#[test]
fn what_was_meant_for_one_that_leaves_goes_to_the_first_who_has_nothing() {
    let mut books: Books = Machine::new(&config(2, 0, true, true));
    let now = Moment::default();
    while let Some((place, life)) = books.want() {
        assert!(books.up(place, life, place, None, now));
    }
    let mut lent = Vec::new();
    while let Take::Worker(worker) = books.take(0, (), |_| true, || true) {
        lent.push(worker);
    }
    let tickets: Vec<u64> = (0..3)
        .map(|number| books.join(None, FOREVER, (), || number).unwrap())
        .collect();
    for worker in &lent {
        give_back(&mut books, (worker.place, worker.loan), 0, now);
    }
    assert_eq!(books.effects().unwrap().calls, [0, 1]);
    books.leave(tickets[0], now);
    assert_eq!(books.effects().unwrap().calls, [2]);
    let mut serve = |ticket| match books.serve(ticket, |_| true, |()| {}) {
        Take::Worker(worker) => Some(worker.desk),
        _ => None,
    };
    assert_eq!(serve(tickets[1]), Some(1), "its own stays its own");
    assert_eq!(serve(tickets[2]), Some(0));
}

#[test]
fn who_waits_once_more_is_not_called_for_what_it_finds_at_once() {
    let mut books: Books = Machine::new(&config(2, 0, true, true));
    let now = Moment::default();
    while let Some((place, life)) = books.want() {
        assert!(books.up(place, life, place, None, now));
    }
    let lent = [0, 1].map(|_| match books.take(0, (), |_| true, || true) {
        Take::Worker(worker) => (worker.place, worker.loan),
        other => panic!("{other:?}"),
    });
    let ticket = books.join(None, FOREVER, (), || 7).unwrap();
    let fit = |_: &Run| Condition::Fit;
    let back = books.give_back(lent[0], 0, now, fit, Some, |()| now);
    let (Back::Lent(onward), _) = back else {
        panic!("{back:?}");
    };
    assert_eq!((onward.to, onward.call), (ticket, Some(7)));
    give_back(&mut books, lent[1], 0, now);

    // What it was lent has died on the way.
    let dead = |_: &Run| Condition::Dead;
    books.give_back((0, onward.loan), 0, now, dead, |_| None::<()>, |()| now);
    books.rejoin(ticket, FOREVER, ());
    assert!(books.effects().is_none());
    let take = books.serve(ticket, |_| true, |()| {});
    assert!(matches!(take, Take::Worker(worker) if worker.desk == 1));
}

#[test]
fn a_thread_is_given_the_worker_that_came_back_on_it_last() {
    let now = Moment::default();
    let take = |books: &mut Books, lane| match books.take(lane, (), |_| true, || true) {
        Take::Worker(worker) => worker,
        other => panic!("{other:?}"),
    };
    let fit = |books: &mut Books, worker: Lent<Run>, lane| {
        give_back(books, (worker.place, worker.loan), lane, now);
    };
    for (fifo, expected) in [(false, [2, 1, 2, 2, 1]), (true, [0, 1, 2, 0, 1])] {
        let mut books: Books = Machine::new(&config(3, 0, fifo, true));
        while let Some((place, life)) = books.want() {
            assert!(books.up(place, life, place, None, now));
        }
        // Two threads lend side by side, and take turns.
        let (one, other) = (take(&mut books, 1), take(&mut books, 2));
        let mut lent = vec![one.desk, other.desk];
        fit(&mut books, one, 1);
        fit(&mut books, other, 2);
        let one = take(&mut books, 1);
        lent.push(one.desk);
        fit(&mut books, one, 2);
        // None came back on this one.
        let rest = [take(&mut books, 3), take(&mut books, 3)];
        lent.extend(rest.map(|it| it.desk));
        assert_eq!(lent, expected);
    }
}

proptest! {
    /// With an outside that does everything at once the machine is poolboy.
    #[test]
    fn books_agree_with_a_plain_model(
        size in 0_usize..4,
        max_overflow in 0_usize..3,
        fifo in any::<bool>(),
        is_direct in any::<bool>(),
        deeds in prop::collection::vec(deed(), 1..80),
    ) {
        let mut machine = Prompt::new(&config(size, max_overflow, fifo, true), is_direct);
        let mut model = Poolboy { fifo, max_overflow, ..Poolboy::default() };
        for _ in 0..size {
            let run = model.start();
            model.idle.push_back(run);
        }
        let mut borrowers = 0;
        for deed in deeds {
            match deed {
                Deed::Checkout => {
                    borrowers += 1;
                    machine.checkout(borrowers);
                    model.checkout(borrowers);
                }
                Deed::Checkin(at) => {
                    if let Some(borrower) = pick(&at, model.out.keys().copied()) {
                        machine.checkin(borrower);
                        let run = model.out.remove(&borrower).unwrap();
                        model.free(run);
                    }
                }
                Deed::Dies(at) => {
                    let all = model.idle.iter().chain(model.out.values()).copied();
                    if let Some(run) = pick(&at, all) {
                        machine.dies(run);
                        model.dies(run);
                    }
                }
                Deed::Leaves(at) => {
                    if let Some(borrower) = pick(&at, model.waiting.iter().copied()) {
                        machine.leaves(borrower);
                        model.waiting.retain(|it| *it != borrower);
                    }
                }
            }
            let books = &machine.books;
            let idle: Vec<Run> = books.idle.iter().filter_map(|it| books.places[it.place()].desk).collect();
            prop_assert_eq!(idle, Vec::from(model.idle.clone()));
            let out: BTreeMap<usize, Run> = machine.out.iter().map(|(who, it)| (*who, it.2)).collect();
            prop_assert_eq!(&out, &model.out);
            let waiting: Vec<usize> = machine.tickets.values().copied().collect();
            prop_assert_eq!(waiting, Vec::from(model.waiting.clone()));
            let status = books.status(|_| true);
            prop_assert_eq!(status.overflow, model.overflow);
            prop_assert_eq!((status.in_use, status.idle), (model.out.len(), model.idle.len()));
            prop_assert_eq!((status.down, status.waiting), (0, model.waiting.len()));
        }
    }

    /// Whatever happens outside, in any order, nothing is lent twice or lost, and nobody waits in vain.
    #[test]
    fn books_stay_right_with_a_slow_outside(
        size in 0_usize..4,
        max_overflow in 0_usize..3,
        fifo in any::<bool>(),
        returned in any::<bool>(),
        ttl in any::<bool>(),
        steps in prop::collection::vec(step(), 1..150),
    ) {
        let mut config = config(size, max_overflow, fifo, returned);
        if ttl {
            config = config.overflow_ttl(Duration::from_secs(7));
        }
        let mut it = Slow {
            books: Machine::new(&config),
            alive: RefCell::default(),
            runs: 0,
            now: Moment::default(),
            waiters: Vec::new(),
            joined: 0,
            claims: Vec::new(),
            lives: BTreeMap::new(),
            leaving: Vec::new(),
            out: Vec::new(),
            on_their_way: Vec::new(),
        };
        for step in &steps {
            it.step(step);
            it.check();
        }
        it.wind_up();
        let status = it.books.status(it.alive());
        prop_assert_eq!((status.idle, status.in_use), (status.size, 0), "{:?}", status);
        prop_assert_eq!((status.down, status.overflow, status.waiting), (0, 0, 0));
        prop_assert_eq!(it.alive.borrow().len(), status.size, "a worker was left over");
        // And it still lends all it has, and no more.
        let mut lent = 0;
        while let Take::Worker(_) | Take::Start { .. } = it.books.take(0, (), it.alive(), || true) {
            lent += 1;
        }
        prop_assert_eq!(lent, status.size + status.max_overflow);
    }
}
