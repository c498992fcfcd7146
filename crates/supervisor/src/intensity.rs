use std::collections::VecDeque;

use perennial_lifecycle::Moment;

use crate::RestartIntensity;

/// The restarts within a sliding window: a ring of at most `max` moments.
#[derive(Debug)]
pub(crate) struct RestartWindow {
    limit: RestartIntensity,
    recent: VecDeque<Moment>,
}

impl RestartWindow {
    pub(crate) fn new(limit: RestartIntensity) -> Self {
        Self {
            limit,
            recent: VecDeque::new(),
        }
    }

    /// Allows another number of restarts from now on.
    pub(crate) fn set_max(&mut self, max: u32) {
        self.limit = RestartIntensity::new(max, self.limit.period());
    }

    /// Forgets all restarts.
    pub(crate) fn clear(&mut self) {
        self.recent.clear();
    }

    /// Notes a restart at `now`; `false` when it is one too many. A restart exactly `period` old counts.
    pub(crate) fn allow(&mut self, now: Moment) -> bool {
        let max = usize::try_from(self.limit.max()).unwrap_or(usize::MAX);
        let period = self.limit.period();
        while let Some(oldest) = self.recent.front() {
            if now <= oldest.after(period) {
                break;
            }
            self.recent.pop_front();
        }
        if self.recent.len() >= max {
            return false;
        }
        self.recent.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The ring admits exactly what a list of all restarts admits.
        #[test]
        fn ring_agrees_with_the_list_of_all_restarts(
            max in 0_u32..6,
            period in 1_u64..50,
            steps in proptest::collection::vec(0_u64..30, 1..80),
        ) {
            let period = Duration::from_millis(period);
            let mut window = RestartWindow::new(RestartIntensity::new(max, period));
            let mut all: Vec<Moment> = Vec::new();
            let mut now = Moment::default();
            for step in steps {
                now = now.after(Duration::from_millis(step));
                all.push(now);
                let within = all.iter().filter(|at| now.since(**at) <= period).count();
                let expected = within <= max as usize;
                prop_assert_eq!(window.allow(now), expected);
                if !expected {
                    // A refused restart ends the supervisor; the model forgets it as the ring does.
                    all.pop();
                }
            }
        }
    }
}
