use std::hash::Hash;
use std::time::Duration;

use perennial_lifecycle::ActorName;
use perennial_rate_limit::{GateLimiter, Quota, RateGate};
use perennial_registry::{Gate, GateRefused, SenderKey};

/// A quota before a name: the registry asks, the rate gate answers.
pub(crate) struct NameGate(GateLimiter);

impl NameGate {
    pub(crate) fn new(gate: &RateGate, name: &ActorName, quota: Quota) -> Self {
        Self(gate.limiter(&format!("name:{name}"), quota))
    }

    fn check<K: Hash + Eq + 'static>(&self, key: &K) -> Result<(), GateRefused> {
        let decision = self.0.check(key);
        if decision.is_allowed() {
            return Ok(());
        }
        Err(GateRefused {
            // A quota of zero never admits anything.
            retry_after: decision.retry_after().unwrap_or(Duration::MAX),
        })
    }
}

impl Gate for NameGate {
    fn admit(&self) -> Result<(), GateRefused> {
        self.check(&())
    }

    fn admit_for(&self, key: SenderKey) -> Result<(), GateRefused> {
        self.check(&key)
    }
}
