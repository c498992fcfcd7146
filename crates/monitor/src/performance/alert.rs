use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::Serialize;

use super::{AlertRule, Metric, Severity, Window};
use crate::duration;

/// A rule that a service has crossed.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Alert {
    /// The rule's name.
    pub rule: String,
    /// The service.
    pub service: String,
    /// How serious it is.
    pub severity: Severity,
    /// What was looked at.
    pub metric: Metric,
    /// Over which window.
    pub window: Window,
    /// The value that had to be crossed.
    pub threshold: f64,
    /// The value that crossed it.
    pub value: f64,
    /// When, counted from the monitor's creation, in seconds when serialized.
    #[serde(serialize_with = "duration::seconds::serialize")]
    pub raised: Duration,
}

/// A change in the list of alerts.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AlertEvent {
    /// The value crossed its threshold.
    Raised(Alert),
    /// The value came back, or nothing is left to judge.
    Cleared(Alert),
}

/// The alerts that are raised.
#[derive(Debug, Default)]
pub(crate) struct AlertBook {
    rules: Vec<AlertRule>,
    /// By rule, then by service.
    raised: BTreeMap<(String, Arc<str>), Alert>,
}

impl AlertBook {
    pub(crate) fn new(rules: Vec<AlertRule>) -> Self {
        Self {
            rules,
            raised: BTreeMap::new(),
        }
    }

    pub(crate) fn rules(&self) -> &[AlertRule] {
        &self.rules
    }

    /// Replaces the rules; alerts of rules that are gone or changed are cleared.
    pub(crate) fn set_rules(&mut self, rules: Vec<AlertRule>) -> Vec<AlertEvent> {
        let before = std::mem::replace(&mut self.rules, rules);
        let kept = |name: &str| {
            let find = |rules: &[AlertRule]| rules.iter().find(|rule| rule.name() == name).cloned();
            find(&before) == find(&self.rules)
        };
        let gone = self.raised.extract_if(.., |(rule, _), _| !kept(rule));
        gone.map(|(_, alert)| AlertEvent::Cleared(alert)).collect()
    }

    /// Judges one value of one service by one rule. `None` is nothing to judge.
    pub(crate) fn judge(
        &mut self,
        rule: &AlertRule,
        service: &Arc<str>,
        value: Option<f64>,
        now: Duration,
    ) -> Option<AlertEvent> {
        if !self.rules.contains(rule) {
            // Replaced since it was read: what it raised is cleared, and must stay so.
            return None;
        }
        let key = (rule.name().to_owned(), Arc::clone(service));
        if self.raised.contains_key(&key) {
            if value.is_none_or(|value| rule.cleared(value)) {
                return self.raised.remove(&key).map(AlertEvent::Cleared);
            }
            return None;
        }
        let value = value.filter(|value| rule.crossed(*value))?;
        let alert = Alert {
            rule: rule.name().to_owned(),
            service: service.as_ref().to_owned(),
            severity: rule.severity(),
            metric: rule.metric(),
            window: rule.window(),
            threshold: rule.threshold(),
            value,
            raised: now,
        };
        self.raised.insert(key, alert.clone());
        Some(AlertEvent::Raised(alert))
    }

    /// Clears what is raised for a service that is no longer watched.
    pub(crate) fn forget(&mut self, service: &str) -> Vec<AlertEvent> {
        let gone = self
            .raised
            .extract_if(.., |(_, of), _| of.as_ref() == service);
        gone.map(|(_, alert)| AlertEvent::Cleared(alert)).collect()
    }

    /// The most serious first, then the oldest.
    pub(crate) fn list(&self, of: impl Fn(&Alert) -> bool) -> Vec<Alert> {
        let mut alerts: Vec<_> = self
            .raised
            .values()
            .filter(|alert| of(alert))
            .cloned()
            .collect();
        alerts.sort_by(|a, b| b.severity.cmp(&a.severity).then(a.raised.cmp(&b.raised)));
        alerts
    }
}

#[cfg(test)]
mod tests;
