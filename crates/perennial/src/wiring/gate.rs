use perennial_lifecycle::ActorName;
use perennial_rate_limit::{GateLimiter, Quota, RateGate};
use perennial_registry::{Gate, GateRefused, SenderKey};

/// A quota before a name: the registry asks, the rate gate answers.
pub(crate) struct NameGate(GateLimiter);

/// A type of its own, so that no guard's key is ever the same one, whatever the guard's service.
#[derive(PartialEq, Eq, Hash)]
struct SentBy(Option<SenderKey>);

impl NameGate {
    pub(crate) fn new(gate: &RateGate, name: &ActorName, quota: Quota) -> Self {
        Self(gate.limiter(&scope(name), quota))
    }

    fn check(&self, sender: Option<SenderKey>) -> Result<(), GateRefused> {
        let decision = self.0.check(&SentBy(sender));
        if decision.is_allowed() {
            return Ok(());
        }
        Err(GateRefused {
            retry_after: decision.retry_after(),
        })
    }
}

impl Gate for NameGate {
    fn admit(&self) -> Result<(), GateRefused> {
        self.check(None)
    }

    fn admit_for(&self, key: SenderKey) -> Result<(), GateRefused> {
        self.check(Some(key))
    }
}

/// Returns a text for each name, never the same for two: as they are shown, `cache:users` may be a kind and a service
/// or a service alone.
fn scope(name: &ActorName) -> String {
    let part = |text: &str| text.replace('%', "%25").replace(':', "%3A");
    let (kind, service) = (part(name.kind()), part(name.service()));
    if name.kind() == ActorName::HOST {
        format!("name:{service}")
    } else {
        format!("name:{kind}:{service}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_alike_have_quotas_of_their_own() {
        let names = [
            ActorName::host("cache:users"),
            ActorName::host("cache%3Ausers"),
            ActorName::new("cache", "users"),
            ActorName::new("cache:users", ""),
            ActorName::new("", "cache:users"),
        ];
        let gate = RateGate::new();
        let once = Quota::per_hour(1);
        let admits = |name| NameGate::new(&gate, name, once).admit().is_ok();
        assert!(names.iter().all(admits));
        assert!(!names.iter().any(admits));
    }

    #[test]
    fn a_service_that_is_called_like_a_name_has_a_quota_of_its_own() {
        let gate = RateGate::new();
        let once = Quota::per_hour(1);
        let name = NameGate::new(&gate, &ActorName::host("billing"), once);
        let service = gate.limiter("name:billing", once);
        assert!(service.check(&()).is_allowed() && !service.check(&()).is_allowed());
        assert_eq!(name.admit(), Ok(()));
    }

    #[test]
    fn a_quota_of_zero_names_no_time_to_come_back() {
        let closed = NameGate::new(&RateGate::new(), &ActorName::host("a"), Quota::per_hour(0));
        assert_eq!(closed.admit(), Err(GateRefused { retry_after: None }));
    }
}
