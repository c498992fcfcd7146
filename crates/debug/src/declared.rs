//! The debug messages that an operator may send.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use perennial_lifecycle::{ActorName, ActorPath, Incarnation, Undelivered};
use perennial_registry::{Name, Registry};
use ractor::Message;

use crate::nearest::edit_distance;

/// What was declared, in order.
#[derive(Default)]
pub(crate) struct Declarations(Mutex<Vec<Arc<Declaration>>>);

/// One message for one actor, and what operators call it.
pub(crate) struct Declaration {
    target: Target,
    label: Arc<str>,
    find: Find,
    send: SendIt,
}

/// Finds where a named actor lives.
type Find = Box<dyn Fn(&Registry) -> Option<ActorPath> + Send + Sync>;

type SendIt = Box<dyn Fn(&Incarnation) -> Result<(), Undelivered<()>> + Send + Sync>;

#[derive(PartialEq)]
enum Target {
    Name(ActorName),
    Path(ActorPath),
}

impl Declaration {
    pub(crate) fn of_name<M: Message>(
        name: &Name<M>,
        label: &str,
        make: impl Fn() -> M + Send + Sync + 'static,
    ) -> Self {
        let target = Target::Name(name.to_actor_name());
        let name = name.clone();
        let find = move |names: &Registry| names.resolve(&name).ok()?.path();
        Self::new(target, label, Box::new(find), make)
    }

    pub(crate) fn of_path<M: Message>(
        path: &str,
        label: &str,
        make: impl Fn() -> M + Send + Sync + 'static,
    ) -> Self {
        let target = Target::Path(ActorPath::root(path));
        Self::new(target, label, Box::new(|_| None), make)
    }

    fn new<M: Message>(
        target: Target,
        label: &str,
        find: Find,
        make: impl Fn() -> M + Send + Sync + 'static,
    ) -> Self {
        let send = move |run: &Incarnation| {
            run.offer_anyhow(make())
                .map_err(|undelivered| match undelivered {
                    Undelivered::Full(_) | Undelivered::Ended(_) => Undelivered::Ended(()),
                    Undelivered::ShuttingDown(_) => Undelivered::ShuttingDown(()),
                    Undelivered::WrongType(_) => Undelivered::WrongType(()),
                })
        };
        Self {
            target,
            label: label.into(),
            find,
            send: Box::new(send),
        }
    }

    fn place(&self, names: Option<&Registry>) -> Option<ActorPath> {
        match &self.target {
            Target::Name(_) => (self.find)(names?),
            Target::Path(path) => Some(path.clone()),
        }
    }

    pub(crate) fn send(&self, run: &Incarnation) -> Result<(), Undelivered<()>> {
        (self.send)(run)
    }
}

impl Declarations {
    /// Adds one, in place of an earlier one of the same actor and label.
    pub(crate) fn add(&self, new: Declaration) {
        let new = Arc::new(new);
        let mut all = self.lock();
        let same = |it: &Arc<Declaration>| it.target == new.target && it.label == new.label;
        let old = all.iter().position(same).map(|at| all.remove(at));
        // Last: the same actor may be known by its place, too.
        all.push(new);
        drop(all);
        // Foreign code: a function of the host.
        drop(old);
    }

    /// Lists what is declared for each place.
    pub(crate) fn by_place(&self, names: Option<&Registry>) -> HashMap<ActorPath, Vec<Arc<str>>> {
        let mut places: HashMap<ActorPath, Vec<Arc<str>>> = HashMap::new();
        for declaration in self.all() {
            if let Some(path) = declaration.place(names) {
                let labels = places.entry(path).or_default();
                if !labels.contains(&declaration.label) {
                    labels.push(Arc::clone(&declaration.label));
                }
            }
        }
        places
    }

    /// Finds one; failing that, gives the label that was probably meant.
    pub(crate) fn find(
        &self,
        names: Option<&Registry>,
        path: &ActorPath,
        label: &str,
    ) -> Result<Arc<Declaration>, Option<String>> {
        let all = self.all().into_iter();
        let here: Vec<_> = all
            .filter(|it| it.place(names).as_ref() == Some(path))
            .collect();
        if let Some(known) = here.iter().rfind(|it| &*it.label == label) {
            return Ok(Arc::clone(known));
        }
        let letters: Vec<char> = label.chars().collect();
        let bound = (letters.len() / 3).max(2);
        let near = here.iter().filter_map(|it| {
            let other: Vec<char> = it.label.chars().collect();
            let distance = edit_distance(&letters, &other);
            (distance <= bound).then_some((distance, it))
        });
        let nearest = near.min_by_key(|(distance, _)| *distance);
        Err(nearest.map(|(_, it)| it.label.to_string()))
    }

    /// A copy, since what finds a place is not run under the lock.
    fn all(&self) -> Vec<Arc<Declaration>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Declaration>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Declarations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.all();
        f.debug_list()
            .entries(all.iter().map(|it| &it.label))
            .finish()
    }
}
